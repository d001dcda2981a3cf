from dataclasses import astuple

import pytest
import torch

from vdit.eval.drift import Drift, Look, look_drift


def test_drift_is_change_a_second():
    fps, seconds = 8.0, torch.arange(17) / 8.0
    noise = torch.rand(1, 1, 1, 16, 16, generator=torch.Generator().manual_seed(0)) - 0.5
    still = noise.expand(2, 3, 17, 16, 16)
    assert astuple(look_drift(still, fps)) == pytest.approx((0, 0, 0, 0), abs=1e-6)
    time = seconds.view(1, 1, 17, 1, 1)
    brighter = still + torch.tensor([0.1, -0.3]).view(2, 1, 1, 1, 1) * time
    assert look_drift(brighter, fps).brightness == pytest.approx(0.2, abs=1e-5)
    assert look_drift(brighter, fps).detail == pytest.approx(0, abs=1e-5)
    sharper = still * (1 + 0.5 * time)
    drift = look_drift(sharper, fps)
    assert drift.contrast == pytest.approx(0.5 * still.std().item(), rel=0.05)
    assert drift.detail > 0.05
    redder = still + torch.tensor([0.2, 0.0, 0.0]).view(1, 3, 1, 1, 1) * time
    assert look_drift(redder, fps).colour == pytest.approx(0.2, abs=1e-5)
    assert look_drift(redder[:, :, :1], fps) == Look(0, 0, 0, 0)


def test_rows_name_each_part_of_the_look():
    looks = [Look(0.1, 0.2, 0.3, 0.4), Look(0, 0, 0, 0), Look(1, 1, 1, 1)]
    assert Drift(*looks).rows()[1] == ("contrast", 0.2, 0, 1)
