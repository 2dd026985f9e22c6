"""Test recipe `fast` of srgan: a generator that is trained without a critic. dcnet is its former
content.
"""

import csv
import json
from dataclasses import replace

import pytest
import torch
from data.features import WEIGHTS, with_features
from torch import nn

from bids_sr.sr.method import get_method
from bids_sr.sr.models import model_store
from bids_sr.sr.models.card import ModelError, source_path
from bids_sr.sr.models.request import ModelRequest
from bids_sr.sr.networks.architectures.srresnet import SRResNet
from bids_sr.sr.networks.data.examples import Batch
from bids_sr.sr.networks.training.update_steps import Networks

FACTOR = (2.0, 2.0, 1.0)
SRGAN, DCNET = get_method("srgan"), get_method("dcnet")
FAST = SRGAN.recipes["fast"]
SHORT = replace(FAST, iterations=9, evaluate_every=3, batch=2, hold_out=3)
UP_SAMPLING = (nn.PixelShuffle, nn.Upsample, nn.ConvTranspose2d)


def layers(network):
    """Return kernel sizes and strides of the convolutions, and the types of other layers."""
    return [
        (module.kernel_size, module.stride) if isinstance(module, nn.Conv2d) else type(module)
        for module in network.modules()
    ]


def count(network):
    return sum(parameter.numel() for parameter in network.parameters())


def test_the_fast_network_is_the_published_generator_with_fewer_parameters_and_no_critic():
    small, published = (
        SRGAN.recipes[name].build_generator(1, FACTOR) for name in ("fast", "paper")
    )
    assert isinstance(small, SRResNet)
    assert set(layers(small)) == set(layers(published))
    assert count(small) < count(published) / 4
    assert not [module for module in small.modules() if isinstance(module, UP_SAMPLING)]
    assert FAST.upsampled_by == "lanczos"
    assert FAST.build_critic is None
    image = torch.rand(1, 1, 12, 11)
    assert torch.equal(small(image), image)  # the untrained network returns its input


def test_the_loss_without_vgg_weights_is_the_squared_error():
    images, weight = torch.rand(2, 2, 1, 12, 11), torch.rand(2, 1, 12, 11)
    batch = Batch(input=images[0], target=images[1], weight=weight)
    networks = Networks(FAST, FACTOR, seed=3, ndim=2)
    output = networks.generator(batch.input)  # equals the input before training
    losses = networks.update_generators(batch, output, False)
    squared_error = (weight * (images[0] - images[1]) ** 2).sum() / weight.sum()
    assert losses["loss"] == pytest.approx(float(squared_error), rel=1e-5)


def make_or_reuse(pair, out, **fields):
    """Return the paths of the model, and whether it was reused."""
    request = ModelRequest(
        method=SRGAN.name,
        replacement_recipe=with_features(SHORT),
        factor=FACTOR,
        random_seed=3,
        **fields,
    )
    out.mkdir(exist_ok=True)
    files = model_store.make_or_reuse_model(request, (pair,), out)
    return files, source_path(out).exists()


def test_vgg_features_are_only_used_if_their_weights_are_given(small_pair, tmp_path):
    """A model is only reused for a training with the same weights."""
    for weights, others, name in ((None, WEIGHTS, "without"), (WEIGHTS, None, "given")):
        models = tmp_path / name
        files, _ = make_or_reuse(small_pair, models, vgg_weights=weights)
        card = json.loads(files.card.read_text())
        assert card["perceptual"]["active"] is (weights is not None)
        rows = list(csv.DictReader(files.log.read_text().splitlines(), delimiter="\t"))
        used = [row.get("perceptual", "n/a") != "n/a" for row in rows]
        assert set(used) == {weights is not None}
        _, same = make_or_reuse(
            small_pair, tmp_path / "again", vgg_weights=weights, model_dir=models
        )
        _, other = make_or_reuse(
            small_pair, tmp_path / "other", vgg_weights=others, model_dir=models
        )
        assert (same, other) == (True, False)
    # Applying a model with features does not require their weights.
    reuse = {"model_source": "reuse"}
    models = {"model_dir": tmp_path / "given"}
    assert make_or_reuse(small_pair, tmp_path / "new", **reuse, **models)[1]
    models = {"model_dir": tmp_path / "without"}
    with pytest.raises(ModelError, match="VGG-19"):
        make_or_reuse(small_pair, tmp_path / "new", vgg_weights=WEIGHTS, **reuse, **models)
