"""Write a model, a fine-tuned run of one, or a codec as other tools read it, or a run to give to others.

    python -m vdit export --from models/wan_1_3b --layout diffusers --to exported/wan_1_3b
    python -m vdit export --from runs/finetune --layout original --to exported/finetune
    python -m vdit export --from runs/wan_2_1_vae --layout diffusers --to exported/vae
    python -m vdit export --from runs/wan_2_1_vae --layout original --to exported/Wan2.1_VAE.pth
    python -m vdit export --from runs/room --to models/room
    python -m vdit export --from runs/room --layout run --to exported/room

A model becomes a folder; of a run the averaged weights of the last checkpoint are taken. A codec becomes a
folder for `diffusers`, and for `original` the one file that its authors publish. Without a layout a run
becomes a model of this project, as `vdit import` writes one, that `sample.py --model` opens and a run begins
with: it needs nothing of the run, and a LoRA is added to what it is an update of. In the layout `run` any run
becomes a run's folder again, with averaged weights alone, at half precision: `sample.py` and `score` take it.
"""

from argparse import ArgumentParser
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from vdit.types import InputError

__all__ = ["main"]


def main(arguments: Sequence[str]) -> int:
    """Export; 0 when all is written."""
    options = _parser().parse_args(arguments)
    source, out = Path(options.source), Path(options.to)

    from vdit.codecs.folder import holds_codec

    if options.layout == "run":
        return _run(source, out)
    if options.layout == "model":
        return _own_model(source, out)
    if holds_codec(source):
        return _codec(source, out, options.layout)
    return _model(source, out, options.layout)


def _parser() -> ArgumentParser:
    parser = ArgumentParser(prog="vdit export", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--from", dest="source", required=True, help="folder of a model, a run or a codec")
    parser.add_argument("--layout", choices=("model", "original", "diffusers", "run"), default="model")
    parser.add_argument("--to", required=True, help="folder; for a codec in the original layout a file")
    return parser


def _codec(source: Path, out: Path, layout: str) -> int:
    from vdit.codecs.folder import load_codec
    from vdit.codecs.published import export_codec, imported_dtype
    from vdit.commands.trained_weights import refuse_unchanged_codec

    if layout == "original" and out.suffix not in (".pth", ".pt", ".safetensors"):
        raise InputError(f"--to {out} must be a file for the original layout: .pth, .pt or .safetensors")
    if layout == "diffusers" and out.suffix:
        raise InputError(f"--to {out} must be a folder for the diffusers layout")
    refuse_unchanged_codec(source)
    print(f"{export_codec(load_codec(source), layout, out, imported_dtype(source))}")
    return 0


def _model(source: Path, out: Path, layout: str) -> int:
    from rich.console import Console

    from vdit.commands.trained import own_sampling
    from vdit.commands.trained_weights import trained_weights
    from vdit.progress import StageBars
    from vdit.releases.give_out import give_out
    from vdit.sample.sampler import Sampling

    model = trained_weights(source)
    sampling = own_sampling(source) or own_sampling(model.folder) or Sampling()
    with StageBars(Console()) as bars:

        def show(part: str, done: int, total: int) -> None:
            bars.show(f"writing {part}", done, total)

        notes = give_out(model.folder, out, layout, asdict(sampling), show, model.weights)
    for note in notes:
        print(note)
    if model.weights:
        print(f"trained: {', '.join(model.weights)}; all else as in {model.folder}")
    print(f"{out}")
    return 0


def _own_model(source: Path, out: Path) -> int:
    from vdit.codecs.folder import holds_codec
    from vdit.commands.run_weights import RunWeights
    from vdit.releases.own_model import OwnModel, write_model
    from vdit.releases.take_in import DESCRIPTION

    for what, there in (("model", (source / DESCRIPTION).is_file()), ("codec", holds_codec(source))):
        if there:
            raise InputError(f"{source} is a {what} already: give --layout original or diffusers")
    run = RunWeights.of(source)
    title = f"Step {run.checkpoint.step} of the run {source.absolute().name}"
    weights = {role: run.whole(role) for role in run.parts}
    write_model(OwnModel(title, run.arguments, weights, run.folder.codec), out)
    print(f"{out}")
    return 0


def _run(source: Path, out: Path) -> int:
    from vdit.train.shared import share_run
    from vdit.weights.files import digest

    average = share_run(source, out).average
    print(f"{average}  sha256 {digest(average)}")
    return 0
