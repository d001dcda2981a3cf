"""Ray intersections with the unit primitives, and the patterns painted on them.

A primitive fills [-1, 1]³ with y down and stands upright: the cone's tip is at y = -1. All are convex, so
each hit is where a ray enters.
"""

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["PATTERNS", "PRIMITIVES", "Entry"]

Rays = Float[Tensor, "3 n"]
Entry = tuple[Float[Tensor, "n"], Callable[[Tensor], Float[Tensor, "3 m"]]]
"""Distance to the entry (infinite for a miss), and the outward normals at chosen rays, not unit length."""

_TINY = 1e-9


def _sphere(o: Rays, d: Rays) -> Entry:
    near, _ = _roots((d * d).sum(0), (o * d).sum(0), (o * o).sum(0) - 1)
    return _ahead(near), lambda i: o[:, i] + near[i] * d[:, i]


def _slab(o: Float[Tensor, "n"], d: Float[Tensor, "n"]) -> tuple[Tensor, Tensor]:
    """Where rays enter and leave -1 <= x <= 1."""
    inverse = 1 / torch.where(d.abs() < _TINY, torch.full_like(d, _TINY), d)
    one, two = (-1 - o) * inverse, (1 - o) * inverse
    return torch.minimum(one, two), torch.maximum(one, two)


def _cube(o: Rays, d: Rays) -> Entry:
    slabs = [_slab(o[axis], d[axis]) for axis in range(3)]
    enters = torch.stack([enter for enter, _ in slabs])
    near, axis = enters.max(0)
    far = torch.stack([leave for _, leave in slabs]).amin(0)

    def normals(i: Tensor) -> Tensor:
        facing = torch.nn.functional.one_hot(axis[i], 3).T.to(d.dtype)
        return -facing * d[:, i].sign()

    return _ahead(near.masked_fill(near > far, math.inf)), normals


def _cylinder(o: Rays, d: Rays) -> Entry:
    ox, oz, dx, dz = o[0], o[2], d[0], d[2]
    side_in, side_out = _roots((dx * dx + dz * dz).clamp(min=_TINY), ox * dx + oz * dz, ox * ox + oz * oz - 1)
    cap_in, cap_out = _slab(o[1], d[1])
    near, far = torch.maximum(side_in, cap_in), torch.minimum(side_out, cap_out)

    def normals(i: Tensor) -> Tensor:
        point = o[:, i] + near[i] * d[:, i]
        cap = cap_in[i] > side_in[i]
        return torch.stack([point[0] * ~cap, -d[1, i].sign() * cap, point[2] * ~cap])

    return _ahead(near.masked_fill(~(near < far), math.inf)), normals


def _cone(o: Rays, d: Rays) -> Entry:
    # Inside where x² + z² <= ((1 + y) / 2)² and y <= 1: one half of a double cone, under its tip.
    tip = (1 + o[1]) / 2
    rise = d[1] / 2
    a = d[0] * d[0] + d[2] * d[2] - rise * rise
    b = o[0] * d[0] + o[2] * d[2] - tip * rise
    c = o[0] * o[0] + o[2] * o[2] - tip * tip
    roots = torch.stack(_roots(torch.where(a.abs() < _TINY, torch.full_like(a, _TINY), a), b, c))
    y = o[1] + roots * d[1]
    side = torch.where((y.abs() <= 1) & (roots > 0), roots, torch.full_like(roots, math.inf)).amin(0)
    base = (1 - o[1]) / torch.where(d[1].abs() < _TINY, torch.full_like(d[1], _TINY), d[1])
    x, z = o[0] + base * d[0], o[2] + base * d[2]
    base = base.masked_fill((x * x + z * z > 1) | (base <= 0), math.inf)

    def normals(i: Tensor) -> Tensor:
        point = o[:, i] + side[i].clamp(max=1e6) * d[:, i]
        below = base[i] < side[i]
        return torch.stack(
            [point[0] * ~below, torch.where(below, 1.0, -(1 + point[1]) / 4), point[2] * ~below]
        )

    return torch.minimum(side, base), normals


def _roots(a: Tensor, b: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """Both solutions of a·s² + 2·b·s + c = 0 in the order -, +; not a number where there are none."""
    root = (b * b - a * c).sqrt()
    return (-b - root) / a, (-b + root) / a


def _ahead(distance: Tensor) -> Tensor:
    return torch.where(distance > 0, distance, torch.full_like(distance, math.inf))


PRIMITIVES: Mapping[str, Callable[[Rays, Rays], Entry]] = MappingProxyType(
    {"sphere": _sphere, "cube": _cube, "cylinder": _cylinder, "cone": _cone}
)


def _plain(q: Rays) -> Float[Tensor, "n"]:
    return torch.zeros_like(q[0])


def _stripes(q: Rays) -> Float[Tensor, "n"]:
    return (torch.sin(q[1] * 5.5 + 0.8) > 0.0).to(q.dtype)


def _checks(q: Rays) -> Float[Tensor, "n"]:
    return ((torch.sin(q * 3.2) > 0).sum(0) % 2).to(q.dtype)


def _dots(q: Rays) -> Float[Tensor, "n"]:
    return (torch.cos(q * 4.6).sum(0) > 0.9).to(q.dtype)


def _halves(q: Rays) -> Float[Tensor, "n"]:
    return (q[1] > 0).to(q.dtype)


PATTERNS: Mapping[str, Callable[[Rays], Float[Tensor, "n"]]] = MappingProxyType(
    {"plain": _plain, "stripes": _stripes, "checks": _checks, "dots": _dots, "halves": _halves}
)
"""Share of the second colour at points of the unit primitive."""
