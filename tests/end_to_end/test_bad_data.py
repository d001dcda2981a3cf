"""What a user's own videos can do to a training."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml

from vdit.commands.train import main as train
from vdit.sample.video_file import write_video


def some_video(file: Path, seed: int) -> None:
    """A square that moves."""
    pixels = torch.full((3, 8, 24, 24), -0.5)
    for t in range(8):
        pixels[seed % 3, t, 4 + seed : 12 + seed, 2 * t : 2 * t + 6] = 0.8
    write_video(file, pixels, 8)


def test_a_folder_without_videos_is_refused_before_a_run_begins(folder_config, command, tmp_path: Path):
    videos, out = tmp_path / "videos", tmp_path / "run"
    status, said = command(train, "--config", folder_config(videos), "--out", out)
    assert status == 2
    assert f"there is no folder {videos}" in said
    videos.mkdir()
    (videos / "notes.txt").write_text("no video")
    status, said = command(train, "--config", folder_config(videos), "--out", out)
    assert status == 2
    assert "holds no videos; the accepted endings are" in said
    assert not out.exists()


def test_an_unreadable_file_is_named_and_the_others_are_trained_on(folder_config, command, tmp_path: Path):
    videos, out = tmp_path / "videos", tmp_path / "run"
    for seed in range(4):
        some_video(videos / f"{seed}.mp4", seed)
    whole = (videos / "0.mp4").read_bytes()
    (videos / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    (videos / "text.mp4").write_text("this is no video")
    status, said = command(train, "--config", folder_config(videos), "--out", out)
    assert status == 0, said
    assert "training: 4 clips of 4 videos" in said
    assert "2 files were skipped: cut.mp4: " in said
    assert "text.mp4: " in said
    assert (out / "codec/weights.safetensors").is_file()


def test_a_folder_of_unreadable_files_alone_is_refused(folder_config, command, tmp_path: Path):
    videos = tmp_path / "videos"
    videos.mkdir()
    (videos / "empty.mp4").write_bytes(b"")
    status, said = command(train, "--config", folder_config(videos), "--out", tmp_path / "run")
    assert status == 2
    assert "none of the 1 videos of the folder" in said
    assert "empty.mp4: the file is empty (0 bytes)" in said


def test_clips_that_do_not_fit_the_codec_are_refused(folder_config, command, tmp_path: Path):
    videos, config = tmp_path / "videos", folder_config(tmp_path / "videos")
    some_video(videos / "a.mp4", 0)
    config.write_text(config.read_text().replace("frames: 5", "frames: 6"))
    status, said = command(train, "--config", config, "--out", tmp_path / "run")
    assert status == 2
    assert "6 frames do not fit this codec, which takes 1 + 2n: use 5 or 7" in said
    assert not (tmp_path / "run").exists()


@pytest.fixture
def captioned(place: Path, tmp_path: Path, flow_config: Path) -> Callable[..., Path]:
    """`captioned(*captions)`: a flow run's configuration on a folder, a caption or None for each."""

    def write(*captions: str | None, **settings: object) -> Path:
        videos = tmp_path / "videos"
        for i, caption in enumerate(captions):
            some_video(videos / f"{i}.mp4", i)
            (videos / f"{i}.txt").unlink(missing_ok=True)
            if caption is not None:
                (videos / f"{i}.txt").write_text(caption)
        values = yaml.safe_load(flow_config.read_text())
        cut = {"frames": 5, "height": 16, "width": 16}
        where = {"path": str(videos), "cut": cut}
        values["data"]["train"] = {"class_path": "vdit.data.folder.FolderSource", "init_args": where}
        values["task"]["init_args"].update(settings)
        values["task"]["init_args"]["text"]["init_args"]["max_tokens"] = 4
        values["loop"] = {"steps": 1, "batch": 2}
        config = tmp_path / "captioned.yaml"
        config.write_text(yaml.safe_dump(values))
        return config

    return write


def test_a_run_on_text_without_captions_is_refused(captioned, command, tmp_path: Path):
    out = tmp_path / "run"
    status, said = command(train, "--config", captioned(None, None, " \n"), "--out", out)
    assert status == 2
    assert "none of the 3 training clips has a caption" in said
    assert not out.exists()
    status, said = command(train, "--config", captioned(None, None, caption_drop=1.0), "--out", out)
    assert status == 0, said


def test_what_is_cut_and_missing_is_told_at_each_start(captioned, command, tmp_path: Path):
    config, out = captioned("a red circle", None, "a small blue square moving left"), tmp_path / "run"
    (tmp_path / "videos" / "notes.docx").touch()
    for options in (["--dry-run"], []):  # the second finds all embeddings in the cache
        status, said = command(train, "--config", config, "--out", out, *options)
        assert status == 0, said
        assert "training: 3 clips of 3 videos" in said
        assert "6 files seen: 5 used, 0 skipped, 1 not understood" in said
        assert "notes.docx: the ending .docx is not known" in said
        assert "training: 1 of 3 clips have no caption" in said
        assert "training: 1 caption, of 1 clip, is longer than the 4 tokens" in said
        assert 'Not read: "moving left" of "a small blue square moving left' in said
        assert (out / "left_out.json").exists() == (not options)
    told = json.loads((out / "left_out.json").read_text())["training"]
    assert told["sources"][0]["not_understood"] == [["notes.docx", "the ending .docx is not known"]]
    assert [cut["left_out"] for cut in told["captions"]["cut"]] == ["moving left"]
