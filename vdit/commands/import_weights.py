"""Take in weights that others have published, and keep them as a codec of this project.

    python -m vdit import --config configs/codec/wan_2_1.yaml --weights Wan2.1_VAE.pth --out runs/wan_2_1_vae
    python -m vdit import --weights path/to/diffusers/vae --out runs/wan_2_1_vae

Weights are a file or a folder: safetensors in one file or several, or a torch pickle, which is read without
running anything in it. Where a `config.json` lies beside them, no --config is needed.
"""

import json
from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vdit.types import InputError

if TYPE_CHECKING:
    from vdit.codecs.codec import VideoCodec

__all__ = ["main"]


def main(arguments: Sequence[str]) -> int:
    """Import; 0 when the folder is written."""
    options = _parser().parse_args(arguments)
    weights, out = Path(options.weights), Path(options.out)

    from vdit.codecs.folder import holds_codec, save_codec
    from vdit.codecs.published import import_codec
    from vdit.weights.source import open_weights

    if holds_codec(out):
        raise InputError(f"{out} holds a codec already: give another --out")
    source = open_weights(weights)
    codec = _codec(options.config, weights)
    layout = import_codec(codec, source, options.layout)
    save_codec(codec, out, {"imported": {"file": source.path.name, "layout": layout}})
    count = sum(p.numel() for p in codec.parameters())
    print(f"{count / 1e6:.1f} M weights in the {layout} layout, now in {out}")
    return 0


def _parser() -> ArgumentParser:
    parser = ArgumentParser(prog="vdit import", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--weights", required=True, help="file or folder of published weights")
    parser.add_argument("--config", help="YAML of configs/codec; default: the config.json beside the weights")
    parser.add_argument("--layout", choices=("original", "diffusers"), help="default: by the names found")
    parser.add_argument("--out", required=True, help="folder for the codec")
    return parser


def _codec(config: str | None, weights: Path) -> "VideoCodec":
    from vdit.codecs.published import codec_of_config
    from vdit.config import build_codec

    if config is not None:
        return build_codec(Path(config))
    file = (weights if weights.is_dir() else weights.parent) / "config.json"
    if not file.is_file():
        raise InputError(f"there is no config.json beside {weights}: say which codec it is with --config")
    try:
        read = json.loads(file.read_text())
    except ValueError as error:
        raise InputError(f"{file} is not JSON: {error}") from error
    if not isinstance(read, dict):
        raise InputError(f"{file} holds no table of settings")
    return codec_of_config(read, str(file))
