"""Names of series and labels of maps: their kinds, and parsing what was composed."""

import re
from typing import get_args

import pytest

from bids_sr.evaluation.evidence import Decision
from bids_sr.evaluation.words import DECISIONS
from bids_sr.io import series as registry
from bids_sr.io.series import (
    BASELINES,
    DEFAULT_BASELINES,
    IMAGE_REFERENCES,
    PAIR_BASELINES,
    VALIDATION_BASELINES,
    map_label,
    parse_map_label,
    parse_series_name,
    series_name,
)
from bids_sr.spatial.matrices import MATRICES
from bids_sr.sr.method import method_names


def test_baselines_are_grouped_by_the_data_they_need():
    assert set(MATRICES) == {name for name in BASELINES if registry.get_need(name) == "volume"}
    assert {*MATRICES, *PAIR_BASELINES, "sdmod"} == set(BASELINES)
    for part in (DEFAULT_BASELINES, VALIDATION_BASELINES, IMAGE_REFERENCES):
        assert set(part) < set(BASELINES)
    assert list(DEFAULT_BASELINES) == list(BASELINES)[: len(DEFAULT_BASELINES)]


@pytest.mark.parametrize("method", sorted(set(method_names()) - set(BASELINES)))
def test_the_series_of_a_method_has_letters_and_digits(method):
    name = series_name(method)
    assert re.fullmatch("[a-z0-9]+", name)
    label = parse_series_name(name)
    assert (label.kind, label.name) == ("method", name)


@pytest.mark.parametrize(
    ("label", "parts"),
    [
        ("srganFwhm50Quarter", ("srgan", 5.0, "Quarter")),
        ("acquired", ("acquired", 0.0, "")),
        ("acquiredFwhm50", ("acquired", 5.0, "")),
        ("acquiredSpline", ("acquiredSpline", 0.0, "")),
        ("bsplineFwhm132", ("bspline", 13.2, "")),
        ("ratioFdr", ("ratio", 0.0, "Fdr")),
        ("mse3dFwhm5Z31", ("mse3d", 0.5, "Z31")),
    ],
)
def test_labels_of_maps_round_trip(label, parts):
    assert parse_map_label(label) == parts
    assert map_label(*parts) == label


def test_every_decision_of_a_verdict_has_its_words():
    assert set(get_args(Decision)) <= set(DECISIONS)
