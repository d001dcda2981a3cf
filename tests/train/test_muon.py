from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from vdit.train.muon import Muon, MuonAdamW, orthogonalised


def drawn(*shape: int) -> Tensor:
    """Matrices whose singular values span two decades."""
    u, s, v = torch.linalg.svd(torch.randn(*shape, generator=torch.Generator().manual_seed(0)))
    r = s.shape[-1]
    return u[..., :r] * torch.logspace(0, -2, r) @ v[..., :r, :]


@pytest.mark.parametrize("shape", [(3, 16, 16), (2, 12, 40), (2, 40, 12)])
def test_singular_values_come_near_one_and_vectors_stay(shape):
    m = drawn(*shape)
    o = orthogonalised(m, iterations=10)
    u, _, v = torch.linalg.svd(m, full_matrices=False)
    in_its_basis = u.mT @ o @ v.mT
    values = in_its_basis.diagonal(dim1=-2, dim2=-1)
    assert values.min() > 0.6
    assert values.max() < 1.3
    off = in_its_basis - torch.diag_embed(values)
    assert off.abs().max() < 1e-3


def test_five_iterations_lift_a_hundredth_and_none_leave_it():
    m = drawn(1, 8, 8)
    smallest = [torch.linalg.svdvals(orthogonalised(m, k))[0, -1].item() for k in range(6)]
    assert all(later > 2 * earlier for earlier, later in pairwise(smallest[:4]))
    assert smallest[0] < 0.01
    assert smallest[5] > 0.5


def test_matrices_taken_together_are_those_taken_alone():
    m = drawn(4, 6, 9)
    alone = torch.cat([orthogonalised(one[None], 5) for one in m])
    torch.testing.assert_close(orthogonalised(m, 5), alone)


def test_zero_stays_zero():
    assert orthogonalised(torch.zeros(1, 3, 3), 5).abs().max() == 0


def test_it_walks_where_the_muon_of_torch_walks():
    """Which works in bfloat16, hence the two hundredths."""
    ways = []
    for make in (
        lambda p: Muon(p, lr=0.02, weight_decay=0.1, momentum=0.9, iterations=5),
        lambda p: torch.optim.Muon(
            p, lr=0.02, weight_decay=0.1, momentum=0.9, ns_steps=5, adjust_lr_fn="match_rms_adamw"
        ),
    ):
        matrices = [nn.Parameter(drawn(6, 10)), nn.Parameter(drawn(6, 10).flip(0)), nn.Parameter(drawn(9, 4))]
        before = [p.detach().clone() for p in matrices]
        optimizer = make(matrices)
        for step in range(6):
            for i, p in enumerate(matrices):
                p.grad = torch.randn(p.shape, generator=torch.Generator().manual_seed(10 * step + i))
            optimizer.step()
        ways.append(torch.cat([(p - b).flatten() for p, b in zip(matrices, before, strict=True)]))
    assert (ways[0] - ways[1]).norm() < 0.02 * ways[1].norm()


def both(module: nn.Sequential) -> MuonAdamW:
    first, *rest = module.parameters()
    muon = Muon([first], lr=0.1, weight_decay=0.0, momentum=0.9, iterations=3)
    return MuonAdamW(muon, torch.optim.AdamW(rest, lr=0.1))


def learn(module: nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> Tensor:
    losses = []
    for step in steps:
        x = torch.randn(8, 5, generator=torch.Generator().manual_seed(step))
        loss = (module(x) - x.sum(1, keepdim=True).relu()).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.detach())
    return torch.stack(losses)


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 16), nn.ReLU(), nn.Linear(16, 1))


def test_a_stored_state_goes_on_to_the_bit(tmp_path):
    module = network()
    optimizer = both(module)
    learn(module, optimizer, range(5))
    torch.save([module.state_dict(), optimizer.state_dict()], tmp_path / "state.pt")
    straight = learn(module, optimizer, range(5, 10))

    again = network()
    weights, state = torch.load(tmp_path / "state.pt", weights_only=True)
    again.load_state_dict(weights)
    resumed = both(again)
    resumed.load_state_dict(state)
    assert torch.equal(learn(again, resumed, range(5, 10)), straight)
    for group in resumed.param_groups:
        group["lr"] = 0.0  # the groups are still those that step
    still = [p.detach().clone() for p in again.parameters()]
    learn(again, resumed, range(10, 11))
    assert all(torch.equal(p, q) for p, q in zip(again.parameters(), still, strict=True))


def test_both_learn():
    module = network()
    optimizer = both(module)
    for group in optimizer.param_groups:
        group["lr"] = 0.01
    losses = learn(module, optimizer, range(200))
    assert losses[-20:].mean() < 0.2 * losses[:20].mean()
    assert all(p.grad is None for p in module.parameters())


def test_a_matrix_without_a_gradient_rests():
    p, q = nn.Parameter(drawn(3, 3)), nn.Parameter(drawn(3, 3))
    optimizer = Muon([p, q], lr=0.1, weight_decay=0.5, momentum=0.9, iterations=3)
    q.grad = torch.ones_like(q)
    before = p.detach().clone()
    optimizer.step()
    assert torch.equal(p, before)
    assert not torch.equal(q, before)


def test_gradients_are_divided_by_the_scale():
    ways = []
    for scale in (None, torch.tensor(4.0)):
        p = nn.Parameter(drawn(5, 7))
        optimizer = Muon([p], lr=0.1, weight_decay=0.5, momentum=0.9, iterations=3)
        for step in range(3):
            p.grad = torch.randn(5, 7, generator=torch.Generator().manual_seed(step)) * (4**step)
            optimizer.grad_scale = None if scale is None else scale**step
            if scale is None:
                p.grad /= 4**step
            optimizer.step()
        ways.append((p.detach(), optimizer.state[p]["momentum"]))
    assert torch.equal(ways[0][0], ways[1][0])
    assert torch.equal(ways[0][1], ways[1][1])


def test_where_something_is_no_number_nothing_moves():
    p = nn.Parameter(drawn(5, 7))
    optimizer = Muon([p], lr=0.1, weight_decay=0.5, momentum=0.9, iterations=3)
    p.grad = drawn(5, 7).flip(0)
    optimizer.found_inf = torch.zeros(())
    optimizer.step()
    weight, momentum = p.detach().clone(), optimizer.state[p]["momentum"].clone()
    assert not torch.equal(weight, drawn(5, 7))
    p.grad = torch.full_like(p, torch.nan)
    optimizer.found_inf = torch.ones(())
    optimizer.step()
    assert torch.equal(p, weight)
    assert torch.equal(optimizer.state[p]["momentum"], momentum)
