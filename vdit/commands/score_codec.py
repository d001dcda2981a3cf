"""What a codec makes of your videos: numbers and side-by-side clips.

    python -m vdit score codec --codec configs/codec/flat_24 --videos DIR
    python -m vdit score codec --codec runs/wan_2_1_vae --videos DIR --frames 17 --size 256x256 --memory 4

Writes scores.json, side-by-side mp4s (original left) and a contact sheet.
"""

import json
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vdit.commands.options import rows_and_columns
from vdit.types import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from vdit.data.folder import FolderSource
    from vdit.eval.codec_score import CodecScore
    from vdit.eval.perceptual import PerceptualDistance
    from vdit.types import Clip

__all__ = ["main"]


def main(arguments: Sequence[str]) -> int:
    """Score a codec; 0 when its numbers are written."""
    options = _parser().parse_args(arguments)

    import torch
    from rich.console import Console

    from vdit.codecs.folder import load_codec
    from vdit.codecs.precision import place_codec
    from vdit.codecs.tiling import TiledCodec
    from vdit.data.order import spread
    from vdit.devices import available_device
    from vdit.eval.codec_score import score_codec
    from vdit.progress import StageBars
    from vdit.sample.sheet import SHEET_CLIPS, contact_sheet
    from vdit.sample.video_file import write_video

    console, out = Console(), Path(options.out)
    codec = place_codec(load_codec(Path(options.codec)), available_device(options.device))
    source = _source(options)
    console.print(str(source.report), markup=False)
    codec.check_pixels(*source[0].pixels.shape[1:])
    perceptual = _perceptual(options, console)
    out.mkdir(parents=True, exist_ok=True)
    rows: list[tuple[Tensor, str]] = []
    on_sheet, number = spread(len(source), SHEET_CLIPS // 2, seed=0), count()

    def keep(clip: "Clip", again: "Tensor") -> None:
        beside = torch.cat([clip.pixels, again], dim=3)
        write_video(out / f"{clip.id.replace('/', '_')}.mp4", beside, clip.fps)
        if next(number) in on_sheet:
            rows.extend([(clip.pixels, clip.id), (again, "reconstruction")])

    with StageBars(console) as bars:

        def clips() -> Iterator["Clip"]:
            for i in range(len(source)):
                bars.show("coding clips", i, len(source))
                yield source[i]
            bars.show("coding clips", len(source), len(source))

        score = score_codec(TiledCodec(codec, options.memory), clips(), perceptual, keep)
    contact_sheet(rows, out / "sheet.png")
    _write(score, options, out)
    _print(score, console)
    console.print(f"{out / 'scores.json'}  {out / 'sheet.png'}", soft_wrap=True)
    return 0


def _parser() -> ArgumentParser:
    parser = ArgumentParser(prog="vdit score codec", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--codec", required=True, help="folder of a codec")
    parser.add_argument("--videos", required=True, help="folder of videos and images")
    parser.add_argument("--frames", type=int, default=17, help="of a clip: 1 + 4n for a 4x8x8 codec")
    parser.add_argument("--size", default="128x128", help="HEIGHTxWIDTH of a clip, cut from the middle")
    parser.add_argument("--fps", type=float, help="frames per second; default: each file's own")
    parser.add_argument("--clips", type=int, default=4, help="of each video, spread evenly over its time")
    parser.add_argument(
        "--judge", default="alex", choices=["alex", "vgg", "none"], help="network of ST-LPIPS"
    )
    parser.add_argument(
        "--lpips", metavar="FILE", help="judge by LPIPS instead, on torchvision's VGG-16 in FILE"
    )
    parser.add_argument("--memory", type=float, default=8.0, help="GiB that coding may take, about")
    parser.add_argument("--device", default="auto", help="cpu, cuda ...; default: an accelerator, if any")
    parser.add_argument("--out", default="runs/codec_score", help="folder to write to")
    return parser


def _source(options: Namespace) -> "FolderSource":
    from vdit.data.cut import ClipCut
    from vdit.data.folder import FolderSource

    height, width = rows_and_columns(options.size)
    if options.clips < 1:
        raise InputError(f"--clips {options.clips} must be at least 1")
    cut = ClipCut(
        options.frames,
        height,
        width,
        options.fps,
        windows="even",
        windows_per_video=options.clips,
    )
    return FolderSource(options.videos, cut)


def _perceptual(options: Namespace, console: Any) -> "PerceptualDistance | None":
    from vdit.eval.lpips import LPIPS
    from vdit.eval.perceptual import ShiftTolerantLPIPS

    if options.lpips:
        return LPIPS(options.lpips)
    if options.judge == "none":
        return None
    try:
        return ShiftTolerantLPIPS(options.judge)
    except InputError as error:
        console.print(f"without perceptual scores: {error}")
        return None


def _write(score: "CodecScore", options: Namespace, out: Path) -> None:
    from vdit.train.run_folder import provenance

    here = provenance()
    record = {
        "codec": options.codec,
        "clip": f"{options.frames}x{options.size}",
        "hardware": here["machine"],
        "vdit": here["vdit"],
        "torch": here["torch"],
        "perceptual": score.perceptual_name,
        "frechet_features": score.features_name,
        "mean": score.mean(),
        "frechet": score.frechet,
        "clips": score.clips,
    }
    (out / "scores.json").write_text(json.dumps(record, indent=1) + "\n")


def _print(score: "CodecScore", console: Any) -> None:
    from rich.table import Table

    heads = {"psnr": "PSNR, dB", "ssim": "SSIM", "flicker": "flicker", "perceptual": score.perceptual_name}
    mean = score.mean()
    table = Table(title=f"{len(score.clips)} clips")
    table.add_column("")
    for name in mean:
        table.add_column(heads[name], justify="right")
    digits = {"psnr": 1, "ssim": 3, "flicker": 2, "perceptual": 4}
    for clip, values in [*score.clips.items(), ("mean", mean)]:
        table.add_row(clip, *(f"{value:.{digits[name]}f}" for name, value in values.items()))
    console.print(table)
    if score.frechet is not None:
        console.print(
            f"Fréchet distance {score.frechet:.4g} ({score.features_name}; {len(score.clips)} clips)"
        )
