"""What every command that samples from a run can be told."""

from argparse import ArgumentParser, Namespace

from vdit.types import InputError

__all__ = ["add_sampling_options", "check_sampling_options", "rows_and_columns"]


def add_sampling_options(parser: ArgumentParser) -> None:
    """Add which weights, where, and how to sample."""
    parser.add_argument("--checkpoint", type=int, help="the training step to use, if not the last one saved")
    parser.add_argument("--steps", type=int, help="solver steps")
    parser.add_argument("--guidance", type=float, help="classifier-free guidance by the text; 1 is none")
    parser.add_argument("--guidance-frames", type=float, help="by given frames; 1 is none")
    parser.add_argument("--guidance-camera", type=float, help="by the camera; 1 is none")
    parser.add_argument(
        "--device", default="auto", help="cpu, cuda, cuda:1 ...; default: an accelerator, if any"
    )
    parser.add_argument("--batch", type=int, default=16, help="clips sampled at once")


def check_sampling_options(options: Namespace) -> None:
    """Refuse what no run can follow.

    Raises:
        InputError: no clip at once.
    """
    if options.batch < 1:
        raise InputError(f"--batch {options.batch} must be at least 1")


def rows_and_columns(size: str) -> tuple[int, int]:
    """Height and width of a `--size`.

    Raises:
        InputError: it is not HEIGHTxWIDTH.
    """
    height, _, width = size.lower().partition("x")
    if not (height.isdigit() and width.isdigit()):
        raise InputError(f"--size {size} is not HEIGHTxWIDTH, like 64x64")
    return int(height), int(width)
