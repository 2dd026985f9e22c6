"""Test the settings of candidates: listed and drawn values."""

import numpy as np
import pytest

from bids_sr.cli.models.candidate_settings import SearchedSetting, list_trials, parse_setting
from bids_sr.io.notices import InvalidInput
from bids_sr.sr.method import get_method
from bids_sr.sr.recipe_changes import apply_changes

RECIPE = get_method("unet").recipes["fast"]


def search_space(*texts):
    return tuple(parse_setting(text, "unet", RECIPE) for text in texts)


def drawn_values(setting, count=400):
    rng = np.random.default_rng(0)
    return np.array([setting.draw(rng) for _ in range(count)])


def test_ranges_and_lists_are_parsed():
    assert search_space("learning_rate=1e-4..1e-2") == (
        SearchedSetting(field="learning_rate", low=1e-4, high=1e-2),
    )
    assert search_space("filters=8,16,8") == (
        SearchedSetting(field="filters", choices=(8, 16), is_integer=True),
    )
    assert [
        str(setting) for setting in search_space("filters=8..64", "batch=4", "unet.mae=.5..1")
    ] == [
        "filters=8..64",
        "batch=4",
        "mae=0.5..1",
    ]


def test_wide_ranges_are_drawn_evenly_in_their_logarithm_and_narrow_ones_evenly():
    (wide,) = search_space("learning_rate=1e-4..1e-2")
    rates = drawn_values(wide)
    assert 1e-4 <= rates.min() < 1.1e-4
    assert 0.9e-2 < rates.max() <= 1e-2
    assert np.median(rates) == pytest.approx(1e-3, rel=0.3)
    (narrow,) = search_space("mae=1..3")
    assert np.median(drawn_values(narrow)) == pytest.approx(2, abs=0.15)
    (from_zero,) = search_space("mse=0..1")
    assert np.median(drawn_values(from_zero)) == pytest.approx(0.5, abs=0.08)


def test_integers_and_choices_are_drawn():
    (integer,) = search_space("batch=1..4")
    assert set(drawn_values(integer)) == {1, 2, 3, 4}
    (choice,) = search_space("filters=8,16,32")
    assert set(drawn_values(choice)) == {8, 16, 32}


def drawn(texts, n_trials, seed=0, method="unet", recipe=RECIPE):
    """Return the changes of drawn trials."""
    return list(list_trials(texts, method, recipe, n_trials=n_trials, seed=seed).values())


def test_incompatible_settings_are_drawn_again():
    for changes in drawn(["mae=0,1", "mse=0,1", "ssim=0"], 40):
        apply_changes(RECIPE, changes)
    with pytest.raises(InvalidInput, match="weight of 0"):
        drawn(["mae=0", "ssim=0", "filters=8,16"], 1)


@pytest.mark.parametrize("text", ["filters=64..8", "filters=1..8", "filters=8,", "filter=8"])
def test_invalid_ranges_are_rejected(text):
    with pytest.raises(InvalidInput):
        search_space(text)


def drawn_fields(texts, method="unet", recipe=RECIPE):
    """Return the names of the settings in a drawn trial."""
    return {change.field for change in drawn(texts, 1, method=method, recipe=recipe)[0]}


def test_learning_rate_and_smaller_weights_are_varied_by_default():
    trials = list_trials([], "unet", RECIPE, n_trials=50, seed=0)
    values = np.array([[change.value for change in changes] for changes in trials.values()])
    fields = [change.field for change in next(iter(trials.values()))]
    assert fields == ["ssim", "learning_rate"]
    assert (values.min(0) >= [0.01, 0.0002]).all()
    assert (values.max(0) <= [1, 0.02]).all()
    # a fixed value replaces the default range, and a varied setting replaces all of them
    assert drawn_fields(["batch=1"]) == {"batch", "ssim", "learning_rate"}
    assert drawn_fields(["batch=1,2"]) == {"batch"}
    fixed = drawn(["ssim=0.5"], 3)
    assert {changes[0].value for changes in fixed} == {0.5}


def test_all_combinations_of_listed_values_are_trials():
    texts = ["filters=8,16", "batch=1,2,4", "mae=1"]
    trials = list_trials(texts, "unet", RECIPE, n_trials=None, seed=0)
    values = {name: tuple(change.value for change in trial) for name, trial in trials.items()}
    assert values == {f"filters={f} batch={b}": (f, b, 1) for f in (8, 16) for b in (1, 2, 4)}
    assert list_trials([], "unet", RECIPE, n_trials=None, seed=0) == {"": ()}
    with pytest.raises(InvalidInput, match="a range requires a number of trials"):
        list_trials(["filters=8..16"], "unet", RECIPE, n_trials=None, seed=0)
    # All weights of terms that depend on the target would be 0.
    with pytest.raises(InvalidInput, match="would have a weight of 0"):
        list_trials(["mae=0,1", "ssim=0,1"], "unet", RECIPE, n_trials=None, seed=0)
