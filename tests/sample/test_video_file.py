from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import Tensor

from vdit.data.decode import open_video, probe
from vdit.sample.video_file import AI_GENERATED, read_metadata, write_video
from vdit.types import InputError


def gradient(t: int, h: int, w: int) -> Tensor:
    """A smooth moving picture, pixels 'c t h w' in [-0.9, 0.9]."""
    k = torch.arange(t)[:, None, None] / 10
    y = torch.arange(h)[None, :, None] / max(h, 32)
    x = torch.arange(w)[None, None, :] / max(w, 32)
    return (
        torch.stack([torch.sin(4 * x + k + 0 * y), torch.cos(4 * y - k + 0 * x), torch.sin(3 * (x + y) + k)])
        * 0.9
    )


def psnr(a: Tensor, b: Tensor) -> float:
    return (10 * torch.log10(4 / (a - b).square().mean())).item()


@pytest.mark.parametrize("size", [(64, 64), (32, 32), (48, 80), (33, 47), (16, 16), (256, 144)])
@pytest.mark.parametrize("fps", [8, 24.0, Fraction(24000, 1001)])
def test_what_is_written_can_be_read(tmp_path, size, fps):
    pixels = gradient(17, *size)
    write_video(tmp_path / "a.mp4", pixels, fps)
    info = probe(tmp_path / "a.mp4")
    assert (info.frames, info.fps) == (17, fps)
    h, w = size
    assert (info.height, info.width) == (h + h % 2, w + w % 2)  # odd sizes are padded
    read = open_video(tmp_path / "a.mp4").read(0, 17).float() / 127.5 - 1
    assert psnr(read[:, :, :h, :w], pixels) > 30
    for k in range(17):  # each frame in its place: its neighbours are farther away
        errors = [(read[:, k, :h, :w] - pixels[:, j]).abs().mean() for j in range(17)]
        assert int(torch.stack(errors).argmin()) == k


@pytest.mark.parametrize("frames", [1, 2])
def test_short_clips_keep_their_rate(tmp_path, frames):
    write_video(tmp_path / "a.mp4", gradient(frames, 32, 32), 12)
    info = probe(tmp_path / "a.mp4")
    assert (info.frames, info.fps) == (frames, 12)


def test_rates_given_as_decimals_become_the_fraction_meant(tmp_path):
    write_video(tmp_path / "a.mp4", gradient(4, 32, 32), 29.97002997)
    assert probe(tmp_path / "a.mp4").fps == Fraction(30000, 1001)


def test_a_clip_is_the_same_file_every_time(tmp_path):
    """Whatever other memory there is: the encoder must not look at any but its own."""
    rng, file = np.random.default_rng(0), tmp_path / "a.mp4"
    noise = torch.randn(1, 3, 9, 8, 8, generator=torch.Generator().manual_seed(0))
    pixels = torch.nn.functional.interpolate(noise, size=(9, 96, 96), mode="trilinear")[0].clamp(-1, 1)
    found = set()
    for _ in range(60):
        junk = [bytearray(b"\xa5") * size for size in rng.integers(1, 9000, rng.integers(1, 400))]
        write_video(file, pixels, 8)
        found.add(file.read_bytes())
        for _ in range(3):
            open_video(file).read(0, 9)
        del junk
    assert len(found) == 1


def test_lower_crf_is_closer(tmp_path):
    grain = torch.randn(1, 9, 64, 64, generator=torch.Generator().manual_seed(0))  # grey: 4:2:0 keeps it
    pixels, found = gradient(9, 64, 64) + 0.05 * grain, []
    for crf in (35, 20, 5):
        write_video(tmp_path / "a.mp4", pixels, 8, crf=crf)
        found.append(psnr(open_video(tmp_path / "a.mp4").read(0, 9).float() / 127.5 - 1, pixels))
    assert found == sorted(found)
    assert found[2] > found[0] + 3


def test_values_outside_the_range_are_clipped(tmp_path):
    write_video(tmp_path / "a.mp4", torch.full((3, 2, 32, 32), 7.0), 8)
    assert open_video(tmp_path / "a.mp4").read(0, 2).min() > 245  # wrapped around, it would be dark


def test_the_mark_and_the_prompt_are_inside(tmp_path):
    path = tmp_path / "a.mp4"
    given = {"prompt": 'a "red" ball <&> 红球\nrolls', "seed": "7"}
    write_video(path, gradient(5, 32, 32), 8, given)
    found = read_metadata(path)
    assert given.items() <= found.items()
    assert found["title"] == "AI-generated video"
    assert found["comment"] == f"This video is AI-generated. digitalSourceType={AI_GENERATED}"
    assert found["digital_source_type"] == AI_GENERATED
    assert AI_GENERATED.endswith("/trainedAlgorithmicMedia")
    raw = path.read_bytes()
    assert raw.index(b"moov") < raw.index(b"mdat")  # it plays while it loads
    write_video(path, gradient(5, 32, 32), 8, {"title": "my film"})
    assert read_metadata(path)["title"] == "my film"


def test_files_of_other_programs_carry_no_mark(tmp_path):
    import av

    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        container.metadata.update({"title": "holiday", "synopsis": "a beach"})
        stream = container.add_stream("libx264", rate=24)
        stream.height, stream.width, stream.pix_fmt = 32, 32, "yuv420p"
        container.mux(
            stream.encode(av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24"))
        )
        container.mux(stream.encode())
    assert read_metadata(tmp_path / "a.mp4") == {"title": "holiday", "synopsis": "a beach"}
    (tmp_path / "b.mp4").write_text("no video")
    with pytest.raises(InputError, match=r"b.mp4: its metadata cannot be read"):
        read_metadata(tmp_path / "b.mp4")


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    import av

    path = tmp_path / "a.mp4"
    write_video(path, gradient(3, 32, 32), 8)
    before = path.read_bytes()

    def fail(*_arguments: object, **_names: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(av.VideoFrame, "from_ndarray", fail)
    with pytest.raises(KeyboardInterrupt):
        write_video(path, gradient(9, 32, 32), 8)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["a.mp4"]


@pytest.mark.parametrize(
    ("pixels", "fps", "crf", "message"),
    [
        (torch.zeros(1, 4, 8, 8), 8, 17, r"3 channels and a frame, got \(1, 4, 8, 8\)"),
        (torch.zeros(3, 0, 8, 8), 8, 17, r"got \(3, 0, 8, 8\)"),
        (torch.full((3, 4, 8, 8), torch.nan), 8, 17, "100.0% of the pixels are not finite"),
        (torch.zeros(3, 4, 8, 8), 0, 17, "fps must lie above 0 and at most 1000, got 0"),
        (torch.zeros(3, 4, 8, 8), 8, 52, "crf must lie between 0 and 51, got 52"),
    ],
)
def test_refusals(tmp_path, pixels, fps, crf, message):
    with pytest.raises(InputError, match=message):
        write_video(tmp_path / "a.mp4", pixels, fps, crf=crf)
    assert list(tmp_path.iterdir()) == []
