"""Images as they are meant to be seen."""

import contextlib
import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import UInt8

from vdit.data.media import ABSENT, UnreadableVideo

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["GREY", "read_image"]

GREY = 128
"""What transparent pixels lie on."""
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
    except (OSError, ValueError, SyntaxError, TypeError, Image.DecompressionBombError) as error:
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
    if not image.has_transparency_data:
        return np.array(_in_srgb(image))
    clear = image.convert("RGBA")
    clear.info.update(image.info)
    ground = Image.new("RGB", image.size, (GREY, GREY, GREY))
    ground.paste(_in_srgb(clear.convert("RGB")), mask=clear.getchannel("A"))
    return np.array(ground)


def _in_srgb(image: "Image.Image") -> "Image.Image":
    """Colours as an ordinary screen shows them, by the profile that an image of others (Display P3) has."""
    from PIL import ImageCms

    profile = image.info.get("icc_profile")
    if profile and image.mode in ("RGB", "CMYK", "L"):
        with contextlib.suppress(ImageCms.PyCMSError, OSError):  # of another kind of colours, or damaged
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            converted = ImageCms.profileToProfile(
                image, source, ImageCms.createProfile("sRGB"), outputMode="RGB"
            )
            assert converted is not None
            return converted
    return image.convert("RGB")
