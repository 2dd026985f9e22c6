"""All names of series come from one registry; no other module lists baselines or parses names."""

import ast
import re
from pathlib import Path

import pytest

from bids_sr import series as registry
from bids_sr.evaluation.negative_controls import NEGATIVE_CONTROLS
from bids_sr.series import (
    BASELINES,
    CONTROLS,
    DEFAULT_BASELINES,
    IMAGE_REFERENCES,
    INTERPOLATIONS,
    PAIR_BASELINES,
    VALIDATION_BASELINES,
    map_label,
    parse_map_label,
    parse_series_name,
    series_name,
)
from bids_sr.sr.matrices import MATRICES
from bids_sr.sr.method import method_names

ROOT = Path(__file__).parents[2]
# these map names to operators or spline orders
DEFINED = {
    "bids_sr/series.py",
    "bids_sr/sr/matrices.py",
    "bids_sr/structural/preparation.py",
    "bids_sr/structural/steps/preparation.py",  # spline orders other than cubic
}


@pytest.fixture(scope="module")
def constants() -> list[tuple[str, ast.AST]]:
    """Return every syntax node of the program except docstrings, with its file."""
    nodes = []
    for path in [*(ROOT / "bids_sr").rglob("*.py"), *(ROOT / "workflows").rglob("*.py")]:
        name = path.relative_to(ROOT).as_posix()
        tree = ast.parse(path.read_text())
        texts = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        if name not in DEFINED:
            nodes += [(name, node) for node in ast.walk(tree) if id(node) not in texts]
    return nodes


def test_there_is_one_list_of_baselines(constants):
    lists = {}
    for name, node in constants:
        parts = node.keys if isinstance(node, ast.Dict) else getattr(node, "elts", [])
        words = [part.value for part in parts if isinstance(part, ast.Constant)]
        if len(words) > 1 and len(words) == len(parts) and set(words) <= set(BASELINES):
            lists[name, node.lineno] = words
    assert not lists


def test_names_of_series_are_parsed_in_one_place(constants):
    pattern = re.compile(
        r"Seed(\d|\\d|$)|Fwhm|acquiredSpline|bsplineSmooth|bsplinePca|^(Mirror|Shift|Phantom)\b.*\|"
    )
    literals = [
        (name, node.lineno, node.value)
        for name, node in constants
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and pattern.search(node.value)
        and len(node.value.split()) < 5  # descriptions of columns may contain them
        and node.value != "RandomSeed"  # a key of sidecars
    ]
    calls = [
        (name, node.lineno)
        for name, node in constants
        if isinstance(node, ast.Attribute) and node.attr == "isupper"
    ]
    assert literals == calls == []


def test_baselines_are_grouped_by_the_data_they_need():
    assert set(MATRICES) == set(INTERPOLATIONS)
    assert {*INTERPOLATIONS, *PAIR_BASELINES, "sdmod"} == set(BASELINES)
    for part in (DEFAULT_BASELINES, VALIDATION_BASELINES, IMAGE_REFERENCES):
        assert set(part) < set(BASELINES)
    assert list(DEFAULT_BASELINES) == list(BASELINES)[: len(DEFAULT_BASELINES)]


@pytest.mark.parametrize("method", sorted(set(method_names()) - set(BASELINES)))
def test_names_of_a_method_and_its_variants_round_trip(method):
    name = series_name(method)
    assert re.fullmatch("[a-z0-9]+", name)
    label = parse_series_name(name)
    assert (label.kind, label.method, label.variant) == ("method", name, "")
    for variant in ("Phantom", "Other", "T1w", "Mirror", "Shift"):
        entry = parse_series_name(series_name(method, variant))
        assert (entry.kind, entry.method, entry.variant) == ("placebo", name, variant)


@pytest.mark.parametrize(
    ("names", "kind"),
    [
        (("acquired", "acquiredSpline"), "acquired"),
        (BASELINES, "baseline"),
        (CONTROLS, "control"),
        (NEGATIVE_CONTROLS, "placebo"),
        (("measured",), "measured"),
        (("run",), "run"),
    ],
)
def test_kinds_of_the_fixed_series(names, kind):
    assert {registry.get_kind(name) for name in names} == {kind}


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


def test_the_smoothing_width_in_a_label_is_rounded_to_tenths():
    assert map_label("acquired", 1.5 * 1.52) == "acquiredFwhm23"
