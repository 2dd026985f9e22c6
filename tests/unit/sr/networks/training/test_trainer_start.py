"""Test training on a pair with starting weights of another model, which is never mistaken for a
training without.
"""

import hashlib
import json
from dataclasses import replace

import pytest
import torch
from data.tiny_training import equal_states

from bids_sr.sr import method
from bids_sr.sr.models import model, model_store
from bids_sr.sr.models.request import ModelRequest
from bids_sr.sr.networks.data.examples import Examples
from bids_sr.sr.networks.data.validation import validation_windows
from bids_sr.sr.networks.training import trainer
from bids_sr.sr.networks.training.phase import compare_with_interpolations

DCNET = method.get_method("dcnet")
FACTOR = (2.0, 2.0, 1.0)
SHORT = replace(
    DCNET.recipes["fast"],
    iterations=8,
    evaluate_every=4,
    adversarial_from=2,
    batch=2,
    hold_out=3,
    patience=None,
)
COLD = ModelRequest(method=DCNET.name, factor=FACTOR, sloppy=True)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Write a network that changes its input."""
    torch.manual_seed(0)
    network = DCNET.recipes["fast"].build_generator(1, FACTOR)
    state = {
        name: values + 0.05 * torch.randn_like(values)
        for name, values in network.state_dict().items()
    }
    card = {"method": DCNET.name, "recipe": "fast", "factor": list(FACTOR), "contrast": "T2starw"}
    card |= {"orientation": "I-S", "resolution": {"lowres_mm": [6.0, 6.0, 4.0]}}
    return model.save_model(tmp_path_factory.mktemp("start") / "start", state, card)[0]


@pytest.fixture(scope="module")
def start(weights):
    return model.load_model(weights)


def fit(pair, work_dir, recipe, start_model):
    request = ModelRequest(
        method=DCNET.name,
        replacement_recipe=recipe,
        factor=FACTOR,
        random_seed=3,
        start_model=start_model,
    )
    return trainer.train_network(request, (pair,), work_dir)


def test_the_first_validation_scores_the_starting_weights(small_pair, tmp_path, weights, start):
    without_progress = replace(SHORT, learning_rate=0.0, schedule="constant")
    examples = Examples((small_pair,), without_progress, FACTOR, 2)
    expected = compare_with_interpolations(
        start.generator, examples, validation_windows(examples, examples.held_out_slabs)
    )["network"]["psnr"]
    start.generator.eval()
    warm = fit(small_pair, tmp_path / "warm", without_progress, start)
    cold = fit(small_pair, tmp_path / "cold", without_progress, None)
    assert warm.log[0]["psnr"] == pytest.approx(expected, abs=1e-4)
    assert abs(cold.log[0]["psnr"] - expected) > 0.01
    assert equal_states(warm.state, start.generator.state_dict())
    assert (
        warm.card["started_from"]["weights_sha256"]
        == hashlib.sha256(weights.read_bytes()).hexdigest()
    )
    assert "started_from" not in cold.card


def test_models_are_reused_only_with_the_same_start(small_pair, tmp_path, start):
    requests = {"warm": replace(COLD, start_model=start), "cold": COLD}
    for name, request in requests.items():
        (tmp_path / name).mkdir()
        files = model_store.make_or_reuse_model(request, (small_pair,), tmp_path / name)
        assert ("started_from" in json.loads(files[1].read_text())) == (name == "warm")
    for name, request in requests.items():
        for folder in requests:
            out = tmp_path / f"{name}-in-{folder}"
            out.mkdir()
            search = replace(request, model_dir=tmp_path / folder)
            model_store.make_or_reuse_model(search, (small_pair,), out)
            assert model_store.source_path(out).exists() is (name == folder), out
