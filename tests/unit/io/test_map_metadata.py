"""Tests of sidecars that maps share: each map gets its own metadata back."""

import hypothesis.strategies as st
from hypothesis import given

from bids_sr.io.map_metadata import join_map_metadata, select_map_metadata

LABELS = st.sampled_from(["thumb", "little", "all"])
STATISTICS = st.sampled_from(["t", "effect", ""])
ENTRIES = st.dictionaries(
    st.sampled_from(["Units", "ContrastWeights", "SmoothingFWHM", "RunWeights"]),
    st.integers(0, 2),
)


@given(st.dictionaries(st.tuples(LABELS, STATISTICS), ENTRIES, min_size=1))
def test_entries_of_a_map_are_the_entries_that_it_had(maps):
    shared = join_map_metadata(maps)
    for (contrast, statistic), content in maps.items():
        selected = select_map_metadata(shared, contrast, statistic)
        assert content.items() <= selected.items()


def test_a_contrast_has_no_entries_that_only_others_have():
    contrasts = {"all": {}, "change": {"PlaceErrorShare": 0.1}}
    maps = {
        (contrast, statistic): content
        for contrast, content in contrasts.items()
        for statistic in ("t", "effect")
    }
    shared = join_map_metadata(maps)
    assert {labels: select_map_metadata(shared, *labels) for labels in maps} == maps


def test_entries_are_listed_where_they_differ():
    maps = {
        (contrast, statistic): {
            "SmoothingFWHM": 5.0,
            "Units": {"t": "1", "effect": "percent"}[statistic],
            "ContrastWeights": {contrast: 1.0},
            **({"DegreesOfFreedom": len(contrast)} if statistic == "t" else {}),
            "Sources": [f"bids::{contrast}", "bids::series"],
        }
        for contrast in ("thumb", "all")
        for statistic in ("t", "effect")
    }
    assert join_map_metadata(maps) == {
        "SmoothingFWHM": 5.0,
        "Sources": ["bids::thumb", "bids::series", "bids::all"],
        "Statistics": {"t": {"Units": "1"}, "effect": {"Units": "percent"}},
        "Contrasts": {
            "thumb": {"ContrastWeights": {"thumb": 1.0}, "DegreesOfFreedom": 5},
            "all": {"ContrastWeights": {"all": 1.0}, "DegreesOfFreedom": 3},
        },
    }

    # units and weights have one place, also for a single map
    shared = join_map_metadata({("all", "t"): {"Units": "1", "ContrastWeights": {"a": 1.0}}})
    assert shared == {
        "Statistics": {"t": {"Units": "1"}},
        "Contrasts": {"all": {"ContrastWeights": {"a": 1.0}}},
    }
