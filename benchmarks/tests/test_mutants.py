"""Faults drawn at random change one node of the program, and the tests of its line are chosen."""

import ast
from pathlib import Path

import pytest
from _mutations import draw_mutants
from mutants import Coverage

ROOT = Path(__file__).resolve().parents[2]
KINDS = {"and/or", "arguments", "comparison", "constant", "dropped line", "sign"}
SOURCE = '''"""Numbers."""

LIMIT = 3


def clip(value: int, lower: int = 0) -> int:
    """Return a value within limits."""
    if value < lower and lower >= 0:
        raise ValueError(f"{value - lower} below")
    return min(value, LIMIT) + 1
'''


def test_each_fault_is_valid_code_that_differs_from_the_program() -> None:
    mutants = draw_mutants(ROOT, 80, 3, ("bids_sr/glm", "bids_sr/workflows"))
    for mutant in mutants:
        original = (ROOT / mutant.module).read_text()
        assert ast.dump(ast.parse(mutant.source)) != ast.dump(ast.parse(original))
    assert {mutant.kind for mutant in mutants} == KINDS


def test_a_draw_depends_on_its_seed_only() -> None:
    first, again, other = (draw_mutants(ROOT, 20, seed, ("bids_sr",)) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_texts_and_annotations_are_not_changed(tmp_path: Path) -> None:
    (tmp_path / "bids_sr").mkdir()
    (tmp_path / "bids_sr" / "numbers.py").write_text(SOURCE)
    mutants = draw_mutants(tmp_path, 100, 0, ("bids_sr",))
    assert {(mutant.kind, mutant.before, mutant.after) for mutant in mutants} == {
        ("comparison", "value < lower", "value <= lower"),
        ("comparison", "lower >= 0", "lower > 0"),
        ("and/or", "value < lower and lower >= 0", "value < lower or lower >= 0"),
        ("constant", "0", "1"),
        ("constant", "1", "2"),
        ("constant", "3", "4"),
        ("dropped line", 'raise ValueError(f"{value - lower} below")', "pass"),
        ("sign", "min(value, LIMIT) + 1", "min(value, LIMIT) - 1"),
    }
    assert {mutant.before for mutant in mutants if not mutant.is_traced} == {"3"}


@pytest.mark.parametrize(
    ("longest_s", "expected"), [(60.0, ["near", "far", "slow"]), (8.0, ["near", "far"])]
)
def test_tests_of_the_package_run_first_and_long_ones_are_left_out(
    longest_s: float, expected: list[str]
) -> None:
    mutant = next(
        mutant
        for mutant in draw_mutants(ROOT, 40, 0, ("bids_sr/spatial/masks",))
        if mutant.is_traced
    )
    line = mutant.lines[0]
    names = {
        "slow": "tests/e2e/test_run.py::test_slow",
        "far": "tests/unit/glm/test_design.py::test_far",
        "near": "tests/unit/spatial/test_masks.py::test_near",
        "none": "tests/unit/glm/test_noise.py::test_of_other_lines",
    }
    lines = {names[name]: {mutant.module: [line]} for name in ("slow", "far", "near")}
    lines[names["none"]] = {mutant.module: [line + 1000]}
    seconds = {names["near"]: 1.0, names["far"]: 3.0, names["slow"]: 50.0, names["none"]: 1.0}
    coverage = Coverage(lines=lines, seconds=seconds)
    assert coverage.find_tests(mutant, longest_s) == [names[name] for name in expected]
