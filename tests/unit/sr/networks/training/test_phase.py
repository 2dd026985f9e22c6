"""Test training of a registered network on a pair of images: the network learns, its critic is
trained separately, the scored weights are saved, and unusable pairs are rejected.
"""

from dataclasses import replace

import numpy as np
import pytest
from data.tiny_training import equal_states

from bids_sr.io.notices import InvalidInput
from bids_sr.spatial.matrices import kspace_crop
from bids_sr.sr import method
from bids_sr.sr.models.request import ModelRequest
from bids_sr.sr.networks.data.examples import Examples, Slab, split_slabs
from bids_sr.sr.networks.data.images import pair_image
from bids_sr.sr.networks.training import trainer
from bids_sr.sr.networks.training.update_steps import Networks

FACTOR = (2.0, 2.0, 1.0)
DCNET = method.get_method("dcnet")
SHORT = replace(
    DCNET.recipes["fast"],
    iterations=20,
    evaluate_every=5,
    adversarial_from=4,
    batch=2,
    hold_out=3,
)


def fit(pair, work_dir, recipe=SHORT):
    """Train briefly."""
    request = ModelRequest(
        method=DCNET.name, replacement_recipe=recipe, factor=FACTOR, random_seed=3
    )
    return trainer.train_network(request, (pair,), work_dir)


def test_training_improves_held_out_slices(small_pair, tmp_path):
    # All slices follow the same rule: a sharp edge at the position of the smooth edge.
    x, y, z = np.indices((24, 24, 6)) / 11.5 - 1
    highres = (1000.0 * (x**2 + y**2 < 0.3 + 0.2 * (z + 1))).astype(np.float32)
    lowres, _ = kspace_crop(highres, np.eye(4), factor=(2, 2, 1))
    disks = pair_image(lowres, highres, np.ones_like(lowres), np.diag([6.0, 6, 4, 1]), FACTOR)
    recipe = replace(SHORT, iterations=150, evaluate_every=50, batch=3, learning_rate=5e-3)
    card = fit(disks, tmp_path, recipe).card
    # .1, .7 and 1.6 dB at three seeds
    assert card["held_out"]["network"]["psnr"] > card["held_out"]["zerofill"]["psnr"]


def test_a_critic_step_does_not_change_the_generator(small_pair):
    nets = Networks(SHORT, FACTOR)
    examples = Examples((small_pair,), SHORT, FACTOR, 2)
    batch = examples.draw_batch(np.random.default_rng(0), iteration=0, seed=0, size=2)
    fake = nets.generator(batch.input)
    before = {key: value.clone() for key, value in nets.modules["critic"].state_dict().items()}
    nets.update_critics(batch, fake)
    assert all(parameter.grad is None for parameter in nets.generator.parameters())
    assert not equal_states(before, nets.modules["critic"].state_dict())
    trained_critic = {
        key: value.clone() for key, value in nets.modules["critic"].state_dict().items()
    }
    nets.update_generators(batch, fake, adversarial=True)
    assert equal_states(trained_critic, nets.modules["critic"].state_dict())
    assert any(
        parameter.grad is not None and parameter.grad.abs().sum() > 0
        for parameter in nets.generator.parameters()
    )


def test_held_out_slices_are_not_training_slices():
    slices = tuple(Slab(slices=(z, z + 1)) for z in range(12))
    training, held_out = split_slabs(slices, 5)
    assert held_out == (slices[2], slices[7])
    assert sorted((*training, *held_out), key=slices.index) == list(slices)
    assert split_slabs(slices, 0) == (slices, ())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mask": np.zeros((12, 12, 6))}, "pair: the mask is empty"),
        ({"highres": np.zeros((24, 24, 6), np.float32)}, "high-resolution image is constant"),
        ({"lowres": np.ones((12, 12, 6), np.float32)}, "low-resolution image is constant"),
    ],
)
def test_an_unusable_pair_is_rejected(small_pair, change, message):
    images = {
        "lowres": small_pair.coarse,
        "highres": small_pair.fine,
        "mask": np.ones((12, 12, 6)),
    } | change
    with pytest.raises(InvalidInput, match=message):
        pair_image(**images, lowres_affine=np.eye(4), factor=FACTOR)
