"""What is no whole release is refused with a list and a remedy, and nothing is written."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from vdit.commands.command import run_command
from vdit.commands.export_weights import main as export
from vdit.commands.import_weights import main as import_

WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture
def refused(
    tiny: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """`refused(variant, layout, spoil)`: what an import says of a release that `spoil` has touched."""

    def refuse(variant: str, layout: str, spoil: Callable[[Path], object]) -> str:
        model, release = tiny(variant), tmp_path / "release"
        assert run_command(export, ["--from", str(model), "--layout", layout, "--to", str(release)]) == 0
        spoil(release)
        before = sorted(tmp_path.rglob("*"))
        codec = str(model.parent / "codec.yaml")
        capsys.readouterr()
        line = ["--from", str(release), "--to", str(tmp_path / "out"), "--codec", codec]
        assert run_command(import_, line) == 2
        assert sorted(tmp_path.rglob("*")) == before
        return capsys.readouterr().err

    return refuse


def cut(file: Path, keep: float = 0.6) -> None:
    content = file.read_bytes()
    file.write_bytes(content[: int(keep * len(content))])


def rewrite(file: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file)


def test_a_folder_of_something_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "readme.txt").write_text("hello")
    assert run_command(import_, ["--from", str(tmp_path), "--to", str(tmp_path / "out")]) == 2
    assert "holds no weights" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("gone", "told"),
    [
        ("Wan2.1_VAE.pth", "it lacks Wan*_VAE.pth. Fetch all of the repository"),
        ("google", "it lacks google/umt5-xxl/"),
        (WEIGHTS, "it lacks diffusion_pytorch_model*.safetensors, or high_noise_model/ and low_noise_model/"),
    ],
)
def test_parts_that_are_missing(refused: Callable[..., str], gone: str, told: str):
    def spoil(folder: Path) -> None:
        shutil.rmtree(folder / gone) if (folder / gone).is_dir() else (folder / gone).unlink()

    assert told in refused("wan_2_1_t2v", "original", spoil)


def test_a_shard_that_was_cut_short(refused: Callable[..., str]):
    assert "cannot be read as safetensors" in refused("wan_2_1_t2v", "original", lambda f: cut(f / WEIGHTS))


def test_a_download_that_did_not_end(refused: Callable[..., str]):
    told = refused("wan_2_1_t2v", "diffusers", lambda f: (f / "vae/x.safetensors.incomplete").touch())
    assert "holds downloads that did not end: vae/x.safetensors.incomplete; fetch them again" in told


def test_shards_without_all_their_files(refused: Callable[..., str]):
    def spoil(folder: Path) -> None:
        tensors = load_file(folder / WEIGHTS)
        (folder / WEIGHTS).unlink()
        parts = [f"diffusion_pytorch_model-0000{i}-of-00002.safetensors" for i in (1, 2)]
        places = {name: parts[i % 2] for i, name in enumerate(tensors)}
        save_file(
            {name: value for name, value in tensors.items() if places[name] == parts[0]}, folder / parts[0]
        )
        (folder / f"{WEIGHTS}.index.json").write_text(json.dumps({"weight_map": places}))

    told = refused("wan_2_1_t2v", "original", spoil)
    assert "names files that are not there: diffusion_pytorch_model-00002-of-00002.safetensors" in told


def test_names_that_are_not_known(refused: Callable[..., str]):
    def spoil(folder: Path) -> None:
        rewrite(folder / WEIGHTS, lambda t: t.update(blocks_9=t.pop("blocks.1.self_attn.q.weight")))

    told = refused("wan_2_1_t2v", "original", spoil)
    assert "1 missing: blocks.1.self_attn.q.weight; 1 unexpected: blocks_9" in told


def test_experts_of_two_models(refused: Callable[..., str]):
    def spoil(folder: Path) -> None:
        config = json.loads((folder / "low_noise_model/config.json").read_text())
        config["num_layers"] = 1
        (folder / "low_noise_model/config.json").write_text(json.dumps(config))
        rewrite(
            folder / "low_noise_model" / WEIGHTS,
            lambda t: [t.pop(name) for name in list(t) if name.startswith("blocks.1.")],
        )

    assert "are of different models: depth differ" in refused("wan_2_2_t2v_a14b", "original", spoil)


def test_a_text_encoder_of_another_model(refused: Callable[..., str]):
    def spoil(folder: Path) -> None:
        rewrite(
            folder / WEIGHTS,
            lambda t: t.update({"text_embedding.0.weight": torch.zeros(24, 9)}),
        )

    told = refused("wan_2_1_t2v", "original", spoil)
    assert "the transformer reads 9 channels of a text token, and the text encoder gives 16" in told


def test_an_image_model_without_its_image_encoder(refused: Callable[..., str]):
    def spoil(folder: Path) -> None:
        next(folder.glob("models_clip_*.pth")).unlink()

    assert "lacks its image encoder" in refused("wan_2_1_i2v", "original", spoil)


def test_a_pickle_with_code_in_it(refused: Callable[..., str], tmp_path: Path):
    class Trap:
        def __reduce__(self) -> tuple[Callable[..., object], tuple[Path]]:
            return Path.touch, (tmp_path / "ran",)

    def spoil(folder: Path) -> None:
        torch.save({"a": Trap()}, next(folder.glob("models_t5_*.pth")))

    assert "cannot be read as weights" in refused("wan_2_1_t2v", "original", spoil)
    assert not (tmp_path / "ran").exists()


def test_values_that_are_not_finite(refused: Callable[..., str]):
    def spoil(folder: Path) -> None:
        rewrite(folder / WEIGHTS, lambda t: t["blocks.1.ffn.0.bias"].fill_(torch.nan))

    told = refused("wan_2_1_t2v", "original", spoil)
    assert "holds values that are not finite, in what is blocks.1.mlp.up.bias here" in told


def test_eight_bits_without_scales(refused: Callable[..., str]):
    def spoil(folder: Path) -> None:
        rewrite(folder / WEIGHTS, lambda t: t.update({n: v.to(torch.float8_e4m3fn) for n, v in t.items()}))

    assert "tensors of eight bits without a scale" in refused("wan_2_1_t2v", "original", spoil)


def test_a_codec_that_is_none_of_wans(
    tiny: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    release = tmp_path / "release"
    line = ["--from", str(tiny("wan_2_1_t2v")), "--layout", "original", "--to", str(release)]
    assert run_command(export, line) == 0
    assert run_command(import_, ["--from", str(release), "--to", str(tmp_path / "out")]) == 2
    assert "the codec is none that Wan published: say which it is with --codec" in capsys.readouterr().err


def test_a_folder_that_is_there_already(refused: Callable[..., str], tmp_path: Path):
    def spoil(_: Path) -> None:
        (tmp_path / "out").mkdir()
        (tmp_path / "out/mine.txt").touch()

    assert "out is there already and is not empty: give another --to" in refused(
        "wan_2_1_t2v", "original", spoil
    )


def test_a_camera_has_no_layout_in_diffusers(
    tiny: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    line = ["--from", str(tiny("wan_2_1_fun_camera")), "--layout", "diffusers", "--to", str(tmp_path / "out")]
    assert run_command(export, line) == 2
    assert "has no layout in diffusers: export the original one" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
