"""The ray caster of the room: pixels, and for every pixel centre its instance, depth and optical flow.

Distances along a ray are depths along the camera's z axis, because ray directions have z = 1 there.
"""

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from vdit.camera.moves import trajectory
from vdit.types import Cameras
from vdit.world.level import Rendering
from vdit.world.primitives import PATTERNS
from vdit.world.room_scene import BOX, FLOOR, LIGHTS, RoomScene
from vdit.world.room_textures import atlas
from vdit.world.solids import Rays, Solid, entries, solids, ways

__all__ = ["cast", "project", "room_depth", "view_rays"]

_SUPERSAMPLING = 2  # rays a pixel along each side
_AMBIENT, _DIFFUSE = 0.42, 0.75
_SHADOW = 0.80  # darkness in the middle of the contact shadow of a thing on the floor
_SHADOW_FADE = 0.6  # metres above the floor at which a shadow has lost two thirds of its darkness


def cast(scene: RoomScene, frames: int, height: int, width: int) -> Rendering:
    """The scene as a clip with its ground truth, anti-aliased by 2 × 2 rays a pixel.

    Masks, depth and flow are those of the ray through each pixel's centre.
    """
    cameras = trajectory(scene.camera, frames, height, width)
    parts, standing = solids(scene, frames), ways(scene, frames)
    pixels = _pixels(scene, parts, standing, cameras, height, width)
    rays = view_rays(cameras, height, width)
    depth = room_depth(rays)
    masks = torch.zeros(depth.shape, dtype=torch.int64)
    for solid in parts:
        seen = entries(solid, rays, cameras, depth.view(-1))
        depth.view(-1)[seen.where] = seen.depth
        masks.view(-1)[seen.where] = solid.label
    return Rendering(
        pixels=pixels,
        masks=masks,
        flow=_flow(rays, depth, masks, standing, cameras),
        depth=depth,
        cameras=cameras,
    )


def view_rays(cameras: Cameras, height: int, width: int) -> Rays:
    """The rays through the centres of `height` × `width` cells of every frame."""
    fx, fy, cx, cy = cameras.intrinsics[:, :, None, None].unbind(1)
    x = ((torch.arange(width) + 0.5) / width - cx) / fx  # t 1 w
    y = ((torch.arange(height)[:, None] + 0.5) / height - cy) / fy  # t h 1
    turn = cameras.c2w[:, :3, :3, None, None]
    direction = torch.stack([turn[:, i, 0] * x + turn[:, i, 1] * y + turn[:, i, 2] for i in range(3)])
    return Rays(origin=cameras.c2w[:, :3, 3].T[:, :, None, None], direction=direction)


def project(
    points: Float[Tensor, "3 t h w"], cameras: Cameras, height: int, width: int
) -> Float[Tensor, "t 2 h w"]:
    """Where each camera sees points given in room axes: pixels from the frame's left and upper edge."""
    x, y, z = torch.einsum("t i j, i t h w -> j t h w", cameras.c2w[:, :3, :3], points - _centres(cameras))
    fx, fy, cx, cy = cameras.intrinsics[:, :, None, None].unbind(1)
    z = z.clamp(min=1e-3)
    return torch.stack([(fx * x / z + cx) * width, (fy * y / z + cy) * height], dim=1)


def room_depth(rays: Rays) -> Float[Tensor, "t h w"]:
    """Depth of the empty room along rays that start inside it."""
    x, y, z = _wall_distances(rays)
    return torch.minimum(torch.minimum(x, y), z)


def _centres(cameras: Cameras) -> Float[Tensor, "3 t 1 1"]:
    return rearrange(cameras.c2w[:, :3, 3], "t c -> c t 1 1")


def _wall_distances(rays: Rays) -> list[Float[Tensor, "t h w"]]:
    """Depth at which rays leave the room across x, y and z."""
    distances = []
    for axis, (low, high) in enumerate(BOX):
        inverse, o = rays.direction[axis].reciprocal(), rays.origin[axis]
        distances.append(torch.maximum((low - o) * inverse, (high - o) * inverse))
    return distances


def _flow(
    rays: Rays,
    depth: Float[Tensor, "t h w"],
    masks: Tensor,
    standing: Float[Tensor, "thing 3 t"],
    cameras: Cameras,
) -> Float[Tensor, "t-1 2 h w"]:
    """Where what each pixel shows is seen one frame later, less where it is seen now."""
    frames, height, width = depth.shape
    # Row 0 is the room, which stands still.
    steps = torch.cat([torch.zeros(1, 3, frames - 1), standing.diff(dim=2)])
    frame = torch.arange(frames - 1)[:, None, None]
    step = rearrange(steps[masks[:-1], :, frame], "t h w c -> c t h w")
    points = (rays.origin + depth * rays.direction)[:, :-1] + step
    later = project(points, Cameras(cameras.intrinsics[1:], cameras.c2w[1:]), height, width)
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    return later - torch.stack([x, y])


def _pixels(
    scene: RoomScene,
    parts: list[Solid],
    standing: Float[Tensor, "thing 3 t"],
    cameras: Cameras,
    height: int,
    width: int,
) -> Float[Tensor, "3 t h w"]:
    rays = view_rays(cameras, _SUPERSAMPLING * height, _SUPERSAMPLING * width)
    colour, depth = _walls(scene, rays, standing, texels=min(max(96, 2 * max(height, width)), 512))
    light = torch.tensor(LIGHTS[scene.light])[:, None]
    for solid in parts:
        seen = entries(solid, rays, cameras, depth.view(-1))
        depth.view(-1)[seen.where] = seen.depth
        to_light = light - seen.point
        cosine = (seen.normal * to_light).sum(0) / (seen.normal.norm(dim=0) * to_light.norm(dim=0))
        body, other = solid.colours[:, :, None]
        albedo = torch.lerp(body, other, PATTERNS[solid.pattern](seen.local))
        colour.view(3, -1)[:, seen.where] = albedo * (_AMBIENT + _DIFFUSE * cosine.clamp(min=0))
    down = colour[:, :, 0::2] + colour[:, :, 1::2]
    return ((down[..., 0::2] + down[..., 1::2]) / 4).clamp(max=1) * 2 - 1


def _walls(
    scene: RoomScene, rays: Rays, standing: Float[Tensor, "thing 3 t"], texels: int
) -> tuple[Float[Tensor, "3 t h w"], Float[Tensor, "t h w"]]:
    """Colour and depth of the room with the shadows of the things in it."""
    tx, ty, tz = _wall_distances(rays)
    depth = torch.minimum(torch.minimum(tx, ty), tz)
    on_x, on_y = (tx == depth).float(), (ty == depth).float()
    on_y = on_y * (1 - on_x)
    x, y, z = (
        ((rays.origin[axis] - low) + depth * rays.direction[axis]) / (high - low)
        for axis, (low, high) in enumerate(BOX)
    )
    # Shares of the way from wall to wall; images run along (z, y) across x, (x, z) across y, (x, y) across z.
    u, v = torch.lerp(x, z, on_x), torch.lerp(y, z, on_y)
    across = torch.lerp(torch.lerp(z, y, on_y), x, on_x)
    face = 4 - 4 * on_x - 2 * on_y + (across > 0.5)
    # Texel centres lie on the edges of a wall, so that no sample mixes two walls.
    inner = (texels - 1) / texels
    u = (u - 0.5) * (2 * inner)
    v = (face + 0.5 + (v - 0.5).clamp(-0.5, 0.5) * inner) / 3 - 1
    grid = torch.stack([u, v], dim=-1).view(1, 1, -1, 2)
    image = atlas(scene, texels)[None]
    colour = torch.nn.functional.grid_sample(image, grid, padding_mode="border", align_corners=False)
    shade = 1 - on_y * (y > 0.5) * _shadows(scene, x, z, standing)
    return colour.view(3, *depth.shape) * shade, depth


def _shadows(
    scene: RoomScene,
    x: Float[Tensor, "t h w"],
    z: Float[Tensor, "t h w"],
    standing: Float[Tensor, "thing 3 t"],
) -> Float[Tensor, "t h w"]:
    """Darkness of the floor at shares x and z of its sides: a soft round shadow under each thing."""
    (left, right), _, (near, far) = BOX
    light = torch.ones_like(x)
    for thing, way in zip(scene.things, standing[:, :, :, None, None], strict=True):
        across = (x - (way[0] - left) / (right - left)) * ((right - left) / thing.reach)
        along = (z - (way[2] - near) / (far - near)) * ((far - near) / thing.reach)
        lift = (FLOOR - way[1]) / _SHADOW_FADE
        light *= 1 - _SHADOW * torch.exp(-0.6 * (across * across + along * along) - lift)
    return 1 - light
