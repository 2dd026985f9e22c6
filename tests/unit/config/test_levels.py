"""What each level stores: known from the settings alone."""

import pytest

from bids_sr.config.levels import (
    SMOOTHING,
    THRESHOLDS,
    StoredMaps,
    _maps_level,
    reaches,
    series_level,
)
from bids_sr.config.settings import Settings, analysis_digest

BOTH = ("cc", "glm")


def _stored(
    level="standard",
    smoothing=SMOOTHING,
    thresholds=THRESHOLDS,
    kinds=BOTH,
    correlation=False,
):
    chosen = StoredMaps(
        level=level,
        smoothing=smoothing,
        thresholds=thresholds,
        kinds=kinds,
        correlation=correlation,
    )
    return {
        width: (tuple(own.stats), tuple(own.thresholds)) for width, own in chosen.of("sbl").items()
    }


def test_the_standard_level_stores_what_is_shown_and_what_the_group_level_reads() -> None:
    assert _stored() == {
        0.0: (("t", "effect", "variance"), ()),
        5.0: (("t", "effect"), ()),
    }


def test_correlation_is_stored_with_its_region_where_it_is_asked_for() -> None:
    assert _stored(correlation=True) == {
        0.0: (("cc", "t", "effect", "variance"), ("quarter",)),
        5.0: (("t", "effect"), ()),
    }


def test_contrasts_that_nobody_asked_for_are_stored_of_two_series() -> None:
    chosen = {
        level: StoredMaps(level=level, primary="sbl", minus_others=["aMinusOthers"])
        for level in ("standard", "full")
    }
    assert [
        name
        for name in ("raw", "sbl", "srgan", "measured")
        if chosen["standard"].holds(name, "aMinusOthers", 0.0, "t")
    ] == ["raw", "sbl"]
    assert chosen["standard"].holds("srgan", "a", 0.0, "t")
    assert chosen["full"].holds("srgan", "aMinusOthers", 0.0, "t")


def test_the_smallest_level_stores_no_map_and_the_largest_all() -> None:
    assert _stored("minimal") == {}
    every = (("cc", "t", "effect", "variance", "z"), THRESHOLDS)
    assert _stored("full") == {0.0: every, 5.0: every}


@pytest.mark.parametrize("smoothing", [(0.0, 5.0, 8.0), (3.5, 13.2), (6.0,)])
def test_widths_that_a_user_named_get_what_the_smallest_gets(smoothing) -> None:
    assert _stored(smoothing=smoothing) == dict.fromkeys(
        smoothing, (("t", "effect", "variance"), ())
    )


def test_thresholds_that_a_user_named_have_their_regions() -> None:
    assert _stored(thresholds=("fdr", "3.1"))[0.0][1] == ("fdr", "3.1")


@pytest.mark.parametrize(
    ("kinds", "least", "above"),
    [
        (("cc",), (("cc",), ("quarter",)), (("cc",), ())),
        (("glm",), (("t", "effect", "variance"), ()), (("t", "effect"), ())),
    ],
)
def test_the_first_region_is_the_first_that_can_be_made(kinds, least, above) -> None:
    assert _stored(kinds=kinds) == {0.0: least, 5.0: above}


def test_series_that_can_be_made_again_are_stored_in_full_only() -> None:
    found = {
        name: series_level(name, ["sbl", "zerofill"])
        for name in ("raw", "sbl", "srgan", "zerofill", "bspline")
    }
    assert found == {
        **dict.fromkeys(("raw", "sbl", "srgan", "zerofill"), "minimal"),
        "bspline": "full",
    }
    assert series_level("measured", ["sbl"]) == "full"


def test_maps_of_further_baselines_are_stored_where_they_were_named() -> None:
    for name in ("raw", "bspline", "measured", "sbl"):
        assert _maps_level(name, ["sbl"], "default") == "standard"
    assert _maps_level("zerofill", ["sbl"], "default") == "full"
    assert _maps_level("zerofill", ["sbl", "zerofill"], "default") == "standard"
    assert _maps_level("lanczos", ["sbl"], "all") == "standard"


def test_a_level_holds_what_those_below_it_hold() -> None:
    assert [reaches(level, "standard") for level in ("minimal", "standard", "full")] == [
        False,
        True,
        True,
    ]


def test_no_result_depends_on_the_level() -> None:
    given = {"paths": {"bids_dir": "/in", "output_dir": "/out"}}
    digests = {
        analysis_digest(Settings.from_mapping({**given, "run": {"level": level}}))
        for level in ("minimal", "full")
    }
    assert len(digests) == 1
