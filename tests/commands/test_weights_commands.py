"""`vdit import`, `export` and `verify`, as a person types them."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from vdit.codecs.folder import load_codec
from vdit.commands.command import run_command
from vdit.commands.export_weights import main as export
from vdit.commands.import_weights import main as import_
from vdit.commands.verify import main as verify

ORACLE = Path(__file__).parents[1] / "oracle"
CASES = [str(ORACLE / name) for name in ("wan21_vae", "wan22_vae", "hunyuan_vae")]
WEIGHTS = "outputs.safetensors"


@pytest.fixture
def case(tmp_path: Path) -> Path:
    return Path(shutil.copytree(ORACLE / "wan21_vae", tmp_path / "wan21_vae"))


def test_every_case_passes_in_every_layout(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert verify(["import", *CASES, "--save", str(tmp_path / "saved")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 6
    assert all(line.endswith("  ok") for line in lines)
    saved = load_file(tmp_path / "saved/wan22_vae/original.safetensors")
    assert saved.keys() == load_file(ORACLE / "wan22_vae" / WEIGHTS).keys()


def test_a_wrong_number_fails_its_case_and_the_others_go_on(case: Path, capsys: pytest.CaptureFixture[str]):
    expected = load_file(case / WEIGHTS)
    expected["latent"][0, 0, 0, 0, 0] += 1e-4
    save_file(expected, case / WEIGHTS)
    assert verify(["import", str(case), CASES[2]]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.endswith("FAIL") for line in lines] == [True, True, False, False]
    assert "absolute 1.0e-04" in lines[0]


def test_weights_that_cannot_be_imported_fail_with_their_reason(
    case: Path, capsys: pytest.CaptureFixture[str]
):
    weights = torch.load(case / "original/Wan2.1_VAE.pth", weights_only=True)
    weights["conv3.weight"] = weights.pop("conv1.weight")
    torch.save(weights, case / "original/Wan2.1_VAE.pth")
    assert verify(["import", str(case)]) == 1
    original, diffusers = capsys.readouterr().out.splitlines()
    assert "FAIL" in original
    assert "1 missing: conv1.weight; 1 unexpected: conv3.weight" in original
    assert diffusers.endswith("ok")


def test_an_output_that_is_missing_or_of_another_shape_fails(case: Path, capsys: pytest.CaptureFixture[str]):
    expected = load_file(case / WEIGHTS)
    save_file(expected | {"mystery": torch.zeros(1)}, case / WEIGHTS)
    assert verify(["import", str(case)]) == 1
    assert "FAIL  no mystery came out" in capsys.readouterr().out
    save_file(expected | {"latent": torch.zeros(1)}, case / WEIGHTS)
    assert verify(["import", str(case)]) == 1
    assert "FAIL  latent is [1, 4, 2, 2, 3], not [1]" in capsys.readouterr().out


def test_a_case_without_weights_fails(case: Path, capsys: pytest.CaptureFixture[str]):
    shutil.rmtree(case / "original")
    shutil.rmtree(case / "diffusers")
    assert verify(["import", str(case)]) == 1
    assert "it has neither original/ nor diffusers/" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "is no import case: it has no config.json"),
        ("{", "is not the configuration of an import case"),
        ("{}", "is not the configuration of an import case: KeyError('family')"),
        ('{"family": "sora"}', "is a case of sora; known are wan_vae21"),
    ],
)
def test_what_is_no_case_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str | None, told: str
):
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    assert run_command(verify, ["import", str(tmp_path)]) == 2
    assert told in capsys.readouterr().err


def told_by_import(arguments: Sequence[str | Path], capsys: pytest.CaptureFixture[str]) -> str:
    assert run_command(import_, [str(argument) for argument in arguments]) == 2
    return capsys.readouterr().err


def test_a_codec_comes_in_from_one_layout_and_leaves_in_the_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    config = tmp_path / "tiny.yaml"
    sizes = {"latent_channels": 4, "encoder_width": 2, "decoder_width": 2}
    config.write_text(json.dumps({"class_path": "vdit.codecs.wan.codec.WanCodec", "init_args": sizes}))
    weights, out = ORACLE / "wan21_vae/original/Wan2.1_VAE.pth", tmp_path / "codec"
    assert import_(["--codec", str(config), "--from", str(weights), "--to", str(out)]) == 0
    assert "0.1 M weights in the original layout, now in" in capsys.readouterr().out
    assert json.loads((out / "codec.json").read_text())["imported"] == {
        "file": "Wan2.1_VAE.pth",
        "layout": "original",
        "dtype": "float32",
    }
    assert export(["--from", str(out), "--layout", "diffusers", "--to", str(tmp_path / "vae")]) == 0
    again = tmp_path / "again"
    assert import_(["--from", str(tmp_path / "vae"), "--to", str(again)]) == 0
    assert export(["--from", str(again), "--layout", "original", "--to", str(tmp_path / "vae.pth")]) == 0
    before, after = (torch.load(file, weights_only=True) for file in (weights, tmp_path / "vae.pth"))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    pixels = torch.rand(1, 3, 5, 16, 16) * 2 - 1
    assert torch.equal(load_codec(out).encode(pixels), load_codec(again).encode(pixels))


def test_an_import_that_fails_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    out, hunyuan = tmp_path / "codec", ORACLE / "hunyuan_vae/diffusers"
    wan = "configs/codec/wan_2_1.yaml"
    told = told_by_import(["--codec", wan, "--from", hunyuan, "--to", out], capsys)
    assert "does not fit the diffusers layout of this model: 190 missing" in told
    lonely = tmp_path / "lonely.pth"
    shutil.copyfile(ORACLE / "wan21_vae/original/Wan2.1_VAE.pth", lonely)
    told = told_by_import(["--from", lonely, "--to", out], capsys)
    assert "there is no config.json beside" in told
    lonely.write_bytes(lonely.read_bytes()[:1000])
    told = told_by_import(["--codec", wan, "--from", lonely, "--to", out], capsys)
    assert "lonely.pth cannot be read as weights" in told
    told = told_by_import(["--codec", "configs/model/native_1m.yaml", "--from", hunyuan, "--to", out], capsys)
    assert "is no configuration of a codec" in told
    (tmp_path / "config.json").write_text("[1]")
    told = told_by_import(["--from", lonely, "--to", out], capsys)
    assert "lonely.pth cannot be read" in told
    assert not out.exists()
    (out).mkdir()
    (out / "codec.json").write_text("{}")
    assert "holds a codec already" in told_by_import(["--from", hunyuan, "--to", out], capsys)


def test_an_export_that_cannot_be_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    kept = "configs/codec/flat_24"
    for options, told in [
        (
            ["--from", kept, "--layout", "diffusers", "--to", str(tmp_path / "vae")],
            "a NativeCodec has no published layout",
        ),
        (
            ["--from", kept, "--layout", "original", "--to", str(tmp_path / "vae")],
            "must be a file for the original layout",
        ),
        (
            ["--from", kept, "--layout", "diffusers", "--to", "vae.pth"],
            "must be a folder for the diffusers layout",
        ),
        (
            ["--from", "nowhere", "--layout", "diffusers", "--to", "vae"],
            "nowhere holds no codec, no run and no model",
        ),
    ]:
        assert run_command(export, options) == 2
        assert told in capsys.readouterr().err
    assert not (tmp_path / "vae").exists()


def test_an_export_onto_a_full_disk_leaves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    assert import_(["--from", str(ORACLE / "wan21_vae/diffusers"), "--to", str(tmp_path / "codec")]) == 0

    def full(tensors: object, file: Path) -> None:
        Path(file).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    options = [
        "--from",
        str(tmp_path / "codec"),
        "--layout",
        "original",
        "--to",
        str(tmp_path / "out/vae.pth"),
    ]
    assert run_command(export, options) == 2
    assert "the disk is full" in capsys.readouterr().err
    assert not list((tmp_path / "out").iterdir())
