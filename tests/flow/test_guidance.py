import pytest
import torch

from vdit.flow.guidance import ClassifierFree


def test_the_scale_goes_from_null_through_conditional_and_beyond():
    conditional, null = torch.randn(2, 5)
    assert torch.equal(ClassifierFree(1.0).compose(conditional, null, 0.5), conditional)
    assert torch.equal(ClassifierFree(0.0).compose(conditional, null, 0.5), null)
    torch.testing.assert_close(
        ClassifierFree(3.0).compose(conditional, null, 0.5), 3 * conditional - 2 * null
    )


def test_scale_one_needs_no_null_branch():
    assert not ClassifierFree(1.0).acts(0.5)
    assert ClassifierFree(1.5).acts(0.5)
    assert ClassifierFree(0.0).acts(0.5)


@pytest.mark.parametrize(
    ("sigma", "acts"), [(1.0, False), (0.81, False), (0.8, True), (0.5, True), (0.3, False), (0.1, False)]
)
def test_guidance_keeps_to_its_interval(sigma: float, acts: bool):
    assert ClassifierFree(4.0, start=0.8, stop=0.3).acts(sigma) is acts


def test_the_whole_interval_holds_every_step_of_a_schedule():
    assert ClassifierFree(4.0).acts(1.0)
    assert ClassifierFree(4.0).acts(1e-6)


def test_each_of_two_experts_has_a_scale_of_its_own():
    both = ClassifierFree(4.0, low_scale=3.0, boundary=0.875)
    assert [both.scale_at(sigma) for sigma in (1.0, 0.875, 0.874, 0.1)] == [4.0, 4.0, 3.0, 3.0]
    one = ClassifierFree(4.0, low_scale=1.0, boundary=0.5)
    assert one.acts(0.6)
    assert not one.acts(0.4)
