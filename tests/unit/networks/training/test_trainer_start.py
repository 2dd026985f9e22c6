"""Test training on a pair with starting weights of another model, which is never mistaken for a
training without.
"""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import bids_sr.boilerplate
from bids_sr.networks.data.examples import Examples
from bids_sr.networks.data.validation import validation_windows
from bids_sr.networks.training import trainer
from bids_sr.networks.training.phase import compare_with_interpolations
from bids_sr.sr import method
from bids_sr.sr.models import card as cards, model, model_store
from bids_sr.sr.models.request import ModelRequest

DCNET = method.get_method("dcnet")
WEIGHTS = Path(bids_sr.boilerplate.__file__).parent / "models" / "dcnet_phantom.safetensors"
SHORT = replace(
    DCNET.recipes["fast"],
    iterations=8,
    evaluate_every=4,
    adversarial_from=2,
    batch=2,
    hold_out=3,
    patience=None,
)
COLD = ModelRequest(method=DCNET.name, factor=(2.0, 2.0, 1.0), sloppy=True)
WARM = replace(COLD, start_model=model.load_model(WEIGHTS))


@pytest.fixture(scope="module")
def start():
    return model.load_model(WEIGHTS)


def fit(pair, work_dir, changed=SHORT, **fields):
    return trainer.train_network(
        ModelRequest(
            method=DCNET.name,
            replacement_recipe=changed,
            factor=(2.0, 2.0, 1.0),
            **{"random_seed": 3} | fields,
        ),
        (pair,),
        work_dir,
    )


def equal_states(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def test_the_first_validation_scores_the_starting_weights(small_pair, tmp_path, start):
    without_progress = replace(SHORT, learning_rate=0.0, schedule="constant")
    examples = Examples((small_pair,), without_progress, (2.0, 2.0, 1.0), 2)
    expected = compare_with_interpolations(
        start.generator, examples, validation_windows(examples, examples.held_out_regions)
    )["network"]["psnr"]
    start.generator.eval()
    warm, cold = (
        fit(
            small_pair,
            tmp_path / str(start_model is None),
            without_progress,
            start_model=start_model,
        )
        for start_model in (start, None)
    )
    assert warm.log[0]["psnr"] == pytest.approx(expected, abs=1e-4)
    assert abs(cold.log[0]["psnr"] - expected) > 0.01
    assert equal_states(warm.state, start.generator.state_dict())
    assert (
        warm.card["started_from"]["weights_sha256"]
        == hashlib.sha256(WEIGHTS.read_bytes()).hexdigest()
    )
    assert "started_from" not in cold.card


def test_a_warm_start_is_reproducible(small_pair, tmp_path, start):
    first, repeated = (fit(small_pair, tmp_path / name, start_model=start) for name in ("a", "b"))
    assert equal_states(first.state, repeated.state)
    assert not equal_states(first.state, start.generator.state_dict())


@pytest.mark.parametrize("warm_first", [True, False])
def test_a_checkpoint_with_another_start_is_not_resumed(small_pair, tmp_path, start, warm_first):
    first_start, second_start = (start, None) if warm_first else (None, start)
    fit(small_pair, tmp_path / "shared", start_model=first_start)
    mixed = fit(small_pair, tmp_path / "shared", start_model=second_start)
    assert equal_states(
        mixed.state, fit(small_pair, tmp_path / "fresh", start_model=second_start).state
    )


def test_starting_weights_of_another_network_are_rejected(small_pair, tmp_path, start):
    paper = replace(method.get_method("srgan").recipes["paper"], iterations=2)
    with pytest.raises(
        cards.ModelError, match=r"\(dcnet, fast\) differs from the network of dcnet"
    ):
        fit(small_pair, tmp_path, paper, recipe="paper", start_model=start)


def test_models_are_reused_only_with_the_same_start(small_pair, tmp_path):
    for name, request in (("warm", WARM), ("cold", COLD)):
        (tmp_path / name).mkdir()
        card = json.loads(
            model_store.make_or_reuse_model(request, (small_pair,), tmp_path / name)[1].read_text()
        )
        assert ("started_from" in card) == (name == "warm")
    for request, matching_folder in ((WARM, "warm"), (COLD, "cold")):
        for folder in ("warm", "cold"):
            model_path = model_store._find_model(
                replace(request, model_dir=tmp_path / folder), (small_pair,)
            )
            assert (model_path is not None) == (folder == matching_folder)
