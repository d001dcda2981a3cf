"""Show where a camera goes before a clip is sampled.

    python -m vdit camera "pan left 20deg, then dolly in 0.5 while tilting up 5deg"
    python -m vdit camera --file poses.txt --out poses.png

Draws the path from above and from the side, with its turns and its zoom. The first camera is drawn in red.
"""

import math
from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path

from vdit.commands.options import rows_and_columns
from vdit.types import InputError

__all__ = ["main"]


def main(arguments: Sequence[str]) -> int:
    """Draw a path; 0 when it is written."""
    parser = ArgumentParser(prog="vdit camera", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("path", nargs="?", help='in words, like "pan left 20deg, then dolly in 0.5"')
    parser.add_argument("--file", help="poses instead: lines as RealEstate10K has them, or JSON")
    parser.add_argument("--frames", type=int, default=81, help="of the clip, for a path in words (81)")
    parser.add_argument("--fps", type=float, default=16.0, help="its frames per second (16)")
    parser.add_argument("--size", default="480x832", help="HEIGHTxWIDTH of its frames")
    parser.add_argument("--out", default="camera.png", help="image to write (camera.png)")
    options = parser.parse_args(arguments)
    if (options.path is None) == (options.file is None):
        raise InputError("give a path in words, or poses with --file")
    if options.frames < 1 or not 0 < options.fps < math.inf:
        raise InputError(f"--frames {options.frames} and --fps {options.fps:g} must be numbers above 0")

    from vdit.camera.path import read_path
    from vdit.camera.pose_file import read_poses
    from vdit.camera.preview import preview

    size = rows_and_columns(options.size)
    if options.file:
        cameras = read_poses(Path(options.file), *size)
    else:
        cameras = read_path(options.path).cameras(options.frames, options.fps, *size)
    preview(cameras, Path(options.out))
    print(f"{len(cameras.c2w)} cameras in {options.out}")
    return 0
