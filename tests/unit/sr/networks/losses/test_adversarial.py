"""Test total variation, the joint sparsifying loss, and the Wasserstein objective with its bounds,
against closed forms.
"""

import pytest
import torch

from bids_sr.sr.networks.losses.adversarial import (
    AdversarialWasserstein,
    clip_weights,
    gradient_penalty,
)
from bids_sr.sr.networks.losses.image import (
    JointSparsify,
    SquaredVariation,
    SummedVariation,
    TotalVariation,
    compute_variation,
)

SHAPES = [(6, 5), (6, 5, 4)]


def ramp(shape, slopes):
    """Return the sum of slope * index over the axes, (1, 1, *shape)."""
    axes = torch.meshgrid(*[torch.arange(n, dtype=torch.float64) for n in shape], indexing="ij")
    return sum(s * a for s, a in zip(slopes, axes, strict=True))[None, None]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_tv_of_a_ramp_is_its_slope_between_neighboring_voxels(shape, axis):
    slopes = [0.0] * len(shape)
    slopes[axis] = 0.7
    n = shape[axis]
    assert float(compute_variation(ramp(shape, slopes))) == pytest.approx(
        0.7 * (n - 1) / n, rel=1e-12
    )


@pytest.mark.parametrize("shape", SHAPES)
def test_tv_of_a_constant_is_zero_with_zero_gradient_and_tv_scales_with_the_image(shape):
    image = torch.full((2, 1, *shape), 0.3, requires_grad=True)
    value = TotalVariation()(image, image)
    value.backward()
    assert float(value.detach()) == 0
    assert float(image.grad.abs().max()) == 0
    noise = torch.rand(2, 1, *shape, generator=torch.Generator().manual_seed(1))
    assert float(compute_variation(-3 * noise)) == pytest.approx(
        3 * float(compute_variation(noise)), rel=1e-5
    )


def test_summed_tv_is_the_sum_over_high_resolution_voxels_per_acquired_voxel():
    high_res = torch.zeros(2, 1, 6, 6, 6, dtype=torch.float64)
    high_res[:, 0, 2, 2, 2] = 1
    acquired = torch.zeros(2, 1, 3, 3, 3)
    assert float(SummedVariation()(high_res, acquired)) == pytest.approx(
        (3**0.5 + 3) / 27, rel=1e-12
    )
    assert float(TotalVariation()(high_res, acquired)) == pytest.approx(
        (3**0.5 + 3) / 216, rel=1e-12
    )


def test_squared_variation_is_the_sum_of_squared_differences_per_voxel():
    image = torch.zeros(2, 1, 4, 5, 6, dtype=torch.float64)
    image[0, 0, 2, 2, 2] = 3  # three differences of 3 to each side
    assert float(SquaredVariation()(image, image)) == pytest.approx(6 * 9 / 240, rel=1e-12)
    # along an axis of n voxels, a ramp of slope s has n - 1 differences of s
    slope = ramp((10, 10), (2.0, 1.0))
    assert float(SquaredVariation()(slope, slope)) == pytest.approx(
        0.9 * 2.0**2 + 0.9 * 1.0**2, rel=1e-12
    )


def test_the_sparsifying_loss_weighs_the_image_and_its_difference():
    output, target = ramp((10, 10), (1.0, 0.0)), ramp((10, 10), (4.0, 0.0))
    ones = torch.ones_like(output)
    for tau, expected in ((1.0, 0.9), (0.0, 2.7), (0.5, 1.8), (0.2, 0.2 * 0.9 + 0.8 * 2.7)):
        assert float(JointSparsify(tau)(output, target, ones)) == pytest.approx(
            expected, rel=1e-12
        )
    # Differences without edges cost nothing.
    assert float(JointSparsify(0.0)(output, output + 5, ones)) == pytest.approx(0, abs=1e-12)


def test_the_wasserstein_loss_is_the_difference_of_the_means():
    loss = AdversarialWasserstein()
    real, fake = torch.tensor([[3.0], [5.0]]), torch.tensor([[-1.0], [2.0]])
    assert float(loss.critic(real, fake)) == pytest.approx(0.5 - 4.0)
    assert float(loss(fake)) == pytest.approx(-0.5)
    # A fooled critic has a higher loss; a generator that fools the critic has a lower loss.
    assert loss.critic(fake, real) > loss.critic(real, fake)
    assert loss(real) < loss(fake)


def test_only_weights_outside_the_bounds_are_clipped():
    critic = torch.nn.Linear(3, 1)
    with torch.no_grad():
        critic.weight.copy_(torch.tensor([[0.005, 2.0, -0.3]]))
        critic.bias.fill_(-0.02)
    clip_weights(critic, 0.01)
    assert torch.equal(critic.weight.detach(), torch.tensor([[0.005, 0.01, -0.01]]))
    assert float(critic.bias.detach()) == pytest.approx(-0.01)


class LinearCritic(torch.nn.Module):
    """Linear score w · x."""

    def __init__(self, weights):
        super().__init__()
        self.weights = torch.nn.Parameter(weights)

    def forward(self, image):
        return (self.weights * image).sum((1, 2, 3), keepdim=False)[:, None]


@pytest.mark.parametrize("norm", [0.0, 0.25, 1.0, 3.0])
def test_the_gradient_penalty_of_a_linear_critic_is_its_norm_less_one_squared(norm):
    torch.manual_seed(0)
    weights = torch.randn(1, 4, 5)
    critic = LinearCritic(weights / weights.norm() * norm)
    images = torch.rand(3, 1, 4, 5), torch.rand(3, 1, 4, 5)
    value = gradient_penalty(critic, *images)
    assert float(value.detach()) == pytest.approx((norm - 1) ** 2, abs=1e-6)
    value.backward()
    # The penalty pulls the norm to one: d/dw (|w| - 1)² = 2 (|w| - 1) w/|w|.
    slope = 2 * (norm - 1) * critic.weights.detach() / norm if norm else torch.zeros(1, 4, 5)
    torch.testing.assert_close(critic.weights.grad, slope, atol=1e-5, rtol=1e-4)


def test_the_gradient_penalty_samples_between_images_per_image():
    class Square(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.asked = []

        def forward(self, image):
            self.asked.append(image.detach().clone())
            return 0.5 * image.square().sum((1, 2, 3))[:, None]

    torch.manual_seed(3)
    critic, real, fake = Square(), torch.zeros(50, 1, 1, 1), torch.full((50, 1, 1, 1), 4.0)
    value = float(gradient_penalty(critic, real, fake).detach())
    places = critic.asked[0]
    assert 0 <= float(places.min()) < 0.5
    assert 3.5 < float(places.max()) <= 4
    # d/dx x²/2 is x.
    assert value == pytest.approx(float((places - 1).square().mean()), rel=1e-5)
