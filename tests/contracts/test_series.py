"""One registry of series: every name goes there and back, and nothing else lists baselines or
takes names apart.
"""

import ast
import re
from pathlib import Path

import pytest

from bids_sr import series as registry
from bids_sr.evaluation.negative_controls import PLACEBOS
from bids_sr.series import (
    BASELINES,
    CONTROLS,
    DEFAULT_BASELINES,
    IMAGE_REFERENCES,
    INTERPOLATIONS,
    PAIR_BASELINES,
    VALIDATION_BASELINES,
    map_label,
    member_name,
    parse_map_label,
    series,
    series_name,
)
from bids_sr.sr.matrices import MATRICES
from bids_sr.sr.method import method_names

ROOT = Path(__file__).parents[2]
# what is made with the names, not a list of them: an operator or a spline's order for each
DEFINED = {
    "bids_sr/series.py",
    "bids_sr/sr/matrices.py",
    "bids_sr/registration/structural_preparation.py",
    "bids_sr/steps/structural/preparation.py",  # splines beside the cubic one
}


@pytest.fixture(scope="module")
def constants() -> list[tuple[str, ast.AST]]:
    """Every node of the product's code beside docstrings, with its file."""
    found = []
    for path in [*(ROOT / "bids_sr").rglob("*.py"), *(ROOT / "workflows").rglob("*.py")]:
        name = path.relative_to(ROOT).as_posix()
        tree = ast.parse(path.read_text())
        texts = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        if name not in DEFINED:
            found += [(name, node) for node in ast.walk(tree) if id(node) not in texts]
    return found


def test_there_is_one_list_of_baselines(constants):
    lists = {}
    for name, node in constants:
        parts = node.keys if isinstance(node, ast.Dict) else getattr(node, "elts", [])
        words = [part.value for part in parts if isinstance(part, ast.Constant)]
        if len(words) > 1 and len(words) == len(parts) and set(words) <= set(BASELINES):
            lists[name, node.lineno] = words
    assert not lists


def test_there_is_one_parser_of_names(constants):
    pattern = re.compile(
        r"Seed(\d|\\d|$)|Fwhm|rawSpline|bsplineSmooth|bsplinePca|^(Mirror|Shift|Phantom)\b.*\|"
    )
    found = [
        (name, node.lineno, node.value)
        for name, node in constants
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and pattern.search(node.value)
        and len(node.value.split()) < 5  # descriptions of columns may name them
        and node.value != "RandomSeed"  # a key of sidecars
    ]
    cut = [
        (name, node.lineno)
        for name, node in constants
        if isinstance(node, ast.Attribute) and node.attr == "isupper"
    ]
    assert found == cut == []


def test_baselines_are_known_by_what_they_need():
    assert set(MATRICES) == set(INTERPOLATIONS)
    assert {*INTERPOLATIONS, *PAIR_BASELINES, "sdmod"} == set(BASELINES)
    for part in (DEFAULT_BASELINES, VALIDATION_BASELINES, IMAGE_REFERENCES):
        assert set(part) < set(BASELINES)
    assert list(DEFAULT_BASELINES) == list(BASELINES)[: len(DEFAULT_BASELINES)]


@pytest.mark.parametrize("method", sorted(set(method_names()) - set(BASELINES)))
def test_names_of_a_method_and_its_variants_go_there_and_back(method):
    own = series_name(method)
    assert re.fullmatch("[a-z0-9]+", own)
    assert (series(own).kind, series(own).method, series(own).variant) == ("method", own, "")
    for variant in ("Phantom", "Other", "T1w", "Mirror", "Shift"):
        found = series(series_name(method, variant))
        assert (found.kind, found.method, found.variant) == ("placebo", own, variant)
    found = series(member_name(method, 12))
    assert (found.kind, found.method, found.variant) == ("member", own, "Seed12")


@pytest.mark.parametrize(
    ("names", "kind"),
    [
        (("raw", "rawSpline"), "acquired"),
        (BASELINES, "baseline"),
        (CONTROLS, "control"),
        (PLACEBOS, "placebo"),
        (("measured",), "measured"),
        (("run",), "run"),
    ],
)
def test_kinds_of_the_fixed_series(names, kind):
    assert {registry.kind_of(name) for name in names} == {kind}


@pytest.mark.parametrize(
    ("label", "parts"),
    [
        ("srganFwhm50Quarter", ("srgan", 5.0, "Quarter")),
        ("raw", ("raw", 0.0, "")),
        ("rawFwhm50", ("raw", 5.0, "")),
        ("rawSpline", ("rawSpline", 0.0, "")),
        ("bsplineFwhm132", ("bspline", 13.2, "")),
        ("ratioFdr", ("ratio", 0.0, "Fdr")),
        ("mse3dFwhm5Z31", ("mse3d", 0.5, "Z31")),
    ],
)
def test_labels_of_maps_go_there_and_back(label, parts):
    assert parse_map_label(label) == parts
    assert map_label(*parts) == label


def test_a_width_that_follows_from_the_voxels_is_rounded_to_tenths():
    assert map_label("raw", 1.5 * 1.52) == "rawFwhm23"
