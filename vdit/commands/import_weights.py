"""Take in what others have published: a whole release, or a codec alone.

    python -m vdit import --from Wan2.1-T2V-1.3B --to models/wan_1_3b
    python -m vdit import --from Wan2.1_VAE.pth --codec configs/codec/wan_2_1.yaml --to runs/wan_2_1_vae
    python -m vdit import --from path/to/diffusers/vae --to runs/wan_2_1_vae

A release is a folder in its authors' layout or in that of diffusers. Weights are safetensors in one file or
several, or torch pickles, which are read without running anything in them.
"""

from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vdit.types import InputError

if TYPE_CHECKING:
    from vdit.codecs.codec import VideoCodec
    from vdit.weights.keymap import Shapes

__all__ = ["main"]

CODECS = {16: "wan_2_1", 48: "wan_2_2"}
"""By latent channels: those of the authors' releases, whose codecs come without a configuration."""


def main(arguments: Sequence[str]) -> int:
    """Import; 0 when the folder is written."""
    options = _parser().parse_args(arguments)

    from vdit.releases.found import is_release

    if Path(options.source).is_dir() and is_release(Path(options.source)):
        return _release(options)
    return _codec(options)


def _parser() -> ArgumentParser:
    parser = ArgumentParser(prog="vdit import", description=(__doc__ or "").split("\n")[0])
    parser.add_argument(
        "--from", dest="source", required=True, help="folder of a release, or weights of a codec"
    )
    parser.add_argument("--to", required=True, help="folder to write")
    parser.add_argument("--codec", help="YAML of configs/codec; default: the config.json beside the weights")
    parser.add_argument(
        "--layout", choices=("original", "diffusers"), help="of a codec; default: by its names"
    )
    parser.add_argument(
        "--recipe",
        help="YAML of configs/sample; default: what the release says, and that of its variant for the rest",
    )
    parser.add_argument(
        "--resolution", choices=("480p", "720p"), help="of what is sampled; default: what the release is for"
    )
    return parser


def _release(options: Namespace) -> int:
    from rich.console import Console

    from vdit.progress import StageBars
    from vdit.releases.found import find_release
    from vdit.releases.release import read_release
    from vdit.releases.settings import RECIPE, settled_recipe
    from vdit.releases.take_in import take_in
    from vdit.sample.sampler import Sampling

    found = find_release(Path(options.source))
    release = read_release(found, _codec_of(options.codec))
    chosen, kept = options.recipe is not None, found.folder / RECIPE
    recipe = _recipe(options.recipe or (str(kept) if kept.is_file() else None), release.variant)
    own_size = not chosen and kept.is_file()
    settled = settled_recipe(release, recipe, chosen, options.resolution, own_size)
    Sampling(**settled.sampling)  # which refuses what could not be sampled
    with StageBars(Console()) as bars:

        def show(part: str, done: int, total: int) -> None:
            bars.show(f"taking in {part}, MiB", done // 2**20, max(1, total // 2**20))

        report = take_in(release, Path(options.to), settled, show)
    for name, part in report["parts"].items():
        left = f", {len(part['left_out'])} left out" if part["left_out"] else ""
        millions, kinds = part["weights"] / 1e6, ", ".join(part["dtypes"])
        print(f"{name:10s} {millions:10.1f} M weights, {kinds}, {part['file']}{left}")
    for note in settled.notes:
        print(note)
    print(f"{report['variant']} in the {report['layout']} layout, now in {options.to}. {report['licence']}.")
    return 0


def _codec_of(config: str | None) -> Callable[["Shapes"], "VideoCodec"]:
    def built(shapes: "Shapes") -> "VideoCodec":
        from vdit.commands.shipped import shipped
        from vdit.config import build_codec

        if config is not None:
            return build_codec(Path(config))
        channels = shapes.get("conv2.weight", (0,))[0]
        if channels not in CODECS:
            raise InputError("the codec is none that Wan published: say which it is with --codec")
        return build_codec(shipped(f"codec/{CODECS[channels]}.yaml", "--codec"))

    return built


def _recipe(file: str | None, variant: str) -> Mapping[str, Any]:
    """The recipe of a variant, or of a file, which may leave frames, size and rate to that of the variant."""
    from vdit.commands.shipped import shipped
    from vdit.config import read_sampling
    from vdit.sample.sampler import FORMAT

    authors = read_sampling(shipped(f"sample/{variant}.yaml", "--recipe"))
    if file is None:
        return authors
    recipe = read_sampling(Path(file))
    return recipe | {name: authors[name] for name in FORMAT if recipe[name] is None}


def _codec(options: Namespace) -> int:
    weights, out = Path(options.source), Path(options.to)

    from vdit.codecs.folder import holds_codec, save_codec
    from vdit.codecs.published import import_codec, import_facts
    from vdit.weights.source import open_weights

    if holds_codec(out):
        raise InputError(f"{out} holds a codec already: give another --to")
    source = open_weights(weights)
    codec = _codec_beside(options.codec, weights)
    layout = import_codec(codec, source, options.layout)
    save_codec(codec, out, import_facts(source, layout))
    count = sum(p.numel() for p in codec.parameters())
    print(f"{count / 1e6:.1f} M weights in the {layout} layout, now in {out}")
    return 0


def _codec_beside(config: str | None, weights: Path) -> "VideoCodec":
    from vdit.codecs.published import codec_of_config
    from vdit.config import build_codec
    from vdit.releases.found import read_table

    if config is not None:
        return build_codec(Path(config))
    file = (weights if weights.is_dir() else weights.parent) / "config.json"
    if not file.is_file():
        raise InputError(f"there is no config.json beside {weights}: say which codec it is with --codec")
    return codec_of_config(read_table(file), str(file))
