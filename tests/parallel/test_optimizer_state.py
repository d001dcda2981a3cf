import json

import torch
from torch import nn

from vdit.parallel.optimizer_state import joined, parted
from vdit.train.muon import Muon, MuonAdamW


def both(module: nn.Sequential) -> MuonAdamW:
    first, *rest = module.parameters()
    muon = Muon([first], lr=0.1, weight_decay=0.0, momentum=0.9, iterations=3)
    return MuonAdamW(muon, torch.optim.AdamW(rest, lr=1 / 3, betas=(0.9, 0.95)))


def test_states_of_two_optimisers_have_flat_names_and_come_back_from_json():
    module = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 1))
    optimizer = both(module)
    module(torch.randn(5, 3)).square().mean().backward()
    optimizer.step()
    state = optimizer.state_dict()
    tensors, rest = parted(state)
    assert "muon/state/0/momentum" in tensors
    assert {name for name in tensors if "/2/" in name} == {
        f"adamw/state/2/{key}" for key in ("step", "exp_avg", "exp_avg_sq")
    }
    again = joined(tensors.items(), json.loads(json.dumps(rest)))
    assert again.keys() == state.keys()
    for name in state:
        assert again[name]["param_groups"] == state[name]["param_groups"]
        assert again[name]["state"].keys() == state[name]["state"].keys()
        for number, moments in state[name]["state"].items():
            assert all(again[name]["state"][number][key] is value for key, value in moments.items())


def test_a_state_without_tensors_comes_back():
    state = {
        "state": {},
        "param_groups": [{"lr": 0.1, "betas": (0.9, 0.99), "fused": None, "params": [0, 1]}],
    }
    tensors, rest = parted(state)
    assert tensors == {}
    assert joined(tensors.items(), json.loads(json.dumps(rest))) == state


def test_values_beside_tensors_come_back():
    momentum = torch.ones(2)
    state = {"state": {0: {"momentum_buffer": None}, 1: {"momentum_buffer": momentum, "step": 3}}}
    tensors, rest = parted(state)
    assert tensors == {"state/1/momentum_buffer": momentum}
    assert joined(tensors.items(), json.loads(json.dumps(rest))) == state
