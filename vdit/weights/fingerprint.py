"""An architecture told by the names and shapes of its weights alone."""

import hashlib

from vdit.weights.keymap import Shapes

__all__ = ["fingerprint"]


def fingerprint(shapes: Shapes) -> str:
    """The md5 of all names, with and without shapes, as DiffSynth-Studio records it for published files.

    Two models of one architecture have the same one, whatever they were trained for.
    """
    told = [f"{name}:{'_'.join(map(str, shape))}" for name, shape in shapes.items()]
    return hashlib.md5(",".join(sorted([*told, *shapes])).encode()).hexdigest()
