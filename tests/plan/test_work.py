"""The arithmetic that a plan counts is that of the formulas."""

from pathlib import Path

import pytest
import torch
from small_runs import CODEC, SHAPE, asked, small_run

from vdit.config import build_codec, parse_run
from vdit.plan.clips import ClipShape
from vdit.plan.plan import Asked, Plan, plan_run

ROOT = Path(__file__).parents[2]
WAN_CODEC = ROOT / "configs/codec/wan_2_1.yaml"


def wan_forward(n: int, d: int, f: int, depth: int, text: int) -> float:
    """Operations of the blocks of a Wan transformer: two a product and sum."""
    own, cross = 8 * n * d**2 + 4 * n**2 * d, 4 * n * d**2 + 4 * text * d**2 + 4 * n * text * d
    return depth * (own + cross + 4 * n * d * f)


def wan_plan(model: str, clip: str, *options: str) -> Plan:
    with torch.device("meta"):
        codec = build_codec(WAN_CODEC)
    config = ["--config", str(ROOT / "configs/train/wan_finetune.yaml"), "--loop.accumulate", "1"]
    more = ["--task.init_args.backbone", str(ROOT / f"configs/model/{model}.yaml"), *options]
    return plan_run(parse_run([*config, *more], ""), Asked([ClipShape.read(clip)], None, codec))


def test_a_wan_model_does_the_work_of_the_formula():
    [bucket] = wan_plan("wan_2_1_t2v_1_3b", "81x480x832").buckets
    assert bucket.tokens == 32_760
    assert bucket.forward == pytest.approx(wan_forward(32_760, 1536, 8960, 30, 513), rel=0.01)
    assert bucket.model == 3 * bucket.forward
    # Attention goes back by five products where it had two; all else by two for one.
    attention = 30 * 4 * 32_760**2 * 1536
    assert bucket.backward == pytest.approx(2 * bucket.forward + 0.5 * attention, rel=0.01)


@pytest.mark.slow
def test_14b_at_720p_and_what_is_computed_again():
    none = wan_plan("wan_2_1_t2v_14b", "81x720x1280").largest
    full = wan_plan("wan_2_1_t2v_14b", "81x720x1280", "--parallel.recompute", "full").largest
    print(f"{none.forward / 1e12:,.1f} TFLOP")
    assert none.tokens == 75_600
    assert none.forward / 1e12 == pytest.approx(6523, rel=0.02)
    assert none.again == 0
    assert full.again == pytest.approx(full.forward, rel=0.01)
    assert (full.forward, full.backward) == (none.forward, none.backward)
    assert full.memory.activations < 0.15 * none.memory.activations


def test_selective_computes_all_again_but_attention():
    bucket = wan_plan("wan_2_1_t2v_1_3b", "81x480x832", "--parallel.recompute", "selective").largest
    own = 30 * 4 * 32_760**2 * 1536
    cross = 30 * 4 * 32_760 * 513 * 1536
    assert bucket.again == pytest.approx(bucket.forward - own - cross, rel=0.02)


def test_ranks_that_share_a_clip_share_its_work():
    alone = wan_plan("wan_2_1_t2v_1_3b", "81x480x832").largest
    options = ("--parallel.devices", "4", "--parallel.sequence", "4")
    shared = wan_plan("wan_2_1_t2v_1_3b", "81x480x832", *options).largest
    assert shared.tokens == alone.tokens
    assert shared.forward == pytest.approx(alone.forward, rel=0.01)
    assert shared.memory.activations == pytest.approx(alone.memory.activations / 4, rel=0.1)


def test_an_adapter_counts_twice_its_forward(tmp_path: Path):
    pytest.importorskip("peft", reason="peft is not installed")
    plan = plan_run(small_run(tmp_path, "wan", adapter={"rank": 4}), asked())
    assert plan.largest.model == 2 * plan.largest.forward
    assert plan.largest.backward < 1.4 * plan.largest.forward


def test_time_disk_and_clips_of_a_run(tmp_path: Path):
    options = (
        "--loop.accumulate",
        "3",
        "--loop.save_every",
        "4",
        "--loop.keep",
        "2",
        "--parallel.devices",
        "2",
    )
    plan = plan_run(small_run(tmp_path, "native", *options), asked())
    [bucket] = plan.buckets
    assert (bucket.shape, bucket.clips, bucket.step_clips) == (SHAPE, 1, 6)
    assert bucket.grid == (3, 20, 20)
    assert bucket.tokens == 300
    assert plan.seconds(1e12, 0.5) == pytest.approx(bucket.model / (1e12 * 0.5 * 2))
    assert (plan.disk.written, plan.disk.kept) == (3, 2)
    assert plan.disk.checkpoint == pytest.approx(4 * 4 * plan.weights, rel=0.01)  # weights, average, moments


def test_a_checkpoint_has_the_size_that_was_planned(tiny_checkpoint: Path, tmp_path: Path):
    plan = plan_run(parse_run(["--config", str(tiny_checkpoint)], ""), Asked())
    [folder] = (tiny_checkpoint.parent / "out/checkpoints").glob("step_*")
    size = sum(file.stat().st_size for file in folder.iterdir() if file.suffix in (".safetensors", ".pt"))
    assert plan.disk.checkpoint == pytest.approx(size, rel=0.05)


def test_buckets_weigh_in_time_by_their_shares(tmp_path: Path):
    small, large = ClipShape(5, 64, 64, 3.0), ClipShape(9, 96, 96, 1.0)
    with torch.device("meta"):
        codec = build_codec(CODEC)
    plan = plan_run(small_run(tmp_path, "native"), Asked([small, large], 10, codec))
    each = [bucket.seconds(1e12, 0.4, 1) for bucket in plan.buckets]
    assert plan.seconds(1e12, 0.4) == pytest.approx((3 * each[0] + each[1]) / 4)
    assert plan.largest.shape == large
