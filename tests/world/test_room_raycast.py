from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional

from vdit.camera.moves import MOVES, CameraMove
from vdit.world.level import Rendering
from vdit.world.primitives import PRIMITIVES
from vdit.world.raycast import cast
from vdit.world.room_scene import BOX, SHAPES, SIZES, Guest, RoomObject, RoomScene

CUBE = RoomObject("red", "cube", "large", "still", (-0.7, 3.5), 0.7)
SCENE = RoomScene(
    walls="brick",
    floor="stone",
    variant=0,
    tint=(1.0, 1.0),
    light="above",
    objects=(CUBE, RoomObject("blue", "sphere", "small", "still", (0.8, 3.6), 0.0)),
    guest=None,
    camera=CameraMove("static", 0.0),
)
EMPTY = replace(SCENE, objects=())


def moved(word: str, scene: RoomScene = SCENE) -> RoomScene:
    return replace(scene, camera=CameraMove(word, MOVES[word].most))


def later_places(rendering: Rendering) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """x, y in pixels and z in metres of what a pixel shows, a frame later: from depth and cameras alone."""
    assert rendering.cameras is not None
    assert rendering.depth is not None
    depth, poses = rendering.depth.double().numpy(), rendering.cameras.c2w.double().numpy()
    lenses = rendering.cameras.intrinsics.double().numpy()
    frames, height, width = depth.shape
    y, x = np.mgrid[:height, :width] + 0.5
    places = []
    for k in range(frames - 1):
        fx, fy, cx, cy = lenses[k] * [width, height, width, height]
        seen = np.stack([(x - cx) / fx * depth[k], (y - cy) / fy * depth[k], depth[k], np.ones_like(x)])
        later = np.einsum("i j, j h w -> i h w", np.linalg.inv(poses[k + 1]) @ poses[k], seen)
        fx, fy, cx, cy = lenses[k + 1] * [width, height, width, height]
        places.append([fx * later[0] / later[2] + cx, fy * later[1] / later[2] + cy, later[2]])
    return tuple(np.moveaxis(np.array(places), 1, 0))  # pyright: ignore[reportReturnType]


@pytest.mark.parametrize("word", MOVES)
def test_flow_is_what_depth_and_cameras_say(word: str):
    rendering = cast(moved(word), 5, 40, 56)
    x, y, _ = later_places(rendering)
    grid = np.mgrid[:40, :56] + 0.5
    assert np.abs(rendering.flow[:, 0].numpy() - (x - grid[1])).max() < 2e-3
    assert np.abs(rendering.flow[:, 1].numpy() - (y - grid[0])).max() < 2e-3


@pytest.mark.parametrize(
    "word", ["pan left", "truck right", "dolly in", "roll clockwise", "orbit left", "zoom in"]
)
def test_carried_pixels_and_depths_meet_the_next_frame(word: str):
    rendering = cast(moved(word), 5, 64, 64)
    assert rendering.depth is not None
    x, y, z = (torch.from_numpy(place).float() for place in later_places(rendering))
    grid = torch.stack([x, y], -1) / 32 - 1
    inside = (grid.abs() < 0.96).all(-1)
    frames = rendering.pixels.transpose(0, 1)
    carried = functional.grid_sample(frames[1:], grid, align_corners=False)
    error = (carried - frames[:-1]).abs().mean(1)[inside].mean()
    unmoved = (frames[1:] - frames[:-1]).abs().mean(1)[inside].mean()
    assert error < 0.6 * unmoved
    depths = functional.grid_sample(rendering.depth[1:, None], grid, align_corners=False)[:, 0]
    assert ((depths / z - 1).abs() < 0.02)[inside].float().mean() > 0.95


@pytest.mark.parametrize(
    ("word", "axis", "sign"),
    [
        ("pan left", 0, 1),
        ("truck left", 0, 1),
        ("tilt up", 1, 1),
        ("pedestal up", 1, 1),
        ("pan right", 0, -1),
    ],
)
def test_the_view_goes_against_the_camera(word: str, axis: int, sign: int):
    assert (sign * cast(moved(word), 3, 32, 32).flow[:, axis]).mean() > 1


def test_a_clockwise_camera_turns_the_view_counter_clockwise():
    flow = cast(moved("roll clockwise", EMPTY), 3, 32, 32).flow
    assert flow[:, 0, 2].min() < 0 < flow[:, 0, -2].max()
    assert flow[:, 0, 2].max() < 0
    assert flow[:, 1, :, 2].min() > 0


def test_nothing_moves_when_nothing_moves():
    rendering = cast(SCENE, 3, 32, 32)
    assert rendering.flow.abs().max() < 1e-4
    assert torch.equal(rendering.pixels[:, 0], rendering.pixels[:, 2])


@pytest.mark.parametrize(
    ("motion", "axis", "sign"), [("left", 0, -1), ("right", 0, 1), ("up", 1, -1), ("down", 1, 1)]
)
def test_only_what_moves_flows(motion: str, axis: int, sign: int):
    rendering = cast(replace(SCENE, objects=(replace(CUBE, motion=motion),)), 5, 48, 48)
    on_cube = rendering.masks[:-1] == 1
    assert (sign * rendering.flow[:, axis][on_cube]).min() > 0.5
    assert rendering.flow.abs().amax(1)[~on_cube].max() < 1e-4


def test_depth_of_the_empty_room_along_the_axis():
    depth = cast(replace(EMPTY, camera=CameraMove("dolly in", 1.0)), 3, 33, 33).depth
    assert depth is not None
    assert torch.allclose(depth[:, 16, 16], BOX[2][1] - torch.tensor([0.0, 0.5, 1.0]))


def test_masks_show_each_thing_where_it_stands():
    scene = replace(SCENE, guest=Guest("Mika", "still", (0.0, 4.2), 0.0))
    masks = cast(scene, 1, 64, 64).masks[0]
    assert masks.unique().tolist() == [0, 1, 2, 3]
    for label, thing in enumerate(scene.things, 1):
        columns = (masks == label).nonzero()[:, 1].float() + 0.5
        assert abs(columns.mean() - 64 * (0.5 + 0.9 * thing.place[0] / thing.place[1])) < 1.5


def test_depth_of_a_sphere_in_front():
    radius = SIZES["large"] * SHAPES["sphere"][0]
    ball = RoomObject("red", "sphere", "large", "still", (0.0, 3.5), 0.0)
    # From the height of the ball's middle.
    camera = CameraMove("pedestal down", BOX[1][1] - radius)
    depth = cast(replace(SCENE, objects=(ball,), camera=camera), 2, 33, 33).depth
    assert depth is not None
    assert depth[1, 16, 16] == pytest.approx(3.5 - radius, abs=1e-5)


@pytest.mark.parametrize("shape", PRIMITIVES)
def test_rays_enter_primitives_at_their_surface(shape: str):
    generator = torch.Generator().manual_seed(0)
    origin = 4 * functional.normalize(torch.randn(3, 4000, generator=generator), dim=0)
    target = torch.rand(3, 4000, generator=generator) * 3 - 1.5
    distance, normals = PRIMITIVES[shape](origin, target - origin)
    hits = distance.isfinite().nonzero().flatten()
    assert 1000 < len(hits) < 4000
    x, y, z = origin[:, hits] + distance[hits] * (target - origin)[:, hits]
    across = torch.hypot(x, z)
    surface = {
        "sphere": torch.hypot(across, y),
        "cube": torch.stack([x, y, z]).abs().amax(0),
        "cylinder": torch.maximum(across, y.abs()),
        "cone": torch.maximum(across - (1 + y) / 2 + 1, y),
    }[shape]
    assert torch.allclose(surface, torch.ones_like(surface), atol=2e-4)
    assert ((normals(hits) * (target - origin)[:, hits]).sum(0) < 1e-4).all()
    # Rays aimed at a point inside never miss.
    inside = (target * 0.2 + torch.tensor([0.0, 0.5, 0.0])[:, None]).norm(dim=0) < 0.6
    aimed, _ = PRIMITIVES[shape](origin, target * 0.2 + torch.tensor([0.0, 0.5, 0.0])[:, None] - origin)
    assert aimed[inside].isfinite().all()


def test_edges_are_smoothed():
    """The border of a thing shows mixtures of its colour and the wall's, so more colours than the inside."""
    pixels = cast(SCENE, 1, 64, 64).pixels[:, 0]
    masks = cast(SCENE, 1, 64, 64).masks[0]
    light = (pixels + 1) / 2
    saturation = (light.amax(0) - light.amin(0)) / light.amax(0)
    ball = (masks == 2).float()[None, None]
    core = -functional.max_pool2d(-ball, 3, 1, 1)[0, 0] > 0
    ring = (functional.max_pool2d(ball, 3, 1, 1)[0, 0] > 0) & ~core
    assert saturation[core].min() > 0.8
    assert ((saturation[ring] > 0.35) & (saturation[ring] < 0.8)).sum() > 10


def test_a_shadow_lies_under_a_thing_and_fades_as_it_rises():
    ball = RoomObject("red", "sphere", "large", "still", (0.0, 3.4), 0.0)

    def floor_light(scene: RoomScene, frame: int) -> torch.Tensor:
        return cast(scene, 2, 64, 64).pixels[:, frame, 55:58, 32:44].mean()

    empty, still = floor_light(EMPTY, 1), floor_light(replace(SCENE, objects=(ball,)), 1)
    risen = floor_light(replace(SCENE, objects=(replace(ball, motion="up"),)), 1)
    assert still < risen - 0.05 < empty
