"""Test steps and texts if super-resolution makes slices thinner."""

from __future__ import annotations

import shlex
from pathlib import Path

import numpy as np
import pytest

from bids_sr.cli.parser import parse_settings
from bids_sr.io.volume import Volume
from bids_sr.model_commands.cli.train import _format_run_command
from bids_sr.registration.pair_frames import make_truncated_pair
from bids_sr.sr.matrices import acquire
from bids_sr.sr.method import get_method
from bids_sr.steps.evaluation import describe_halves, describe_known_activation
from bids_sr.steps.registration import _describe_slices
from bids_sr.steps.self_test import _explain_untested
from bids_sr.steps.series_description import describe_all_series, describe_hr_resolution
from bids_sr.steps.t1w_pair import another_contrast
from bids_sr.steps.training import recipe_for_thinner_slices

THIN, FLAT = (2.0, 2.0, 2.0), (2.0, 2.0, 1.0)


@pytest.mark.parametrize(
    ("method", "recipe", "degradation"),
    [
        ("tv", "fast", "multislice"),
        ("dip", "fast", "multislice"),
        ("mse3d", "fast", "multislice"),
        ("tv", "paper", "trilinear"),
        ("ccnn3d", "fast", "block"),
    ],
)
def test_recipes_that_crop_k_space_only_crop_in_plane(method, recipe, degradation):
    changed = recipe_for_thinner_slices(get_method(method), recipe, THIN)
    original = get_method(method).recipes[recipe]
    assert (changed or original).degradation == degradation
    assert (changed is None) == (original.degradation != "kspace")
    assert recipe_for_thinner_slices(get_method(method), recipe, FLAT) is None


@pytest.mark.parametrize(
    ("factor", "factor_text"), [(THIN, "2 2 2"), (FLAT, "2"), ((1.5, 2.0, 1.0), "1.5 2 1")]
)
def test_the_command_printed_by_training_has_the_factor_of_the_model(factor, factor_text):
    text = _format_run_command(get_method("resnet3d"), Path("tuned.safetensors"), factor)
    assert text.endswith(
        f"--sr-method resnet3d --pretrained tuned.safetensors --sr-factor {factor_text}"
    )
    words = shlex.split(text.replace("...", "bids out participant"))
    assert parse_settings(words[1:]).superres.factor_by_axis == factor


def test_slices_of_a_truncated_pair_are_averaged():
    rng = np.random.default_rng(0)
    x, y = np.indices((24, 24, 8))[:2]
    head = (((x - 11.5) / 9) ** 2 + ((y - 11.5) / 9) ** 2 < 1) * (500 + 100 * rng.random(x.shape))
    high_res = Volume(head.astype(np.float32), np.diag([2.0, 2, 2, 1]))
    high_res_copy, low_res, *_ = make_truncated_pair(high_res, THIN)
    np.testing.assert_allclose(
        low_res.data,
        np.maximum(acquire(head, high_res.affine, factor=THIN)[0], 0),
        rtol=1e-4,
        atol=1e-2,
    )
    assert (high_res_copy.data.shape, low_res.data.shape) == ((24, 24, 8), (12, 12, 4))
    _, low_res_copy = another_contrast.function(high_res, low_res, factor=THIN)
    assert low_res_copy.data.shape == low_res.data.shape


def test_texts_name_the_axes_of_a_comparison():
    def texts(factor):
        halves = describe_halves(factor, at_rest=False)
        return describe_known_activation(factor), halves, _describe_slices(factor)

    for thin, flat in zip(texts(THIN), texts(FLAT), strict=True):
        assert thin != flat
    assert all("in-plane spatial frequencies" in text for text in texts(FLAT)[:2])
    assert all("or across slices" in text for text in texts(THIN)[:2])
    assert "Across slices, cubic spline" in describe_all_series(
        ["zerofill"], False, with_thinner_slices=True
    )
    assert "Across slices" not in describe_all_series(["zerofill"], False)


def test_reasons_and_sidecars_contain_the_sizes_of_all_axes():
    text = _explain_untested("tv", ["tv"], (6.0, 6.0, 5.0), THIN)
    assert text == (
        "the network was trained to super-resolve 6×6×5 mm data to 3×3×2.5 mm; a self-test from"
        " 12×12×10 mm to 6×6×5 mm would require a separately trained network"
    )
    assert "6 mm data to 3 mm" in _explain_untested("srgan", ["srgan"], (6.0, 6.0, 5.0), FLAT)
    assert (
        describe_hr_resolution("tv", THIN, (0, 1, 2))
        == "acquired field of view with voxels 2x2x2 times smaller, computed with tv"
    )
