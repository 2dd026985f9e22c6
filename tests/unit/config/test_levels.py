"""Test the maps and series stored at each level, as determined by the settings."""

from pathlib import Path

import pytest

from bids_sr.config import Paths, SuperRes
from bids_sr.config.levels import series_level
from bids_sr.config.sections.activation import Activation
from bids_sr.config.sections.run import Run
from bids_sr.config.settings import Settings
from bids_sr.engine.storage_level import reaches

BOTH = ("cc", "glm")
PATHS = Paths(bids_dir=Path("in"), output_dir=Path("out"))


def _stored(
    level="standard",
    smoothing=(),
    thresholds=("quarter", "fdr"),
    kinds=BOTH,
    correlation=False,
    series="sbl",
):
    """Return the stored statistics and thresholds of a series by width; `sbl` is exported."""
    settings = Settings(
        paths=PATHS,
        activation=Activation(smoothing=smoothing, thresholds=thresholds, kinds=kinds),
        run=Run(level=level),
    )
    widths = settings.activation.choose_smoothing()
    maps = settings.select_stored_maps(widths, at_rest=correlation, primary="sbl")
    return {
        width: (tuple(stored_maps.stats), tuple(stored_maps.thresholds))
        for width, stored_maps in maps.outputs_of(series).items()
    }


def test_the_standard_level_stores_maps_of_the_report_and_the_group_level() -> None:
    assert _stored() == {
        0.0: (("t", "effect", "variance"), ()),
        5.0: (("effect",), ()),
    }


def test_of_other_series_the_standard_level_stores_one_statistic_per_width() -> None:
    assert _stored(series="bspline")[0.0] == (("t", "effect"), ())
    for series in ("acquired", "srgan", "measured"):
        assert _stored(series=series) == {0.0: (("t",), ()), 5.0: (("effect",), ())}
        assert _stored(series=series, smoothing=(0.0, 4.0)) == {
            0.0: (("t", "effect"), ()),
            4.0: (("t", "effect"), ()),
        }


def test_automatic_contrasts_are_stored_for_the_series_that_pages_name() -> None:
    maps_by_level = {
        level: Settings(paths=PATHS, run=Run(level=level)).select_stored_maps(
            (0.0, 5.0), primary="sbl", minus_others=["aMinusOthers"]
        )
        for level in ("standard", "full")
    }
    assert [
        name
        for name in ("acquired", "bspline", "sbl", "srgan", "measured")
        if maps_by_level["standard"].includes(name, "aMinusOthers", 0.0, "t")
    ] == ["bspline", "sbl"]
    assert maps_by_level["standard"].includes("srgan", "a", 0.0, "t")
    assert maps_by_level["full"].includes("srgan", "aMinusOthers", 0.0, "t")


def test_the_minimal_level_stores_no_maps_and_the_full_level_all_maps() -> None:
    assert _stored("minimal") == {}
    all_maps = (("cc", "t", "effect", "variance", "z"), ("quarter", "fdr"))
    assert _stored("full") == {0.0: all_maps, 5.0: all_maps}


@pytest.mark.parametrize("smoothing", [(0.0, 5.0, 8.0), (3.5, 13.2), (6.0,)])
def test_every_smoothing_width_of_the_user_is_stored_in_full(smoothing) -> None:
    assert _stored(smoothing=smoothing) == dict.fromkeys(
        smoothing, (("t", "effect", "variance"), ())
    )


def test_regions_are_stored_for_thresholds_of_the_user() -> None:
    assert _stored(thresholds=("fdr", "3.1"))[0.0][1] == ("fdr", "3.1")
    acquired = _stored(thresholds=("fdr", "3.1"), series="acquired")
    assert acquired[0.0] == (("t", "effect"), ("fdr", "3.1"))


@pytest.mark.parametrize(
    ("kinds", "unsmoothed", "smoothed"),
    [
        (("cc",), (("cc",), ("quarter",)), (("cc",), ())),
        (("glm",), (("t", "effect", "variance"), ()), (("effect",), ())),
    ],
)
def test_stored_regions_depend_on_the_kinds_of_maps(kinds, unsmoothed, smoothed) -> None:
    assert _stored(kinds=kinds) == {0.0: unsmoothed, 5.0: smoothed}


def test_reproducible_series_are_stored_only_at_the_full_level() -> None:
    levels = {
        name: series_level(name, ["sbl", "zerofill"])
        for name in ("acquired", "sbl", "srgan", "zerofill", "bspline")
    }
    assert levels == {
        **dict.fromkeys(("acquired", "sbl", "srgan", "zerofill"), "minimal"),
        "bspline": "full",
    }
    assert series_level("measured", ["sbl"]) == "full"


@pytest.mark.parametrize(
    ("series", "methods", "is_stored"),
    [
        ("bspline", ("sbl",), True),
        ("measured", ("sbl",), True),
        ("zerofill", ("sbl",), False),
        ("zerofill", ("sbl", "zerofill"), True),
        ("lanczos", ("sbl", "all"), True),
    ],
)
def test_maps_of_other_baselines_are_stored_if_requested(
    series: str, methods: tuple[str, ...], *, is_stored: bool
) -> None:
    settings = Settings(paths=PATHS, superres=SuperRes(method=methods))
    maps = settings.select_stored_maps((0.0, 5.0), primary="sbl")
    assert bool(maps.outputs_of(series)) is is_stored


def test_a_level_includes_the_levels_below() -> None:
    assert [reaches(level, "standard") for level in ("minimal", "standard", "full")] == [
        False,
        True,
        True,
    ]
