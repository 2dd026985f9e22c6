"""One contract for every file in bids_sr/sr/methods, however many there are."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import bids_sr.boilerplate
from bids_sr.sr.degrade import kspace_crop
from bids_sr.sr.infer import make_upsampler
from bids_sr.sr.method import UnknownMethod, get_method, get_recipe, method_names
from bids_sr.sr.model import load_model, save_model
from bids_sr.sr.pair import TrainingPair
from bids_sr.sr.store import sloppy_recipe
from bids_sr.sr.train import fit

CASES = [(name, recipe) for name in method_names() for recipe in get_method(name).recipes]
FACTORS = [(2.0, 2.0, 1.0), (1.5, 1.5, 1.0)]


def loaded(name, recipe, factor, tmp_path):
    """An untrained model of a method, saved and loaded."""
    torch.manual_seed(0)
    generator = get_method(name).recipes[recipe].build_generator(1, factor)
    card = {
        "method": name, "recipe": recipe, "factor": list(factor), "resolution": {"lowres_mm": [3, 3, 3]},
        "contrast": "T2starw", "orientation": "I-S",
    }  # fmt: skip
    return load_model(save_model(tmp_path / name, generator.state_dict(), card)[0])


@pytest.mark.parametrize("name", method_names())
def test_a_method_carries_its_name_and_a_reference_that_exists(name):
    method = get_method(name)
    assert method.name == name
    assert method.summary
    assert "fast" in method.recipes
    folder = Path(bids_sr.boilerplate.__file__).parent
    keys = re.findall(r"@\w+\{([^,]+),", "".join(p.read_text() for p in folder.rglob("*.bib")))
    assert method.reference in keys


def test_an_unknown_name_is_refused_with_the_list():
    with pytest.raises(UnknownMethod, match=r"nonesuch.*srgan"):
        get_method("nonesuch")
    with pytest.raises(UnknownMethod, match=r"slow.*fast"):
        get_recipe(get_method("srgan"), "slow")


@pytest.mark.parametrize(("name", "recipe"), CASES)
@pytest.mark.parametrize("factor", FACTORS)
def test_odd_sizes_both_factors_and_independence_of_the_batch(name, recipe, factor, tmp_path):
    up = make_upsampler(name, factor, model=loaded(name, recipe, factor, tmp_path), scale=1.0)
    volume = np.random.default_rng(0).random((9, 7, 6), dtype=np.float32)
    fine = up(volume, np.eye(4))
    assert fine.shape == (int(9 * factor[0] + 0.5), int(7 * factor[1] + 0.5), 6)
    assert np.isfinite(fine).all()
    alone = up(np.ascontiguousarray(volume[..., 5:]), np.eye(4))
    np.testing.assert_allclose(fine[..., 5:], alone, atol=1e-5)
    before = volume.copy()
    up(volume, np.eye(4))
    np.testing.assert_array_equal(volume, before)


@pytest.mark.parametrize(("name", "recipe"), CASES)
def test_training_writes_a_card_that_loads(name, recipe, tmp_path):
    rng = np.random.default_rng(0)
    highres = 100 + 50 * rng.random((32, 32, 5), dtype=np.float32)
    lowres, affine = kspace_crop(highres, np.diag([3.0, 3, 4, 1]), factor=(2, 2, 1))
    pair = TrainingPair(
        lowres=lowres, highres=highres, mask=np.ones_like(lowres), lowres_affine=affine, factor=(2.0, 2.0, 1.0)
    )  # fmt: skip
    method = get_method(name)
    short = sloppy_recipe(method.recipes[recipe])
    short = replace(short, iterations=2, evaluate_every=1, adversarial_from=0, patch=16 if short.patch else None)
    made = fit(method, short, pair, recipe_name=recipe, seed=0, work_dir=tmp_path / "work")
    model = load_model(save_model(tmp_path / "model", made.state, made.card)[0])
    for key in ("data_sha256", "seed", "held_out", "versions", "intensity", "resolution", "reproducible"):
        assert key in model.card
    assert set(model.card["held_out"]) >= {"network", "bspline", "zerofill", "slices", "iteration"}
