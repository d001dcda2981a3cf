import math

import pytest
import torch
from torch import nn

from vdit.models.native.dit import NativeDiT
from vdit.nn.norm import ChannelRMSNorm
from vdit.train.optim import MuonFor, Optim, build_optimizer, learning_rate, set_learning_rate
from vdit.types import InputError


def rates(steps: int = 12, **settings) -> list[float]:
    optim = Optim(**({"lr": 2.0, "warmup_steps": 4} | settings))
    return [learning_rate(optim, step, steps) for step in range(steps)]


def test_the_rate_rises_in_a_line_to_the_peak():
    for decay in ("none", "linear", "cosine"):
        assert rates(decay=decay)[:5] == pytest.approx([0.5, 1.0, 1.5, 2.0, 2.0])


def test_the_rate_falls_as_asked():
    assert rates(decay="none")[4:] == [2.0] * 8
    assert rates(decay="linear")[4:] == pytest.approx([2 * (1 - k / 8) for k in range(8)])
    cosine = [1 + math.cos(math.pi * k / 8) for k in range(8)]
    assert rates(decay="cosine")[4:] == pytest.approx(cosine)
    ending = rates(decay="linear", final=0.25)
    assert ending[8] == pytest.approx(2 * (0.25 + 0.75 * 0.5))
    assert min(ending[4:]) == ending[-1] == pytest.approx(2 * (0.25 + 0.75 / 8))


def test_the_rate_is_never_zero_or_above_its_peak():
    for warmup in (0, 1, 4, 12, 100):
        every = rates(warmup_steps=warmup)
        assert all(0 < rate <= 2 for rate in every)
    assert rates(warmup_steps=0)[0] == 2.0
    assert rates(steps=1, warmup_steps=0) == [2.0]


def test_all_groups_get_the_rate():
    optimizer = build_optimizer(nn.Linear(2, 2), Optim())
    set_learning_rate(optimizer.param_groups, 0.125)
    assert [group["lr"] for group in optimizer.param_groups] == [0.125, 0.125]


def test_rates_differ_where_patterns_say_so():
    model = nn.ModuleDict({"codec": nn.Linear(2, 3), "critic": nn.Linear(3, 4), "last": nn.Linear(4, 5)})
    optim = Optim(lr=0.5, lr_scales={"critic.*": 4.0, "*.bias": 0.5}, weight_decay=0.1)
    optimizer = build_optimizer(model, optim)
    set_learning_rate(optimizer.param_groups, 0.125)
    names = {id(p): name for name, p in model.named_parameters()}
    found = {
        names[id(p)]: (group["lr"], group["weight_decay"])
        for group in optimizer.param_groups
        for p in group["params"]
    }
    assert found == {
        "codec.weight": (0.125, 0.1),
        "codec.bias": (0.0625, 0.0),
        "critic.weight": (0.5, 0.1),
        "critic.bias": (0.5, 0.0),
        "last.weight": (0.125, 0.1),
        "last.bias": (0.0625, 0.0),
    }
    with pytest.raises(
        InputError, match=r"'judge\.\*', which names no trainable weight; there are codec\.weight"
    ):
        build_optimizer(model, Optim(lr_scales={"judge.*": 2.0}))
    with pytest.raises(InputError, match=r"gives 'critic\.\*' the scale 0\.0"):
        Optim(lr_scales={"critic.*": 0.0})


def test_muon_has_its_own_rate_and_the_matrices_that_are_named():
    model = NativeDiT(width=32, depth=2, heads=2, text_width=6)
    muon = MuonFor(names=("blocks.*.mlp.*", "blocks.*attention.to_*"), lr_scale=3.0)
    optimizer = build_optimizer(model, Optim(lr=0.5, muon=muon))
    set_learning_rate(optimizer.param_groups, 0.125)
    assert [group["lr"] for group in optimizer.param_groups] == [0.375, 0.125, 0.125]
    names = {id(p): name for name, p in model.named_parameters()}
    matrices = [names[id(p)] for p in optimizer.param_groups[0]["params"]]
    assert len(matrices) == 2 * (3 + 8)
    assert all(".mlp." in name or ".to_" in name for name in matrices)
    grouped = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert sorted(grouped) == sorted(names)


def test_a_pattern_that_names_no_matrix_is_refused():
    with pytest.raises(InputError, match=r"'blocks\.\*\.up', which names no .* there are 0\.weight"):
        build_optimizer(nn.Sequential(nn.Linear(2, 3)), Optim(muon=MuonFor(names=("blocks.*.up",))))


@pytest.mark.parametrize("settings", [{"names": ()}, {"lr_scale": 0.0}, {"iterations": 0}, {"momentum": 1.0}])
def test_muon_refuses_what_would_do_nothing(settings):
    with pytest.raises(InputError, match="muon"):
        MuonFor(**({"names": ("*",)} | settings))


def test_only_matrices_and_kernels_decay():
    frozen = nn.Linear(3, 3).requires_grad_(False)
    module = nn.ModuleDict(
        {
            "linear": nn.Linear(3, 5),
            "one": nn.Linear(3, 1),
            "conv": nn.Conv3d(2, 3, (3, 1, 1)),
            "norm": nn.LayerNorm(5),
            "channels": ChannelRMSNorm(7),
            "frozen": frozen,
        }
    )
    decayed, plain = build_optimizer(module, Optim(weight_decay=0.1)).param_groups
    names = {id(p): name for name, p in module.named_parameters()}
    assert (decayed["weight_decay"], plain["weight_decay"]) == (0.1, 0.0)
    matrices = {names[id(p)] for p in decayed["params"]}
    assert matrices >= {"linear.weight", "conv.weight"}
    assert matrices <= {"linear.weight", "conv.weight", "one.weight"}
    rest = {names[id(p)] for p in plain["params"]}
    assert rest | matrices == {name for name in names.values() if not name.startswith("frozen")}
    assert not rest & matrices


def test_every_weight_of_a_model_is_in_one_group():
    model = NativeDiT(width=32, depth=1, heads=2, text_width=6)
    groups = build_optimizer(model, Optim()).param_groups
    grouped = [id(p) for group in groups for p in group["params"]]
    assert sorted(grouped) == sorted(id(p) for p in model.parameters())
    assert all(p.ndim < 2 for p in groups[1]["params"])


def test_decay_shrinks_matrices_without_a_gradient_and_leaves_biases():
    torch.manual_seed(0)
    module = nn.Linear(3, 2)
    before = {name: p.clone() for name, p in module.named_parameters()}
    optimizer = build_optimizer(module, Optim(lr=0.1, weight_decay=0.5))
    for p in module.parameters():
        p.grad = torch.zeros_like(p)
    optimizer.step()
    torch.testing.assert_close(module.weight, before["weight"] * (1 - 0.1 * 0.5))
    assert torch.equal(module.bias, before["bias"])


@pytest.mark.parametrize("settings", [{"lr": 0.0}, {"clip_norm": -1.0}])
def test_rates_and_limits_that_are_not_positive_are_refused(settings):
    with pytest.raises(InputError, match="must be above 0"):
        Optim(**settings)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"betas": (1.0, 0.9)}, r"betas \[1.0, 0.9\] must lie in"),
        ({"betas": (0.9, -0.1)}, "must lie in"),
        ({"weight_decay": -0.1}, "weight_decay -0.1 and warmup_steps 50 must not be negative"),
        ({"warmup_steps": -1}, "warmup_steps -1 must not be negative"),
        ({"final": -0.1}, r"optim\.final -0\.1 must not be negative"),
    ],
)
def test_settings_no_optimiser_can_use_are_refused(settings: dict, says: str):
    with pytest.raises(InputError, match=says):
        Optim(**settings)
