"""Files that were cut off are found, trimmed ones are not taken for them, and frames are found by number."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from numbered import numbered, numbers_of, write

from vdit.data.cut import ClipCut
from vdit.data.decode import UnreadableVideo, open_video, probe
from vdit.data.folder import FolderSource
from vdit.data.transforms import ResampleFps

MEDIA = Path(__file__).parent / "media"


def fragmented(path: Path) -> Path:
    with av.open(
        str(path), "w", options={"movflags": "frag_keyframe+empty_moov+default_base_moof"}
    ) as container:
        stream = container.add_stream("libx264", rate=30, options={"g": "15"})
        stream.height, stream.width, stream.pix_fmt = 96, 128, "yuv420p"
        for k in range(60):
            frame = av.VideoFrame.from_ndarray(numbered(k), format="rgb24")
            frame.pts = k
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize(
    ("name", "codec", "share"),
    [
        ("a.mkv", "libx264", 0.97),
        ("a.webm", "libvpx", 0.97),
        ("a.avi", "mpeg4", 0.5),
        ("a.wmv", "wmv2", 0.5),
        ("a.flv", "flv", 0.5),
        ("a.gif", "gif", 0.9),
        ("a.mxf", "mpeg2video", 0.5),
        ("fragmented.mp4", "", 0.9),
    ],
)
def test_what_was_cut_off_is_found(tmp_path, name, codec, share):
    path = tmp_path / name
    if codec:
        write(
            path,
            60,
            25,
            codec,
            "rgb8" if codec == "gif" else "yuv420p",
            {"b": "1M"} if codec != "gif" else None,
        )
    else:
        fragmented(path)
    video = open_video(path)
    assert numbers_of(video.read(0, 60)) == list(range(60))
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(UnreadableVideo, match=r"truncated|damaged"):
        probe(path)


@pytest.mark.parametrize(("ending", "step"), [("ts", 188), ("m2ts", 192)])
@pytest.mark.parametrize("codec", ["libx264", "mpeg2video"])
def test_a_transport_stream_is_truncated_where_a_packet_is_cut(tmp_path, ending, step, codec):
    path = write(tmp_path / f"a.{ending}", 60, 25, codec, options={"b": "1M"})
    whole = path.read_bytes()
    assert len(whole) % step == 0
    assert probe(path).frames == 60
    packets = len(whole) * 2 // 3 // step
    for cut in (5, 100, step - 1):
        path.write_bytes(whole[: packets * step + cut])
        with pytest.raises(UnreadableVideo, match=rf"truncated: its last packet lacks {step - cut} bytes"):
            probe(path)
    for end in (b"", b"junk that is no packet"):
        path.write_bytes(whole[: packets * step] + end)
        assert 20 < probe(path).frames < 60
    path.write_bytes(whole[7:])  # begun anywhere
    assert probe(path).frames > 20


def test_a_transport_stream_with_checks_behind_its_packets_is_whole(tmp_path):
    path = write(tmp_path / "a.ts", 20, 25)
    raw = path.read_bytes()
    checked = b"".join(raw[at : at + 188] + bytes(16) for at in range(0, len(raw), 188))
    path.write_bytes(checked)
    assert probe(path).frames == 20
    path.write_bytes(checked[:-50])
    with pytest.raises(UnreadableVideo, match="truncated: its last packet lacks 50 bytes"):
        probe(path)


@pytest.mark.parametrize("name", ["edit_start_trim.mp4", "edit_end_trim.mp4", "edit_both_trim.mp4"])
def test_what_was_cut_off_is_found_beside_an_edit_list(tmp_path, name):
    """The index is moved to the front, so that the file can be opened without its end."""
    raw = (MEDIA / name).read_bytes()
    boxes, at = {}, 0
    while at < len(raw):
        size = int.from_bytes(raw[at : at + 4], "big")
        boxes[raw[at + 4 : at + 8]] = (at, size)
        at += size
    (media, _), (index, length) = boxes[b"mdat"], boxes[b"moov"]
    moov = bytearray(raw[index : index + length])
    for found in range(len(moov) - 4):
        if moov[found : found + 4] == b"stco":
            for k in range(int.from_bytes(moov[found + 8 : found + 12], "big")):
                place = slice(found + 12 + 4 * k, found + 16 + 4 * k)
                moov[place] = (int.from_bytes(moov[place], "big") + length).to_bytes(4, "big")
    fast = raw[:media] + bytes(moov) + raw[media:index]
    path = tmp_path / name
    path.write_bytes(fast)
    assert torch.equal(open_video(path).read(0, 30), open_video(MEDIA / name).read(0, 30))
    path.write_bytes(fast[: -len(raw[media:index]) // 2])
    with pytest.raises(UnreadableVideo, match=r"truncated: \d+ of \d+ frames"):
        probe(path)


def resized(path: Path, sizes: list[tuple[int, int]], each: int = 10) -> Path:
    """A file whose picture has these sizes one after the other, its packets taken from files of one size."""
    with av.open(str(path), "w") as out:
        stream, place = None, 0
        for part, (h, w) in enumerate(sizes):
            source = write(
                path.with_name(f"{part}.webm"), [numbered(k, h, w) for k in range(each)], codec="libvpx"
            )
            with av.open(str(source)) as container:
                stream = stream or out.add_stream_from_template(container.streams.video[0])
                for packet in container.demux(video=0):
                    if packet.size:
                        packet.pts = packet.dts = place * 33
                        packet.time_base, packet.stream = Fraction(1, 1000), stream
                        out.mux(packet)
                        place += 1
    return path


@pytest.mark.parametrize(
    "sizes", [[(48, 64), (96, 128)], [(48, 64), (96, 128), (48, 64)], [(48, 64), (64, 48)]], ids=str
)
def test_a_picture_that_changes_its_size_is_skipped_by_name(tmp_path, sizes):
    (tmp_path / "parts").mkdir()
    changed = resized(tmp_path / "parts" / "changed.webm", sizes)
    folder = tmp_path / "videos"
    folder.mkdir()
    changed.rename(folder / "changed.webm")
    write(folder / "plain.mp4", 10)
    for verify in (False, True):
        source = FolderSource(folder, ClipCut(frames=5, height=32, width=32), verify=verify)
        assert [name for name, _ in source.report.skipped] == ["changed.webm"]
        assert "its picture changes from 64x48 to" in source.report.skipped[0][1]
        assert len(source) == 1


def test_a_size_that_the_scan_did_not_meet_is_told_by_name_when_it_is_decoded(tmp_path):
    """Of many key frames the scan decodes a few."""
    path = resized(tmp_path / "a.webm", [(48, 64)] * 3 + [(96, 128)] + [(48, 64)] * 8, each=4)
    table = open_video(path)
    with pytest.raises(UnreadableVideo, match=r"a.webm: its picture changes from 64x48 to 128x96"):
        table.read(0, 48)
    assert numbers_of(table.read(0, 4)) == [0, 1, 2, 3]


@pytest.mark.parametrize("ending", ["avi", "ts", "wmv", "mkv", "mp4", "m2ts", "mpg"])
@pytest.mark.parametrize("codec", ["libx264", "mpeg4", "mpeg2video", "libx265"])
def test_frames_are_found_by_number_where_groups_are_open_and_stamps_begin_anywhere(tmp_path, ending, codec):
    refused = {
        ("wmv", "mpeg2video"),
        ("wmv", "libx265"),
        ("avi", "libx265"),
        ("mpg", "libx265"),
        ("mpg", "mpeg4"),
    }
    if (ending, codec) in refused:
        pytest.skip("the container does not hold it")
    options = {
        "libx264": {"x264-params": "open-gop=1:keyint=8:bframes=3:log-level=none"},
        "libx265": {"x265-params": "open-gop=1:keyint=8:bframes=3:log-level=none"},
    }.get(codec, {"bf": "2", "g": "8", "b": "2M"})
    path = write(tmp_path / f"a.{ending}", 40, 25, codec, options=options, stamps=range(100, 140))
    video = open_video(path)
    everything = video.read(0, 40)
    assert numbers_of(everything) == list(range(40))
    for numbers in ([7, 8, 9], [6], [17, 23], [39, 0], list(range(14, 26))):
        assert torch.equal(video.frames(numbers), everything[:, numbers])


def test_a_recording_that_begins_within_a_group_has_the_frames_that_can_be_decoded(tmp_path):
    path = write(
        tmp_path / "a.ts", 60, 25, options={"x264-params": "open-gop=1:keyint=12:bframes=3:log-level=none"}
    )
    raw = path.read_bytes()
    path.write_bytes(raw[len(raw) // 3 // 188 * 188 :])
    with av.open(str(path)) as container:
        truth = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    video = open_video(path)
    expected = numbers_of(torch.from_numpy(np.stack(truth)).permute(3, 0, 1, 2))
    assert 20 < len(expected) < 50
    assert numbers_of(video.read(0, video.table.info.frames)) == expected
    assert numbers_of(video.read(9, 3)) == expected[9:12]


def test_a_last_frame_that_stands_for_long_is_no_missing_end(tmp_path):
    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.height, stream.width, stream.pix_fmt = 96, 128, "yuv420p"
        for k in range(10):
            frame = av.VideoFrame.from_ndarray(numbered(k), format="rgb24")
            frame.pts = k
            for packet in stream.encode(frame):
                packet.duration = 1 if k < 9 else 50
                container.mux(packet)
    info = probe(tmp_path / "a.mkv")
    assert (info.frames, info.fps, info.duration) == (10, 10, pytest.approx(5.9))
    table = open_video(tmp_path / "a.mkv").table
    assert ResampleFps(10)(table.times, info.duration).tolist() == [*range(9), *[9] * 50]


@pytest.mark.parametrize(
    ("second", "pixels", "aspect", "reason"),
    [
        ((64, 96), "yuv420p", 1, "its picture changes from 128x96 to 96x64"),
        ((96, 128), "yuv420p", 2, "the shape of its pixels changes, from 1 to 2"),
        ((96, 128), "yuv444p", 1, None),
        ((96, 128), "yuv420p10le", 1, None),
    ],
)
def test_a_stream_that_changes_on_its_way_is_read_or_refused_by_name(
    tmp_path, second, pixels, aspect, reason
):
    def mark(stream):
        stream.codec_context.sample_aspect_ratio = Fraction(aspect)

    def plain(stream):
        stream.codec_context.sample_aspect_ratio = Fraction(1)

    one = write(tmp_path / "1.ts", 20, 25, setup=plain)
    two = write(
        tmp_path / "2.ts", [numbered(20 + k, *second) for k in range(20)], 25, pixels=pixels, setup=mark
    )
    path = tmp_path / "a.ts"
    path.write_bytes(one.read_bytes() + two.read_bytes())
    if reason is None:
        assert numbers_of(open_video(path).read(0, 40)) == list(range(40))
    else:
        with pytest.raises(UnreadableVideo, match=reason):
            probe(path)
