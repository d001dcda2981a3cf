"""Which of Wan's models a release is, and what it listens to."""

from collections.abc import Mapping
from typing import Any

__all__ = ["conditions_of", "variant_of"]

CHANNELS, TOKENS, KNOWN, CAMERA, SECOND = (
    "vdit.conditions.frames.ImageChannels",
    "vdit.conditions.frames.ImageTokens",
    "vdit.conditions.known.KnownFrames",
    "vdit.conditions.camera.CameraRays",
    "vdit.conditions.second_video.SecondVideo",
)


def variant_of(settings: Mapping[str, Any], experts: bool, high_compression: bool) -> str:
    """The name of the recipe in `configs/sample` for a transformer of these settings.

    The weights alone do not tell: those of Wan 2.1 T2V-14B and of an expert of Wan 2.2 T2V-A14B are of one
    architecture. So the release says whether there are two.

    Args:
        settings: of the (or of each) transformer.
        experts: whether there are two.
        high_compression: whether its codec is that of Wan 2.2, 4x16x16.
    """
    camera, channels = settings["camera_stride"] is not None, settings["extra_channels"] > 0
    if settings["context_channels"] is not None:
        return "wan_2_1_vace"
    if experts:
        return f"wan_2_2_{'fun_camera' if camera else 'i2v' if channels else 't2v'}_a14b"
    if high_compression:
        return "wan_2_2_fun_camera_5b" if camera else "wan_2_2_ti2v_5b"
    if camera:
        return "wan_2_1_fun_camera"
    if settings["image_places"] is not None:
        return "wan_2_1_flf2v"
    return "wan_2_1_i2v" if channels else "wan_2_1_t2v"


def conditions_of(variant: str, settings: Mapping[str, Any], image: str) -> list[dict[str, Any]]:
    """What a variant listens to beside its prompt, as a configuration says it.

    Args:
        variant: by `variant_of`.
        settings: of its transformer.
        image: the folder of its image encoder.
    """
    places = "first_and_last" if variant == "wan_2_1_flf2v" else "first"
    told: list[dict[str, Any]] = []
    if settings["extra_channels"]:
        mask = settings["extra_channels"] > settings["latent_channels"]
        told.append({"class_path": CHANNELS, "init_args": {"places": places, "mask": mask}})
    if settings["image_width"] is not None:
        encoder = {"class_path": "vdit.text.clip_vision.ClipVision", "init_args": {"folder": image}}
        told.append({"class_path": TOKENS, "init_args": {"places": places, "encoder": encoder}})
    if variant in ("wan_2_2_ti2v_5b", "wan_2_2_fun_camera_5b"):
        told.append({"class_path": KNOWN, "init_args": {}})
    if settings["context_channels"] is not None:
        told.append({"class_path": SECOND, "init_args": {}})
    if settings["camera_stride"] is not None:
        told.append({"class_path": CAMERA, "init_args": {"stride_s": settings["camera_stride"]}})
    return told
