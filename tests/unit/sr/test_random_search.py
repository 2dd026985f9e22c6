"""What a random search draws, and which trial it names as the best."""

import numpy as np
import pytest

from bids_sr.sr.method import get_method
from bids_sr.sr.random_search import (
    SearchedSetting,
    best_trial,
    default_space,
    draw_trial,
    grid_trials,
    read_drawn,
)
from bids_sr.sr.recipe_changes import ChangeError, apply_changes

RECIPE = get_method("unet").recipes["fast"]


def space(*texts):
    return tuple(read_drawn(text, "unet", RECIPE) for text in texts)


def values(drawn, count=400):
    rng = np.random.default_rng(0)
    return np.array([drawn.draw(rng) for _ in range(count)])


def test_a_range_and_a_list_are_read():
    assert space("learning_rate=1e-4..1e-2") == (
        SearchedSetting(field="learning_rate", low=1e-4, high=1e-2),
    )
    assert space("filters=8,16,8") == (
        SearchedSetting(field="filters", choices=(8, 16), whole=True),
    )
    assert [str(one) for one in space("filters=8..64", "batch=4", "unet.mae=.5..1")] == [
        "filters=8..64",
        "batch=4",
        "mae=0.5..1",
    ]


def test_a_wide_range_is_drawn_evenly_in_its_logarithm_and_a_narrow_one_evenly():
    (wide,) = space("learning_rate=1e-4..1e-2")
    found = values(wide)
    assert 1e-4 <= found.min() < 1.1e-4
    assert 0.9e-2 < found.max() <= 1e-2
    assert np.median(found) == pytest.approx(1e-3, rel=0.3)
    (narrow,) = space("mae=1..3")
    assert np.median(values(narrow)) == pytest.approx(2, abs=0.15)
    (from_zero,) = space("mse=0..1")
    assert np.median(values(from_zero)) == pytest.approx(0.5, abs=0.08)


def test_whole_numbers_and_choices():
    (whole,) = space("batch=1..4")
    assert set(values(whole)) == {1, 2, 3, 4}
    (one_of,) = space("filters=8,16,32")
    assert set(values(one_of)) == {8, 16, 32}


def test_a_value_can_be_typed_as_it_is_drawn():
    (wide,) = space("learning_rate=1e-5..1")
    for value in values(wide, 50):
        assert float(f"{value:.4g}") == value


def test_a_trial_depends_on_seed_and_number_alone():
    parts = space("learning_rate=1e-4..1e-2", "filters=8,16,32")
    first = [draw_trial(parts, "unet", RECIPE, seed=1, number=k) for k in range(1, 9)]
    assert draw_trial(parts, "unet", RECIPE, seed=1, number=5) == first[4]
    assert len(set(first)) == 8
    assert draw_trial(parts, "unet", RECIPE, seed=2, number=5) != first[4]


def test_settings_that_do_not_go_together_are_drawn_again():
    parts = space("mae=0,1", "mse=0,1", "ssim=0")
    for number in range(1, 40):
        apply_changes(RECIPE, draw_trial(parts, "unet", RECIPE, seed=0, number=number))
    with pytest.raises(ChangeError, match="weight of 0"):
        draw_trial(space("mae=0", "ssim=0"), "unet", RECIPE, seed=0, number=1)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("filters=64..8", "lower limit of the range must be smaller"),
        ("filters=1..8", "from 4 to 256"),
        ("filters=8,", "is not a number"),
        ("filter=8", "no setting"),
        ("filters", "is not a number"),
        ("tv.filters=8", "a setting of the method unet"),
    ],
)
def test_what_cannot_be_drawn(text, why):
    with pytest.raises(ChangeError, match=why):
        space(text)


def test_by_default_the_rate_and_the_smaller_weights_are_searched():
    assert [str(one) for one in default_space(RECIPE)] == [
        "ssim=0.01..1",
        "learning_rate=0.0002..0.02",
    ]


def test_the_best_is_the_highest_score_and_the_first_of_equals():
    assert best_trial([30.0, 31.0, None, 31.0]) == 1
    assert best_trial([None, None]) is None
    assert best_trial([]) is None


def test_a_grid_has_all_combinations_of_listed_values():
    trials = grid_trials(space("filters=8,16", "batch=1,2,4", "mae=1"), "unet", RECIPE)
    values = [tuple(change.value for change in trial) for trial in trials]
    assert values == [(f, b, 1) for f in (8, 16) for b in (1, 2, 4)]
    with pytest.raises(ChangeError, match="a list of values instead of a range"):
        grid_trials(space("filters=8..16"), "unet", RECIPE)
    # all weights of terms that see the target would be 0
    with pytest.raises(ChangeError, match="would have a weight of 0"):
        grid_trials(space("mae=0,1", "ssim=0,1"), "unet", RECIPE)


def test_alpha_is_searched_where_nothing_else_decides():
    tv = get_method("tv").recipes["paper"]
    (alpha,) = default_space(tv)
    assert alpha.field == "tv"
    assert (alpha.choices[0], 0.01 in alpha.choices, alpha.choices[-1]) == (0, True, 0.1)
    assert [one.field for one in default_space(get_method("dip").recipes["paper"])] == [
        "learning_rate"
    ]
