"""Check the contract of all methods in bids_sr/sr/methods."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from checking import inconsistency
from data.features import WEIGHTS, with_features

import bids_sr.boilerplate
from bids_sr.io.nifti import SeriesReader, load_image, save_image
from bids_sr.io.notices import InvalidInput
from bids_sr.spatial.matrices import kspace_crop
from bids_sr.sr.inference.apply_to_series import enforce_consistency
from bids_sr.sr.inference.upsampler_inputs import UpsamplerInputs
from bids_sr.sr.inference.upsamplers import make_upsampler
from bids_sr.sr.method import (
    UnknownMethod,
    get_method,
    get_recipe,
    list_methods,
    method_names,
)
from bids_sr.sr.models.model import load_model, save_model
from bids_sr.sr.models.request import ModelRequest
from bids_sr.sr.networks.data.images import pair_image
from bids_sr.sr.networks.training.trainer import train_network
from bids_sr.sr.prior_maps.add_detail import make_detail
from bids_sr.sr.prior_maps.run_data import RunData
from bids_sr.sr.prior_maps.temporal_components import TemporalStatistics
from bids_sr.sr.prior_maps.tested_prior import estimate_tested_prior


def cases(kind):
    """Return (method, recipe) of every method that is trained on a pair, or on the run itself."""
    methods = [get_method(name) for name in method_names()]
    return [
        (method.name, recipe)
        for method in methods
        if method.trained_on == kind
        for recipe in method.recipes or ("fast",)
    ]


CASES, RUN_CASES = cases("pair"), cases("series")
SET_METHODS = [
    name for name in method_names() if get_method(name).trained_on in ("images", "self")
]
CARD = {"data_sha256", "seed", "held_out", "versions", "intensity", "resolution", "reproducible"}
FACTORS = [(2.0, 2.0, 1.0), (1.5, 1.5, 1.0)]


def loaded(name, recipe, factor, tmp_path, shape=None):
    """Save and load an untrained model of a method.

    A method of the run gets a prior SD map of noise for a run of `shape`.
    """
    torch.manual_seed(0)
    card = {
        "method": name,
        "recipe": recipe,
        "factor": list(factor),
        "resolution": {"lowres_mm": [3, 3, 3]},
        "contrast": "T2starw",
        "orientation": "I-S",
    }
    if get_method(name).trained_on == "series":
        card |= {"trained_on": "series"}
        fine = [int(n * f + 0.5) for n, f in zip(shape or (4, 4, 4), factor, strict=True)]
        count = max(1, len(get_method(name).variance.fwhm))
        state = {"weight": torch.rand(count, fine[2], *fine[:2]), "noise": torch.tensor(1e-2)}
        return load_model(save_model(tmp_path / name, state, card)[0])
    settings = get_method(name).recipes[recipe]
    card |= {"settings": {"edition": settings.edition, "intensity": settings.intensity}}
    state = settings.build_generator(1, factor).state_dict()
    return load_model(save_model(tmp_path / name, state, card)[0])


def statistics(shape, count=10):
    """Return temporal statistics of a noise run."""
    rng = np.random.default_rng(1)
    images = rng.normal(size=(count, *shape)).astype(np.float32)
    return TemporalStatistics(mean=100 + images[0], components=images, checksums={"series": "x"})


@pytest.mark.parametrize("name", method_names())
def test_a_method_has_a_reference_and_networks_and_losses_that_exist(name):
    method = get_method(name)
    assert method.name == name
    assert method.summary
    assert "fast" in method.recipes or method.variance is not None
    folder = Path(bids_sr.boilerplate.__file__).parent
    keys = re.findall(r"@\w+\{([^,]+),", "".join(p.read_text() for p in folder.rglob("*.bib")))
    assert method.reference in keys
    for recipe in method.recipes.values():
        builders = [recipe.build_generator, recipe.build_critic]
        components = [
            getattr(builder, "build", builder) for builder in builders if builder is not None
        ] + [t.build for t in recipe.losses]
        assert all(callable(component.imported_class) for component in components)


def test_a_method_needs_a_pair_unless_it_learns_from_the_run():
    alone = {method.name for method in list_methods() if not method.needs_pair}
    assert alone == {"dip", "tv", "sbl", "sdmod"}


def test_an_unknown_name_is_rejected_with_the_valid_names():
    with pytest.raises(UnknownMethod, match=r"nonesuch.*srgan"):
        get_method("nonesuch")
    with pytest.raises(UnknownMethod, match=r"slow.*fast"):
        get_recipe(get_method("srgan"), "slow")


@pytest.mark.parametrize(("name", "recipe"), CASES)
@pytest.mark.parametrize("factor", FACTORS)
def test_odd_sizes_and_both_factors_work_and_the_batch_size_has_no_effect(
    name, recipe, factor, tmp_path
):
    up = make_upsampler(
        name, UpsamplerInputs(factor=factor, scale=1.0), loaded(name, recipe, factor, tmp_path)
    )
    volume = np.random.default_rng(0).random((9, 7, 6), dtype=np.float32)
    fine = up(volume, np.eye(4))
    assert fine.shape == (int(9 * factor[0] + 0.5), int(7 * factor[1] + 0.5), 6)
    assert np.isfinite(fine).all()
    alone = up(np.ascontiguousarray(volume[..., 5:]), np.eye(4))
    np.testing.assert_allclose(fine[..., 5:], alone, atol=1e-5)
    before = volume.copy()
    up(volume, np.eye(4))
    np.testing.assert_array_equal(volume, before)


@pytest.mark.parametrize(("name", "recipe"), RUN_CASES)
@pytest.mark.parametrize("factor", [*FACTORS, (2.0, 2.0, 2.0)])
def test_a_method_of_the_run_is_data_consistent_for_any_size_and_factor(
    name, recipe, factor, tmp_path
):
    shape, affine = (13, 11, 6), np.diag([3.0, 3, 4, 1])
    model = loaded(name, recipe, factor, tmp_path, shape)
    volumes = 100 + np.random.default_rng(0).normal(size=(*shape, 5)).astype(np.float32)
    plain = make_upsampler("zerofill", UpsamplerInputs(factor=factor))
    # zero filling is not data consistent if slices become thinner
    filled = [
        enforce_consistency(plain(volumes[..., t], np.eye(4)), volumes[..., t], factor)
        for t in range(5)
    ]
    filled = np.stack(filled, -1)
    save_image(filled, np.eye(4), tmp_path / "filled.nii", tr=2.0)
    inputs = UpsamplerInputs(factor=factor, affine=affine, mask=np.ones(shape))
    with SeriesReader(tmp_path / "filled.nii") as reader:
        make_detail(model, inputs, shape).add(reader, tmp_path / "fine.nii")
    fine = load_image(tmp_path / "fine.nii")[0]
    assert fine.shape[:3] == tuple(int(n * f + 0.5) for n, f in zip(shape, factor, strict=True))
    assert inconsistency(fine[..., 1], volumes[..., 1]) < 1e-5
    assert np.abs(fine - filled).max() > 0.01
    with pytest.raises(InvalidInput, match="cannot be applied to single volumes"):
        make_upsampler(name, inputs, model)


@pytest.mark.parametrize(("name", "recipe"), RUN_CASES)
@pytest.mark.parametrize("factor", [(2.0, 2.0, 1.0), (1.5, 1.5, 1.0), (2.0, 2.0, 2.0)])
def test_prior_sd_maps_of_a_run_have_a_card_that_loads(name, recipe, factor, tmp_path):
    shape = (25, 22, 6)
    data = RunData(
        statistics=statistics(shape),
        halves=(statistics(shape), statistics(shape)),
        mask=np.ones(shape),
        affine=np.diag([3.0, 3, 4, 1]),
        factor=factor,
    )
    method = get_method(name)
    fitted = estimate_tested_prior(
        ModelRequest(method=method.name, recipe=recipe, sloppy=True), data
    )
    model = load_model(save_model(tmp_path / "model", fitted.state, fitted.card)[0])
    assert model.card.json.keys() >= CARD | {"applied"}
    assert model.card.json["trained_on"] == "series"
    assert model.generator.weight.shape[1:] == (
        round(6 * factor[2]),
        *(int(n * factor[0] + 0.5) for n in shape[:2]),
    )
    assert bool(model.generator.weight.any()) is model.card.json["applied"]


@pytest.mark.parametrize(("name", "recipe"), [*CASES, *((name, "fast") for name in SET_METHODS)])
def test_a_trained_model_has_a_card_that_loads_and_is_applied_to_odd_sizes(name, recipe, tmp_path):
    rng = np.random.default_rng(0)
    highres = 100 + 50 * rng.random((36, 34, 8), dtype=np.float32)
    lowres, affine = kspace_crop(highres, np.diag([3.0, 3, 4, 1]), factor=(2, 2, 1))
    factor = (2.0, 2.0, 1.0)
    pair = pair_image(lowres, highres, np.ones_like(lowres), affine, factor)
    method = get_method(name)
    full = method.recipes[recipe]
    patch = 16 if method.trained_on == "pair" else 32 if method.ndim == 2 else 8
    short = replace(
        full,
        iterations=2,
        epochs=None,
        patches=None,
        decay_from=0,
        evaluate_every=1,
        batch=2,
        adversarial_from=0,
        critic_steps=1,
        patch=patch if full.patch else None,
    )
    request = ModelRequest(
        method=name,
        recipe=recipe,
        replacement_recipe=with_features(short),
        vgg_weights=WEIGHTS if short.perceptual else None,
        factor=factor,
    )
    fitted = train_network(request, (pair,), tmp_path / "work")
    model = load_model(save_model(tmp_path / "model", fitted.state, fitted.card)[0])
    card = model.card.json
    assert card.keys() >= CARD
    assert (card["trained_on"], card["ndim"]) == (method.trained_on, method.ndim)
    if method.trained_on == "pair":
        scored = "held_out" if short.hold_out else "on_trained_slices"
        assert card[scored].keys() >= {"network", "bspline", "zerofill"}
    volume = 100 + 50 * rng.random((11, 9, 5), dtype=np.float32)
    before = volume.copy()
    inputs = UpsamplerInputs(factor=factor, scale=150.0)
    fine = make_upsampler(name, inputs, model)(volume, np.eye(4))
    assert fine.shape == (22, 18, 5)
    assert np.isfinite(fine).all()
    np.testing.assert_array_equal(volume, before)
