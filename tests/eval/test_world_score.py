import json
from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

from vdit.eval.world_score import ALL, derangement, score_record, score_world
from vdit.types import InputError
from vdit.world.flat import Flat
from vdit.world.level import Level
from vdit.world.room import Room
from vdit.world.source import WorldSource


def source(level: Level | None = None, clips: int = 7, side: int = 48) -> WorldSource:
    return WorldSource(level or Flat(), clips, 5, side, side, seed=1000, held_out=True)


def showing(clips: Sequence[Tensor], first_seed: int) -> Callable[..., Tensor]:
    """A model that shows clip i where the noise is that of prompt i."""

    def sample(prompts: Sequence[str], seeds: Sequence[int], progress: Callable[[int, int], None]) -> Tensor:
        for step in (1, 2):
            progress(step, 2)
        return torch.stack([clips[seed - first_seed] for seed in seeds])

    return sample


def truth(world: WorldSource) -> list[Tensor]:
    return [world[i].pixels for i in range(len(world))]


@pytest.mark.parametrize("count", range(2, 40))
def test_a_derangement_is_a_permutation_without_a_fixed_point(count: int):
    others = derangement(count)
    assert sorted(others) == list(range(count))
    assert all(other != i for i, other in enumerate(others))


@pytest.mark.parametrize("level", [Flat((1, 2)), Room()])
def test_a_perfect_model_reaches_the_ceiling(level: Level):
    world = source(level, clips=4)
    score = score_world(world, showing(truth(world), 5), lambda pixels: pixels, seed=5, batch=3)
    assert score.level == level.name
    assert tuple(score.rows) == (*level.attributes, ALL)
    for row in score.rows.values():
        assert row.model == row.ceiling_truth == row.ceiling_codec
        assert row.model.of == 4
    assert score.psnr == pytest.approx(126.02, abs=0.01)  # 10 log10(4 / 1e-12), the clamp of psnr
    assert [clip.prompt for clip in score.clips] == [world.caption(i) for i in range(4)]
    assert [clip.seed for clip in score.clips] == [5, 6, 7, 8]


def test_the_flat_ceiling_is_high_and_its_floor_low():
    world = source(clips=16)
    row = score_world(world, showing(truth(world), 0), lambda pixels: pixels, seed=0).rows[ALL]
    assert row.model.right >= 15
    assert row.floor.right <= 1


def test_a_model_that_shows_the_other_scenes_is_right_only_on_the_floor():
    world = source(clips=8)
    clips = truth(world)
    others = derangement(8)
    score = score_world(world, showing([clips[i] for i in others], 0), lambda pixels: pixels, seed=0)
    for row in score.rows.values():
        # 8 turned by half twice is 8 again: floor pairs each shown clip with its own scene.
        assert row.floor == row.ceiling_truth
    assert score.rows[ALL].model.right == 0
    assert score.rows["colour"].model.right < score.rows["colour"].floor.right


def test_a_bad_codec_lowers_its_own_ceiling_alone():
    world = source(clips=6)
    grey = score_world(world, showing(truth(world), 0), torch.zeros_like, seed=0)
    assert grey.rows[ALL].ceiling_codec.right == 0
    assert grey.rows[ALL].ceiling_truth.right == grey.rows[ALL].model.right >= 5
    expected = [10 * torch.log10(4 / clip.square().mean()).item() for clip in truth(world)]
    assert grey.psnr == pytest.approx(sum(expected) / 6, abs=1e-3)
    assert grey.psnr_worst == pytest.approx(min(expected), abs=1e-3)


def test_batches_change_nothing_and_every_clip_is_kept():
    world = source(clips=5, side=32)
    kept: list[dict[int, Tensor]] = [{}, {}]
    told: list[tuple[str, int, int]] = []
    scores = [
        score_world(
            world,
            showing(truth(world), 3),
            lambda pixels: 0.9 * pixels,
            seed=3,
            batch=batch,
            keep=kept[i].__setitem__,
            progress=lambda stage, done, total: told.append((stage, done, total)),
        )
        for i, batch in enumerate((2, 5))
    ]
    assert scores[0].rows == scores[1].rows
    assert scores[0].clips == scores[1].clips
    for clips in kept:
        assert sorted(clips) == list(range(5))
        assert all(torch.equal(clips[i], world[i].pixels) for i in range(5))
    sampling = [done for stage, done, total in told if stage == "sampling" and total == 10]
    assert sampling == [2, 4, 6, 8, 9, 10, 5, 10]
    assert ("judging the ground truth", 5, 5) in told


def test_one_clip_is_refused():
    with pytest.raises(InputError, match="at least 2"):
        score_world(source(clips=1), showing([], 0), lambda pixels: pixels, seed=0)


def test_the_record_is_json_and_says_what_was_seen():
    world = source(clips=3, side=32)
    score = score_world(world, showing([torch.zeros(3, 5, 32, 32)] * 3, 0), lambda pixels: pixels, seed=0)
    record = json.loads(json.dumps(score_record(score, ["a.mp4", "b.mp4", "c.mp4"], {"run": "tiny"})))
    assert record["run"] == "tiny"
    assert record["clips_judged"] == 3
    assert set(record["scores"]) == {*Flat.attributes, ALL}
    row = record["scores"][ALL]
    assert (row["model"], row["floor"], row["ceiling_truth"]) == (0.0, 0.0, 1.0)
    assert row["model_interval_95"] == pytest.approx([0.0, 0.5615], abs=1e-4)
    assert [clip["file"] for clip in record["clips"]] == ["a.mp4", "b.mp4", "c.mp4"]
    assert record["clips"][0]["prompt"] == world.caption(0)
    assert record["clips"][0]["right"]["colour"] is False
    assert record["clips"][0]["seen"]["colour"] == "nothing"
