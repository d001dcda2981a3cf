import io
import shutil
import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from moving_waves import moving_waves

from vdit.data.decode import UnreadableVideo, open_video, probe, require_decoder, scan
from vdit.sample.video_file import write_video
from vdit.types import InputError


@pytest.fixture
def video(tmp_path) -> Path:
    path = tmp_path / "a.mp4"
    write_video(path, moving_waves(60, 48, 64), Fraction(30000, 1001))
    return path


def encode(
    path: Path,
    codec: str,
    frames: int,
    rate: int,
    stamps: list[int] | None = None,
    options: dict[str, str] | None = None,
) -> None:
    from av.video.stream import VideoStream

    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, options=options)
        assert isinstance(stream, VideoStream)
        stream.height, stream.width = 48, 64
        stream.pix_fmt = "rgb8" if codec == "gif" else "yuv420p"
        for number, rgb in enumerate(
            moving_waves(frames, 48, 64).add(1).mul(127.5).byte().permute(1, 2, 3, 0)
        ):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb.numpy()), format="rgb24")
            frame.pts = number if stamps is None else stamps[number]
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def test_the_true_rate_and_count_are_read(video):
    info = probe(video)
    assert (info.frames, info.height, info.width, info.fps) == (60, 48, 64, Fraction(30000, 1001))
    assert info.duration == pytest.approx(60 * 1001 / 30000)


def test_any_frame_is_the_same_as_in_a_full_read(video):
    reader = open_video(video)
    everything = reader.read(0, 60)
    assert everything.dtype == torch.uint8
    for start, count, stride in [(0, 5, 1), (31, 9, 3), (59, 1, 1), (7, 2, 50)]:
        assert torch.equal(
            reader.read(start, count, stride),
            everything[:, start : start + (count - 1) * stride + 1 : stride],
        )
    assert torch.equal(reader.frames([4, 4, 2]), everything[:, [4, 4, 2]])


def test_reading_past_the_end_is_refused(video):
    with pytest.raises(
        InputError, match=r"10 frames from 55 with stride 1 end at frame 64.*holds 60 \(0 to 59\)"
    ):
        open_video(video).read(55, 10)
    with pytest.raises(InputError, match="from -1"):
        open_video(video).read(-1, 2)


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("a.mkv", "libx264", {}),
        ("a.mov", "libx264", {"bf": "3"}),
        ("a.webm", "libvpx-vp9", {"b": "300k"}),
        ("vp8.webm", "libvpx", {"b": "300k"}),
        ("a.gif", "gif", {}),
    ],
)
def test_containers(tmp_path, name, codec, options):
    path = tmp_path / name
    encode(path, codec, 45, 20, options=options)
    reader = open_video(path)
    info = reader.table.info
    assert (info.frames, info.fps) == (45, 20)
    everything = reader.read(0, 45)
    assert torch.equal(reader.read(30, 5), everything[:, 30:35])
    wrong_by = (everything.float() / 127.5 - 1 - moving_waves(45, 48, 64)).abs().mean(dim=(0, 2, 3))
    assert wrong_by.max() < 0.15  # neighbouring frames are 0.06 apart; GIF has 256 colours
    assert (wrong_by < 0.05).all() or codec == "gif"


def test_hidden_reference_frames_are_not_counted(tmp_path):
    encode(tmp_path / "plain.webm", "libvpx", 45, 20)
    path = tmp_path / "hidden.webm"
    with av.open(str(tmp_path / "plain.webm")) as plain, av.open(str(path), "w") as hidden:
        stream = hidden.add_stream_from_template(plain.streams.video[0])
        for packet in plain.demux(video=0):
            if not packet.size:
                continue
            content, stamp = bytearray(bytes(packet)), packet.pts
            packet.stream = stream
            hidden.mux(packet)
            if stamp == 1000:  # the same frame once more, marked as one that is not to be shown
                content[0] &= 0b11101111
                extra = av.Packet(bytes(content))
                extra.pts = extra.dts = stamp + 10
                extra.time_base, extra.stream = Fraction(1, 1000), stream
                hidden.mux(extra)
    with av.open(str(path)) as container:
        assert sum(packet.size > 0 for packet in container.demux(video=0)) == 46
    assert probe(path).frames == 45
    assert open_video(path).read(0, 45).shape == (3, 45, 48, 64)


def test_uneven_frame_times_are_kept(tmp_path):
    path = tmp_path / "uneven.mkv"
    stamps = [0, 1, 2, 6, 7, 20]
    encode(path, "libx264", 6, 10, stamps)
    np.testing.assert_allclose(scan(path).times, np.array(stamps) / 10, atol=1e-3)


@pytest.mark.parametrize(
    ("turns", "matrix"), [(-1, (0, 1, 0, -1, 0, 0)), (2, (-1, 0, 0, 0, -1, 0)), (1, (0, -1, 0, 1, 0, 0))]
)
def test_rotation_marks_are_honoured(video, tmp_path, turns, matrix):
    upright = open_video(video).read(3, 2)
    raw = bytearray(video.read_bytes())
    place = raw.index(b"tkhd") + 4 + 40  # the display matrix of the track header, ISO 14496-12 8.3.2
    raw[place : place + 24] = struct.pack(">6i", *(value << 16 for value in matrix))
    turned = tmp_path / "turned.mp4"
    turned.write_bytes(raw)
    expected = torch.rot90(upright, turns, (2, 3))
    assert (probe(turned).height, probe(turned).width) == tuple(expected.shape[2:])
    assert torch.equal(open_video(turned).read(3, 2), expected)


def test_an_image_is_a_video_of_one_frame(tmp_path):
    from PIL import Image

    path = tmp_path / "still.PNG"
    Image.new("RGB", (40, 30), (255, 0, 128)).save(path)
    assert (probe(path).frames, probe(path).height, probe(path).width) == (1, 30, 40)
    assert open_video(path).read(0, 1)[:, 0, 7, 9].tolist() == [255, 0, 128]
    path.write_bytes(b"no image")
    with pytest.raises(UnreadableVideo, match="Pillow cannot read"):
        probe(path)


@pytest.mark.parametrize("ending", [".mp4", ".mkv", ".avi"])
def test_tags_that_are_no_utf8_keep_no_file_out(tmp_path, ending):
    path = tmp_path / f"a{ending}"
    with av.open(str(path), "w") as container:
        container.metadata["title"] = "TITLE"
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8))))
        container.mux(stream.encode())
    path.write_bytes(path.read_bytes().replace(b"TITLE", b"caf\xe9!"))
    assert probe(path).frames == 1


def test_a_length_that_is_no_time_is_passed_over(tmp_path):
    encode(tmp_path / "a.mkv", "libx264", 5, 20)
    whole = (tmp_path / "a.mkv").read_bytes()
    assert b"00:00:00.2" in whole
    (tmp_path / "a.mkv").write_bytes(whole.replace(b"00:00:00.2", b"00:00:ab.c"))
    assert probe(tmp_path / "a.mkv").frames == 5


def test_a_video_without_a_decoder_is_refused_by_name(tmp_path):
    encode(tmp_path / "a.mkv", "mpeg4", 5, 20)
    whole = (tmp_path / "a.mkv").read_bytes()
    (tmp_path / "a.mkv").write_bytes(whole.replace(b"V_MPEG4/ISO/ASP", b"V_MPEG9/ISO/ASP"))
    with pytest.raises(UnreadableVideo, match="no decoder for its video"):
        probe(tmp_path / "a.mkv")


def test_a_name_is_never_an_address(video, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("http:a.mp4", "file:a.mp4", "concat:a|b.mp4", "-a.mp4", "%03d.mp4"):
        shutil.copy(video, name)
        assert probe(name).frames == 60


def test_a_file_that_names_others_is_refused(video):
    other = video.with_name("b.mp4")
    other.write_text("ffconcat version 1.0\nfile a.mp4\nfile a.mp4\n")
    with pytest.raises(UnreadableVideo, match="list of other files"):
        probe(other)


def test_pictures_with_the_notes_of_a_camera_are_read_and_stand_upright(tmp_path):
    from PIL import Image

    path, still = tmp_path / "a.avi", Image.new("RGB", (64, 48), (200, 40, 40))
    still.paste((40, 40, 200), (0, 0, 64, 24))
    notes = still.getexif()
    notes[0x0112] = 6  # to be turned clockwise: what is above comes to the right
    jpeg = io.BytesIO()
    still.save(jpeg, "JPEG", exif=notes, quality=95)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuvj420p"
        for k in range(3):
            packet = av.Packet(jpeg.getvalue())
            packet.stream, packet.pts, packet.dts = stream, k, k
            packet.time_base, packet.is_keyframe = Fraction(1, 10), True
            container.mux(packet)
    pixels = open_video(path).read(0, 3)
    assert pixels.shape == (3, 3, 64, 48)
    assert pixels[0, 2, 30, 8] > 190
    assert pixels[2, 2, 30, 40] > 190


def test_damage_is_named(video, tmp_path):
    whole = video.read_bytes()
    cases = {
        "empty": (b"", r"empty \(0 bytes\)"),
        "text": (b"this is no video\n" * 50, "FFmpeg cannot read it"),
        "head": (whole[:200], "no video stream|cannot read"),
        "half": (whole[: len(whole) // 2], r"truncated: \d+ of 60 frames"),
    }
    for name, (content, reason) in cases.items():
        path = tmp_path / f"{name}.mp4"
        path.write_bytes(content)
        with pytest.raises(UnreadableVideo, match=reason) as caught:
            probe(path)
        assert caught.value.path == path
        assert str(path) in str(caught.value)
    with pytest.raises(UnreadableVideo, match="no such file"):
        probe(tmp_path / "absent.mp4")
    encode(tmp_path / "a.mkv", "libx264", 60, 20)
    whole = (tmp_path / "a.mkv").read_bytes()
    (tmp_path / "a.mkv").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UnreadableVideo, match=r"truncated: \d\.\d of 3\.0 seconds"):
        probe(tmp_path / "a.mkv")


def test_pictures_patched_up_by_the_decoder_are_refused(tmp_path):
    path = tmp_path / "a.mp4"
    noisy = moving_waves(4, 64, 64) + 0.2 * torch.randn(
        3, 4, 64, 64, generator=torch.Generator().manual_seed(0)
    )
    write_video(path, noisy, 24)
    raw = bytearray(path.read_bytes())
    start = raw.index(b"mdat") + 2000  # inside the first frame
    raw[start : start + 40] = bytes(byte ^ 0xFF for byte in raw[start : start + 40])
    path.write_bytes(raw)
    with pytest.raises(UnreadableVideo, match="first frame cannot be decoded"):
        probe(path)


def test_a_sound_file_holds_no_video(tmp_path):
    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 16000), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with pytest.raises(UnreadableVideo, match="no video stream"):
        probe(path)


def test_unknown_and_missing_decoders_are_refused(monkeypatch):
    with pytest.raises(InputError, match="'opencv' is unknown"):
        require_decoder("opencv")  # type: ignore[arg-type]
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'vdit-video\[decord\]'"):
        require_decoder("decord")


@pytest.mark.parametrize(
    ("name", "frames", "size", "fps"),
    [
        ("bikes.mp4", 250, (272, 640), 25),
        ("carphone_pristine.mp4", 120, (144, 193), Fraction(30000, 1001)),
        ("bigbuckbunny.mp4", 132, (720, 1280), 25),
    ],
)
def test_real_videos(real_videos, name, frames, size, fps):
    table = scan(real_videos / name)
    assert (table.info.frames, table.info.height, table.info.width, table.info.fps) == (frames, *size, fps)
    reader = open_video(real_videos / name, table=table)
    assert torch.equal(reader.read(60, 8)[:, 5:], reader.read(65, 3))
    assert reader.read(frames - 1, 1).float().std() > 10  # a picture, not a flat field
