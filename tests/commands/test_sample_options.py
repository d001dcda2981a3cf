"""What the command line of sampling means, before a model is opened."""

import pytest

from vdit.commands.sample import main as sample
from vdit.commands.sample_call import _check_room
from vdit.commands.sample_options import _joined
from vdit.sample.sampler import Sampling
from vdit.types import InputError

ROOM = "docs/reproduce/room_conditions"


def test_a_frame_counted_from_the_end_is_no_option():
    said = ["--keyframe", "-1=c.png", "--shot", "8=a - b", "--keyframe=-2=d.png", "--last", "e.png"]
    assert _joined(said) == ["--keyframe=-1=c.png", "--shot=8=a - b", *said[4:]]
    with pytest.raises(InputError, match="--keyframe --last is not FRAME=IMAGE"):
        sample(["--run", ROOM, "--prompt", "a", "--keyframe", "--last"])


@pytest.mark.parametrize(
    ("sampling", "length", "told"),
    [
        (
            Sampling(17, 800_000, 800_000, 8.0),
            17,
            "17 frames of 800000x800000 pixels, clips at once: 1, take",
        ),
        (Sampling(17, 64, 64, 8.0), 10**10 + 1, "10,000,000,001 frames of 64x64"),
    ],
)
def test_clips_that_no_machine_holds_are_refused(sampling: Sampling, length: int, told: str):
    with pytest.raises(InputError, match=told):
        _check_room(sampling, length, 1)
    _check_room(Sampling(17, 64, 64, 8.0), 17, 16)


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (["--first", "none.png"], "none.png: there is no such file"),
        (["--camera", "pan lft"], "did you mean 'pan left'"),
        (["--loop"], "--loop ends a clip with its first frame"),
    ],
)
def test_what_no_model_could_be_asked_for_is_refused_before_one_is_opened(asked: list[str], told: str):
    with pytest.raises(InputError, match=told):
        sample(["--model", "no/folder", "--prompt", "a", *asked])
