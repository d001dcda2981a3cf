"""How many clips are sampled at once: the forecast beside what sampling really holds."""

from pathlib import Path

import pytest
import torch
from small_runs import CODEC, FAMILIES, small_run, traced

from vdit.config import build_codec, build_part
from vdit.plan.sampling import MOST_AT_ONCE, SamplingMemory, sampling_memory
from vdit.sample.sampler import Sampler, Sampling

PROMPT = "a" * 19  # and a token for its beginning


def forecast(folder: Path, family: str, sampling: Sampling, low: torch.dtype | None = None) -> SamplingMemory:
    parsed = small_run(folder, family)
    with torch.device("meta"):
        task, codec = build_part(parsed, "task"), build_codec(CODEC)
    task.text.max_tokens = 20
    return sampling_memory(task, codec, sampling, low)


def held(folder: Path, family: str, sampling: Sampling, clips: int) -> int:
    """Bytes at most beyond those before, while clips are sampled and none is decoded."""
    task = build_part(small_run(folder, family), "task")
    sampler = Sampler(task.denoiser, build_codec(CODEC).eval(), sampling)
    sampler.latents([PROMPT], [0])  # what is made once
    return traced(lambda: sampler.latents([PROMPT] * clips, list(range(clips))))[1].most


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_a_clip_takes_what_is_forecast(tmp_path: Path, family: str, guidance: float):
    sampling = Sampling(9, 160, 160, steps=1, guidance=guidance)
    memory = forecast(tmp_path, family, sampling)
    one, three = held(tmp_path, family, sampling, 1), held(tmp_path, family, sampling, 3)
    assert memory.clip == pytest.approx(one, rel=0.15)
    assert 3 * memory.clip == pytest.approx(three, rel=0.15)


def test_lower_precision_halves_weights_and_guidance_doubles_a_clip(tmp_path: Path):
    sampling = Sampling(9, 160, 160, guidance=1.0)
    plain, guided = (forecast(tmp_path, "wan", Sampling(9, 160, 160, guidance=g)) for g in (1.0, 3.0))
    assert guided.clip == pytest.approx(2 * plain.clip, rel=0.1)
    assert guided.weights == plain.weights
    assert forecast(tmp_path, "wan", sampling, torch.bfloat16).weights < plain.weights


@pytest.mark.parametrize(
    ("free", "clips"), [(0, 1), (10_000, 1), (20_000, 8), (14_500, 3), (1e9, MOST_AT_ONCE)]
)
def test_as_many_clips_as_fit(free: float, clips: int):
    assert SamplingMemory(weights=10_000, clip=1_000).clips(int(free)) == clips
