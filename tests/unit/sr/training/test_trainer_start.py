"""Training on a pair that begins with weights of another model: never taken for one that began
with none.
"""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import bids_sr.boilerplate
from bids_sr.sr import method
from bids_sr.sr.data.examples import Examples
from bids_sr.sr.data.validation import validation_windows
from bids_sr.sr.models import card as cards
from bids_sr.sr.models import model, model_store
from bids_sr.sr.models.request import TrainingRequest
from bids_sr.sr.training import trainer
from bids_sr.sr.training.phase import compare

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
COLD = TrainingRequest(method=DCNET, factor=(2.0, 2.0, 1.0), sloppy=True)
WARM = replace(COLD, start=model.load_model(WEIGHTS))


@pytest.fixture(scope="module")
def start():
    return model.load_model(WEIGHTS)


def fit(pair, work_dir, changed=SHORT, **given):
    return trainer.fit(
        TrainingRequest(
            method=DCNET, changed=changed, factor=(2.0, 2.0, 1.0), **{"seed": 3} | given
        ),
        (pair,),
        work_dir,
    )


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def test_the_first_look_is_that_of_the_weights(small_pair, tmp_path, start):
    still = replace(SHORT, learning_rate=0.0, schedule="constant")
    examples = Examples((small_pair,), still, (2.0, 2.0, 1.0), 2)
    wanted = compare(start.generator, examples, validation_windows(examples, examples.held))[
        "network"
    ]["psnr"]
    start.generator.eval()
    warm, cold = (
        fit(small_pair, tmp_path / str(s is None), still, start=s) for s in (start, None)
    )
    assert warm.log[0]["psnr"] == pytest.approx(wanted, abs=1e-4)
    assert abs(cold.log[0]["psnr"] - wanted) > 0.01
    assert same(warm.state, start.generator.state_dict())
    assert (
        warm.card["started_from"]["weights_sha256"]
        == hashlib.sha256(WEIGHTS.read_bytes()).hexdigest()
    )
    assert "started_from" not in cold.card


def test_same_seed_same_bits(small_pair, tmp_path, start):
    first, again = (fit(small_pair, tmp_path / name, start=start) for name in ("a", "b"))
    assert same(first.state, again.state)
    assert not same(first.state, start.generator.state_dict())


@pytest.mark.parametrize("warm_first", [True, False])
def test_a_checkpoint_of_the_other_kind_is_not_gone_on_with(
    small_pair, tmp_path, start, warm_first
):
    one, other = (start, None) if warm_first else (None, start)
    fit(small_pair, tmp_path / "shared", start=one)
    mixed = fit(small_pair, tmp_path / "shared", start=other)
    assert same(mixed.state, fit(small_pair, tmp_path / "fresh", start=other).state)


def test_weights_of_another_network_are_refused(small_pair, tmp_path, start):
    paper = replace(method.get_method("srgan").recipes["paper-mse"], iterations=2)
    with pytest.raises(
        cards.ModelError, match=r"\(dcnet, fast\) differs from the network of dcnet"
    ):
        fit(small_pair, tmp_path, paper, recipe="paper-mse", start=start)


def test_models_are_reused_by_what_they_began_with(small_pair, tmp_path):
    for name, request in (("warm", WARM), ("cold", COLD)):
        (tmp_path / name).mkdir()
        card = json.loads(
            model_store.obtain_model(request, (small_pair,), tmp_path / name)[1].read_text()
        )
        assert ("started_from" in card) == (name == "warm")
    for request, own in ((WARM, "warm"), (COLD, "cold")):
        for place in ("warm", "cold"):
            found = model_store._find_model(
                replace(request, model_dir=tmp_path / place), (small_pair,)
            )
            assert (found is not None) == (place == own)
