"""Write a codec's weights as other tools read them.

    python -m vdit export runs/wan_2_1_vae --layout diffusers --out exported/vae
    python -m vdit export runs/wan_2_1_vae --layout original --out exported/Wan2.1_VAE.pth

`diffusers` writes a folder with `config.json`; `original` the one file that the authors publish.
"""

from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path

from vdit.types import InputError

__all__ = ["main"]


def main(arguments: Sequence[str]) -> int:
    """Export; 0 when the file is written."""
    options = _parser().parse_args(arguments)
    out = Path(options.out)
    if options.layout == "original" and out.suffix not in (".pth", ".pt", ".safetensors"):
        raise InputError(f"--out {out} must be a file for the original layout: .pth, .pt or .safetensors")
    if options.layout == "diffusers" and out.suffix:
        raise InputError(f"--out {out} must be a folder for the diffusers layout")

    from vdit.codecs.folder import load_codec
    from vdit.codecs.published import export_codec

    file = export_codec(load_codec(Path(options.codec)), options.layout, out)
    print(f"{file}")
    return 0


def _parser() -> ArgumentParser:
    parser = ArgumentParser(prog="vdit export", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("codec", help="folder of a codec")
    parser.add_argument("--layout", choices=("original", "diffusers"), required=True)
    parser.add_argument("--out", required=True, help="folder (diffusers) or file (original)")
    return parser
