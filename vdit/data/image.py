"""Images as they are meant to be seen."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import UInt8

from vdit.data.media import ABSENT, UnreadableVideo

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["read_image"]

FULL_16 = 2**16 - 1
"""White, where a value has 16 bits."""


def read_image(path: Path) -> UInt8[np.ndarray, "h w 3"]:
    """An image as it is meant to be seen, upright; what is transparent lies on middle grey.

    Raises:
        UnreadableVideo: no such file, not an image, several images, or values that have no white.
    """
    from PIL import Image, ImageOps

    if not path.is_file():
        raise UnreadableVideo(path, ABSENT)
    try:
        with Image.open(path) as image:
            pictures = getattr(image, "n_frames", 1)
            if pictures > 1 and image.format != "MPO":  # a photograph with smaller copies of itself
                raise UnreadableVideo(
                    path, f"it holds {pictures} pictures; save them as a video, or one as an image"
                )
            return _eight_bits(path, ImageOps.exif_transpose(image))
    except UnreadableVideo:
        raise
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UnreadableVideo(path, f"Pillow cannot read this image ({error})") from error


def _eight_bits(path: Path, image: "Image.Image") -> UInt8[np.ndarray, "h w 3"]:
    """Red, green and blue of an image of any kind; Pillow itself clips values of 16 bits to 255."""
    from PIL import Image

    if image.mode.startswith(("I", "F")):
        values = np.array(image)
        if image.mode == "F" or values.min() < 0 or values.max() > FULL_16:
            raise UnreadableVideo(path, "its values have no white; save it with 8 or 16 bits a channel")
        grey = np.rint(values * (255 / FULL_16)).astype(np.uint8)
        return np.stack([grey] * 3, axis=-1)
    if image.has_transparency_data:
        ground = Image.new("RGBA", image.size, (128, 128, 128, 255))
        image = Image.alpha_composite(ground, image.convert("RGBA"))
    return np.array(image.convert("RGB"))
