"""Losses: closed forms, order, finite gradients where values hide them, VGG weights read as
tensors only.
"""

import hashlib

import pytest
import torch
from safetensors.torch import save_file

from bids_sr.sr.losses.adversarial import AdversarialBCE
from bids_sr.sr.losses.image import MAE, MSE, PSNRLoss
from bids_sr.sr.losses.perceptual import VGGPerceptual
from bids_sr.sr.vgg19 import vgg19_features

CONTENT = [MSE(), MAE(), PSNRLoss()]


@pytest.mark.parametrize(("loss", "expected"), [(MSE(), 4.0), (MAE(), 2.0)])
def test_a_constant_difference_of_two(loss, expected):
    a, b = torch.zeros(2, 1, 3, 3), torch.full((2, 1, 3, 3), 2.0)
    assert float(loss(a, b, torch.ones(1, 1, 3, 3))) == pytest.approx(expected, rel=1e-4)


def test_psnr_as_a_loss_is_the_ratio_that_is_missing_from_that_of_a_perfect_image():
    target, weight = (
        torch.rand(1, 1, 8, 8, dtype=torch.float64),
        torch.ones(1, 1, 1, 1, dtype=torch.float64),
    )
    found = {shift: float(PSNRLoss()(target + shift, target, weight)) for shift in (0.01, 0.1)}
    assert found[0.01] == pytest.approx(80 - 40, abs=0.01)  # dB below the floor's
    assert found[0.1] - found[0.01] == pytest.approx(20, abs=0.01)


@pytest.mark.parametrize("loss", CONTENT, ids=lambda x: type(x).__name__)
@pytest.mark.parametrize("level", [0.0, 1.0])
def test_equal_and_constant_images_cost_nothing_and_have_a_finite_slope(loss, level):
    a = torch.full((1, 1, 4, 4), level, requires_grad=True)
    value = loss(a, torch.full((1, 1, 4, 4), level), torch.ones(1, 1, 4, 4))
    value.backward()
    assert float(value.detach()) == pytest.approx(0, abs=1e-8)
    assert torch.isfinite(a.grad).all()


@pytest.mark.parametrize("loss", CONTENT, ids=lambda x: type(x).__name__)
def test_what_has_no_weight_does_not_count(loss):
    a, b = torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 2, 2)
    b[..., 0] = 100.0
    weight = torch.ones(1, 1, 2, 2)
    weight[..., 0] = 0
    assert float(loss(a, b, weight)) == pytest.approx(0, abs=1e-8)


@pytest.mark.parametrize("loss", CONTENT, ids=lambda x: type(x).__name__)
def test_slope_against_finite_differences(loss):
    torch.manual_seed(0)
    a = torch.rand(1, 1, 3, 3, dtype=torch.float64, requires_grad=True)
    b, w = torch.rand(1, 1, 3, 3, dtype=torch.float64), torch.rand(1, 1, 3, 3, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: loss(x, b, w), (a,))


def test_a_critic_that_knows_nothing_pays_log_two_and_a_fooled_one_more():
    game, none = AdversarialBCE(), torch.zeros(4, 1)
    assert float(game.critic(none, none)) == pytest.approx(0.6931, abs=1e-4)
    right, fooled = game.critic(none + 3, none - 3), game.critic(none - 3, none + 3)
    assert right < 0.1 < 1 < fooled
    assert float(game(none + 3)) < float(game(none)) < float(game(none - 3))


def test_extreme_scores_stay_finite():
    game = AdversarialBCE()
    score = torch.full((2, 1), -1e4, requires_grad=True)
    game(score).backward()
    assert torch.isfinite(score.grad).all()


@pytest.fixture(scope="module")
def vgg_file(tmp_path_factory):
    """Random weights in torchvision's layout, classifier included."""
    torch.manual_seed(0)
    state = {f"features.{k}": v * 0.5 for k, v in vgg19_features().state_dict().items()}
    path = tmp_path_factory.mktemp("vgg") / "vgg19.safetensors"
    save_file(state | {"classifier.0.bias": torch.zeros(4)}, path)
    return path


def test_vgg_has_sixteen_convolutions_at_torchvisions_places():
    keys = [k for k in vgg19_features().state_dict() if k.endswith("weight")]
    assert len(keys) == 16
    assert keys[0] == "0.weight"
    assert keys[-1] == "34.weight"


def test_the_perceptual_term_loads_compares_and_names_its_file(vgg_file):
    loss = VGGPerceptual(vgg_file)
    assert loss.checksum == hashlib.sha256(vgg_file.read_bytes()).hexdigest()
    a = torch.rand(1, 1, 32, 32, requires_grad=True)
    assert loss(a, a.detach()).item() == 0
    value = loss(a, a.detach() * 0.2)
    value.backward()
    assert value > 0
    assert torch.isfinite(a.grad).all()
    assert not any(p.requires_grad for p in loss.parameters())


def test_a_file_that_is_not_vgg_is_refused_by_name(tmp_path):
    path = tmp_path / "other.safetensors"
    save_file({"features.0.weight": torch.zeros(3, 3)}, path)
    with pytest.raises(ValueError, match=r"other\.safetensors.*features\.0\.weight"):
        VGGPerceptual(path)


def test_a_pickle_with_code_is_not_run(tmp_path):
    path = tmp_path / "evil.pth"

    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "written"), "w"))

    torch.save({"features.0.weight": Evil()}, path)
    renamed = path.with_suffix(".safetensors")
    renamed.write_bytes(path.read_bytes())
    for file in (path, renamed):
        with pytest.raises(ValueError, match="evil"):
            VGGPerceptual(file)
    assert not (tmp_path / "written").exists()
