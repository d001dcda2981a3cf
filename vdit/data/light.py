"""High dynamic range and wide colours as an ordinary screen shows them: BT.709 colours, the gamma of BT.1886.

Sources: the curves of PQ and HLG, ITU-R BT.2100-2; tone mapping, the Hermite spline of ITU-R BT.2390-11,
section 5.4.1, on the largest of red, green and blue, so that hue stays; 203 nits for diffuse white, ITU-R
BT.2408-7. Masters are taken to be graded for 1,000 nits, as most are: what is brighter is shown as that is.
"""

from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
from jaxtyping import Float, UInt8, UInt16

__all__ = ["FULL", "Light", "light_of"]

FULL = 255 * 256
"""White in planes of 16 bits, as swscale makes them."""
PEAK = 1000.0
"""Nits: the brightest that is shown."""
WHITE = 203.0
"""Nits: diffuse white, and the white of an ordinary screen."""
GAMMA = 2.4
"""Of an ordinary screen, ITU-R BT.1886."""

Curve = Literal["pq", "hlg", "gamma"]

# FFmpeg's numbers, of AVColorTransferCharacteristic and AVColorPrimaries.
_CURVES: dict[int, Curve] = {16: "pq", 18: "hlg"}
_BT2020, _DCI_P3, _DISPLAY_P3 = 9, 11, 12

# Linear red, green and blue of wider primaries in those of BT.709 (ITU-R BT.2407; SMPTE RP 177 for P3).
_P3_TO_BT709 = ((1.224940, -0.224940, 0.0), (-0.042057, 1.042057, 0.0), (-0.019638, -0.078636, 1.098274))
_TO_BT709 = {
    _BT2020: (
        (1.660491, -0.587641, -0.072850),
        (-0.124550, 1.132900, -0.008349),
        (-0.018151, -0.100579, 1.118730),
    ),
    _DCI_P3: _P3_TO_BT709,
    _DISPLAY_P3: _P3_TO_BT709,
}
_BT2020_LUMINANCE = (0.2627, 0.6780, 0.0593)


@dataclass(frozen=True)
class Light:
    """How values stand for light, where that is not as in BT.709.

    Attributes:
        curve: from a value to light; `gamma` is that of an ordinary screen.
        primaries: FFmpeg's number.
    """

    curve: Curve
    primaries: int

    def show(self, values: UInt16[np.ndarray, "3 h w"]) -> UInt8[np.ndarray, "3 h w"]:
        """Red, green and blue, 0 to `FULL`, as an ordinary screen shows them."""
        light = _table(self.curve)[values]
        if self.curve == "hlg":  # what was in front of the camera, as a screen of 1,000 nits shows it
            luminance = np.tensordot(np.array(_BT2020_LUMINANCE, np.float32), light, 1)
            light = light * (PEAK / WHITE * luminance**0.2)
        if self.curve != "gamma":
            brightest = light.max(axis=0)
            light = light * (_tone_mapped(brightest) / np.maximum(brightest, 1e-6))
        if self.primaries in _TO_BT709:
            light = np.tensordot(np.array(_TO_BT709[self.primaries], np.float32), light, 1)
        return np.rint(light.clip(0, 1) ** (1 / GAMMA) * 255).astype(np.uint8)


def light_of(transfer: int, primaries: int) -> Light | None:
    """What a frame's marks mean, FFmpeg's numbers; None for values that stand for light as in BT.709."""
    curve = _CURVES.get(transfer, "gamma")
    return None if curve == "gamma" and primaries not in _TO_BT709 else Light(curve, primaries)


@cache
def _table(curve: Curve) -> Float[np.ndarray, "values"]:
    """Light of every value of 16 bits, in parts of white; for HLG in front of the camera, 0 to 1."""
    values = np.minimum(np.arange(2**16) / FULL, 1.0)
    light = {"pq": _pq_light, "hlg": _hlg_light, "gamma": lambda given: given**GAMMA}[curve](values)
    return light.astype(np.float32)


def _pq_light(values: Float[np.ndarray, "n"]) -> Float[np.ndarray, "n"]:
    root = values ** (1 / 78.84375)
    return (
        10_000 / WHITE * ((root - 0.8359375).clip(0) / (18.8515625 - 18.6875 * root)) ** (1 / 0.1593017578125)
    )


def _pq_value(light: Float[np.ndarray, "n"]) -> Float[np.ndarray, "n"]:
    power = (light * WHITE / 10_000) ** 0.1593017578125
    return ((0.8359375 + 18.8515625 * power) / (1 + 18.6875 * power)) ** 78.84375


def _hlg_light(values: Float[np.ndarray, "n"]) -> Float[np.ndarray, "n"]:
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    return np.where(values <= 0.5, values**2 / 3, (np.exp((values - c) / a) + b) / 12)


def _tone_mapped(light: Float[np.ndarray, "h w"]) -> Float[np.ndarray, "h w"]:
    """Brightness of 0 to `PEAK` nits within that of an ordinary screen, both in parts of its white."""
    inputs, outputs = _tone_curve()
    return np.interp(light, inputs, outputs).astype(np.float32)


@cache
def _tone_curve() -> tuple[Float[np.ndarray, "n"], Float[np.ndarray, "n"]]:
    """The EETF of BT.2390 with no black level: a straight line up to a knee, then a spline up to white."""
    peak, white = _pq_value(np.array([PEAK / WHITE, 1.0]))
    given = np.linspace(0, 1, 4096)
    highest = white / peak
    knee = 1.5 * highest - 0.5
    t = ((given - knee) / (1 - knee)).clip(0)
    spline = (
        (2 * t**3 - 3 * t**2 + 1) * knee
        + (t**3 - 2 * t**2 + t) * (1 - knee)
        + (-2 * t**3 + 3 * t**2) * highest
    )
    return _pq_light(given * peak), _pq_light(np.where(given < knee, given, spline) * peak)
