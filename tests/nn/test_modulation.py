import torch

from vdit.nn.mlp import MLP, GatedMLP
from vdit.nn.modulation import Modulation, Triple, modulate
from vdit.nn.norm import ChannelRMSNorm


def test_modulation_starts_as_the_identity_and_with_its_gates_shut():
    for triple in Modulation(8, parts=3)(torch.randn(2, 1, 8)):
        x = torch.randn(2, 5, 8)
        assert torch.equal(modulate(x, triple), x)
        assert torch.equal(triple.gate, torch.zeros(2, 1, 8))


def test_parts_and_roles_do_not_mix():
    modulation = Modulation(4, parts=2)
    with torch.no_grad():
        modulation.linear.bias.copy_(torch.arange(24.0))
    triples = modulation(torch.randn(3, 5, 4))
    got = [[role[1, 2].tolist() for role in triple] for triple in triples]
    assert got == torch.arange(24.0).reshape(2, 3, 4).tolist()


def test_a_vector_a_token_modulates_each_token_as_a_vector_a_clip_would():
    torch.manual_seed(0)
    modulation = Modulation(6, parts=1)
    torch.nn.init.normal_(modulation.linear.weight)
    vector, x = torch.randn(2, 4, 6), torch.randn(2, 4, 6)
    [each] = modulation(vector)
    for token in range(4):
        [alone] = modulation(vector[:, token : token + 1])
        torch.testing.assert_close(modulate(x, each)[:, token], modulate(x, alone)[:, token])


def test_modulate_is_scale_and_shift():
    x, shift, scale = torch.randn(3, 2, 5, 4)
    torch.testing.assert_close(modulate(x, Triple(shift, scale, x)), x * (1 + scale) + shift)


def test_channel_norm_sees_one_position_at_a_time():
    norm = ChannelRMSNorm(6)
    torch.nn.init.normal_(norm.weight)
    x = torch.randn(2, 6, 3, 4, 5)
    expected = x / (x.square().mean(1, keepdim=True) + 1e-6).sqrt() * norm.weight
    torch.testing.assert_close(norm(x), expected)
    assert torch.equal(norm(x)[:, :, 1:2, 2:3, 3:4], norm(x[:, :, 1:2, 2:3, 3:4]))


def test_channel_norm_squares_in_float32():
    x = torch.full((1, 4, 1, 1, 1), 1000.0, dtype=torch.float16)  # its square overflows in half precision
    torch.testing.assert_close(ChannelRMSNorm(4).half()(x), torch.ones_like(x))


def test_mlp_is_two_maps_around_the_tanh_form_of_gelu():
    mlp, x = MLP(3, 7, 2), torch.randn(4, 3)
    y = mlp.up(x)
    gelu = 0.5 * y * (1 + torch.tanh((2 / torch.pi) ** 0.5 * (y + 0.044715 * y**3)))
    torch.testing.assert_close(mlp(x), mlp.down(gelu))


def test_gated_mlp_lets_one_map_through_as_much_as_the_other_says():
    mlp, x = GatedMLP(3, 8), torch.randn(4, 3)
    gate, value = x @ mlp.gate.weight.T, x @ mlp.up.weight.T
    torch.testing.assert_close(mlp(x), (gate * torch.sigmoid(gate) * value) @ mlp.down.weight.T)
