"""What every command that samples from a run can be told."""

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from vdit.types import InputError

if TYPE_CHECKING:
    from vdit.sample.sampler import SamplingSettings

Settings = TypeVar("Settings", bound="SamplingSettings")

__all__ = ["add_sampling_options", "check_sampling_options", "overridden", "rows_and_columns"]

SETTINGS = (
    "steps",
    "guidance",
    "guidance_frames",
    "guidance_references",
    "guidance_camera",
    "shift",
    "solver",
)
"""What all of these commands can set of `Sampling`."""


def add_sampling_options(parser: ArgumentParser, batch: int | None) -> None:
    """Add which weights, where, and how to sample; `batch` is the default, None is as memory allows."""
    parser.add_argument("--checkpoint", type=int, help="the training step to use, if not the last one saved")
    parser.add_argument("--steps", type=int, help="solver steps")
    parser.add_argument("--guidance", type=float, help="classifier-free guidance by the text; 1 is none")
    parser.add_argument(
        "--guidance-low",
        type=float,
        help="by the text for the low-noise one of two experts; default: --guidance where that is given",
    )
    parser.add_argument("--guidance-frames", type=float, help="by given frames; 1 is none")
    parser.add_argument("--guidance-references", type=float, help="by references; 1 is none")
    parser.add_argument("--guidance-camera", type=float, help="by the camera; 1 is none")
    parser.add_argument("--shift", type=float, help="moves the steps towards noise")
    parser.add_argument("--solver", choices=("euler", "heun", "unipc", "dpm++"))
    parser.add_argument(
        "--device", default="auto", help="cpu, cuda, cuda:1 ...; default: an accelerator, if any"
    )
    usual = "as many as fit into memory, 16 at most" if batch is None else batch
    parser.add_argument("--batch", type=int, default=batch, help=f"clips sampled at once; default: {usual}")


def check_sampling_options(options: Namespace) -> None:
    """Refuse what no run can follow.

    Raises:
        InputError: no clip at once.
    """
    if options.batch is not None and options.batch < 1:
        raise InputError(f"--batch {options.batch} must be at least 1")


def overridden(sampling: Settings, options: Namespace, more: Sequence[str] = ()) -> Settings:
    """The settings of a run with what the options say instead, which may be of `more` settings.

    A `--guidance` is of both of two experts, unless `--guidance-low` says otherwise of the second.

    Raises:
        InputError: a `--guidance-low` for a model that has no second expert, or a value out of range.
    """
    given = {name: getattr(options, name) for name in (*SETTINGS, *more)}
    given["low_guidance"] = _low_guidance(sampling, options)
    return replace(sampling, **{name: value for name, value in given.items() if value is not None})


def _low_guidance(sampling: "SamplingSettings", options: Namespace) -> float | None:
    """The guidance of the low-noise expert, where there are two."""
    if not sampling.boundary:
        if options.guidance_low is not None:
            raise InputError(
                f"--guidance-low {options.guidance_low} is of the low-noise one of two experts, and this "
                "model has one for all noise (its sampling.boundary is 0): give --guidance"
            )
        return None
    said = (options.guidance_low, options.guidance, sampling.low_guidance, sampling.guidance)
    return next(value for value in said if value is not None)


def rows_and_columns(size: str) -> tuple[int, int]:
    """Height and width of a `--size`.

    Raises:
        InputError: it is not HEIGHTxWIDTH.
    """
    height, _, width = size.lower().partition("x")
    if not (height.isdigit() and width.isdigit() and int(height) and int(width)):
        raise InputError(f"--size {size} is not HEIGHTxWIDTH, like 64x64")
    return int(height), int(width)
