"""Test image losses: closed forms, finite gradients, masked voxels, and safe loading of VGG
weights.
"""

import hashlib
import math

import pytest
import torch
from safetensors.torch import load_file, save_file

from bids_sr.sr.networks.losses.adversarial import AdversarialBCE, CriticScore
from bids_sr.sr.networks.losses.image import MAE, MSE, PSNRLoss
from bids_sr.sr.networks.losses.perceptual import VGGPerceptual
from bids_sr.sr.networks.vgg19 import build_vgg19_features

CONTENT = [MSE(), MAE(), PSNRLoss()]


@pytest.mark.parametrize(("loss", "expected"), [(MSE(), 4.0), (MAE(), 2.0)])
def test_the_loss_of_a_constant_difference_of_two(loss, expected):
    output, target = torch.zeros(2, 1, 3, 3), torch.full((2, 1, 3, 3), 2.0)
    assert float(loss(output, target, torch.ones(1, 1, 3, 3))) == pytest.approx(expected, rel=1e-4)


def test_the_psnr_loss_is_the_difference_from_the_psnr_of_a_perfect_image():
    target, weight = (
        torch.rand(1, 1, 8, 8, dtype=torch.float64),
        torch.ones(1, 1, 1, 1, dtype=torch.float64),
    )
    losses = {shift: float(PSNRLoss()(target + shift, target, weight)) for shift in (0.01, 0.1)}
    assert losses[0.01] == pytest.approx(80 - 40, abs=0.01)  # dB, below the PSNR of the floor
    assert losses[0.1] - losses[0.01] == pytest.approx(20, abs=0.01)


@pytest.mark.parametrize("loss", CONTENT, ids=lambda x: type(x).__name__)
def test_voxels_without_weight_do_not_count(loss):
    output, target = torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 2, 2)
    target[..., 0] = 100.0
    weight = torch.ones(1, 1, 2, 2)
    weight[..., 0] = 0
    assert float(loss(output, target, weight)) == pytest.approx(0, abs=1e-8)


@pytest.mark.parametrize("loss", [AdversarialBCE(), CriticScore()])
def test_an_undecided_critic_has_loss_log_two_and_a_fooled_one_more(loss):
    zero = torch.zeros(4, 1)
    assert float(loss.critic(zero, zero)) == pytest.approx(math.log(2), abs=1e-4)
    correct, fooled = loss.critic(zero + 3, zero - 3), loss.critic(zero - 3, zero + 3)
    assert correct < 0.1 < 1 < fooled
    assert float(loss(zero + 3)) < float(loss(zero)) < float(loss(zero - 3))


@pytest.fixture(scope="module")
def vgg_file(tmp_path_factory):
    """Write random weights in torchvision's layout, including the classifier."""
    torch.manual_seed(0)
    state = {f"features.{k}": v * 0.5 for k, v in build_vgg19_features().state_dict().items()}
    path = tmp_path_factory.mktemp("vgg") / "vgg19.safetensors"
    save_file(state | {"classifier.0.bias": torch.zeros(4)}, path)
    return path


def test_the_perceptual_loss_loads_compares_and_identifies_its_file(vgg_file):
    loss = VGGPerceptual(vgg_file)
    assert loss.checksum == hashlib.sha256(vgg_file.read_bytes()).hexdigest()
    image = torch.rand(1, 1, 32, 32, requires_grad=True)
    assert loss(image, image.detach()).item() == 0
    value = loss(image, image.detach() * 0.2)
    value.backward()
    assert value > 0
    assert torch.isfinite(image.grad).all()
    assert not any(p.requires_grad for p in loss.parameters())


def test_torchvisions_file_and_its_tensors_give_the_same_features(vgg_file, tmp_path):
    """Its format is older than that of the present `torch.save`."""
    path = tmp_path / "vgg19-dcbb9e9d.pth"
    torch.save(load_file(vgg_file), path, _use_new_zipfile_serialization=False)
    states = [VGGPerceptual(file).features.state_dict() for file in (path, vgg_file)]
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    torch.save([1, 2], path)
    with pytest.raises(ValueError, match="list"):
        VGGPerceptual(path)


def test_the_perceptual_loss_is_the_mean_squared_difference_of_features(vgg_file):
    """Ledig et al. 2017, equation 5, with the normalization of torchvision."""
    features = build_vgg19_features()
    features.load_state_dict(
        {
            name.removeprefix("features."): value
            for name, value in load_file(vgg_file).items()
            if name.startswith("features.")
        }
    )
    torch.manual_seed(1)
    output, target = torch.rand(2, 2, 1, 32, 32)
    mean = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
    sd = torch.tensor([0.229, 0.224, 0.225])[:, None, None]
    with torch.no_grad():
        difference = features((output - mean) / sd) - features((target - mean) / sd)
        value = VGGPerceptual(vgg_file)(output, target)
    assert float(value) > 0
    assert float(value) == pytest.approx(float((difference**2).mean()), rel=1e-4)


def test_a_file_without_vgg_weights_is_rejected_by_name(tmp_path):
    path = tmp_path / "other.safetensors"
    save_file({"features.0.weight": torch.zeros(3, 3)}, path)
    with pytest.raises(ValueError, match=r"other\.safetensors.*features\.0\.weight"):
        VGGPerceptual(path)


def test_a_pickle_with_code_is_not_executed(tmp_path):
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
