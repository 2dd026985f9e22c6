"""Decisions have one vocabulary, numbers one formatter, and classes unique names."""

import ast
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
from syntax import statements

from bids_sr.evaluation.evidence import STRONGEST, WORTH, Decision, VerdictStatus
from bids_sr.evaluation.words import DECISIONS, MARKS
from bids_sr.group import comparisons
from bids_sr.statistics import decisions

ROOT = Path(__file__).parents[2]
FORMATTERS = {
    "bids_sr/metrics/number_text.py",
    "bids_sr/registration/series_alignment.py",  # registration may not import metrics
}
"""Modules that set a minus sign."""


def trees(*parts: str, having: str) -> Iterator[tuple[Path, ast.Module]]:
    """Yield modules whose text matches a regular expression."""
    for part in parts:
        paths = sorted((ROOT / part).rglob("*.py"))
        assert paths, f"the folder {part} does not exist"
        for path in paths:
            if re.search(having, text := path.read_text(encoding="utf-8")):
                yield path, ast.parse(text)


def signs(tree: ast.AST) -> list[int]:
    """Return lines that replace a hyphen by a minus sign."""
    return [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "replace"
        and any(
            isinstance(argument, ast.Constant) and argument.value == "−" for argument in node.args
        )
    ]


def test_run_compared_series_and_group_share_one_vocabulary_of_decisions():
    group = {*decisions.SIGNIFICANT_WORDS.values(), *decisions.NEUTRAL_WORDS.values()}
    group |= {decisions.SAME, decisions.UNDECIDED}
    assert {*get_args(Decision), *group} == set(DECISIONS)
    assert set(WORTH) == set(get_args(Decision))
    assert set(MARKS) == set(get_args(VerdictStatus))


def test_references_have_one_name_and_one_order():
    for references in STRONGEST.values():
        assert len({reference.name for reference in references}) == len(references)
    assert comparisons._REFERENCES == ("measured", "truth")


def test_numbers_are_formatted_in_one_place():
    places = {
        path.relative_to(ROOT).as_posix()
        for path, tree in trees("bids_sr", "workflows", having="−|2212|MINUS")
        if signs(tree)
    }
    assert places == FORMATTERS


@pytest.mark.parametrize("code", ['f"{x:+.2f}".replace("-", "−")', "text.replace('-', '−', 1)"])
def test_a_minus_sign_set_by_hand_is_reported(code):
    assert signs(ast.parse(code))


def test_no_two_classes_have_the_same_name():
    names = Counter(
        node.name
        for _, tree in trees("bids_sr", "workflows", having="class ")
        for node in statements(tree)
        if isinstance(node, ast.ClassDef)
    )
    assert {name for name, count in names.items() if count > 1} == set()
