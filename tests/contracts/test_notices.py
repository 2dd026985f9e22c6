"""Codes of notices are known, and errors state their cause and a remedy."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from bids_sr.io.notices import CODES, Notice

ROOT = Path(__file__).parents[2]
REMEDY_POSITIONS = {
    **dict.fromkeys(("UsageError", "InputError", "SlurmError", "input_error", "problem"), 2),
    **dict.fromkeys(("Notice", "option_problem"), 2),
    **dict.fromkeys(("SettingError", "problem_unless"), 3),
}
"""Positions of the remedy in the arguments of functions that make errors."""


def syntax_trees() -> Iterator[tuple[Path, ast.Module]]:
    """Yield path and syntax tree of each module of the program."""
    for path in (ROOT / "bids_sr").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        if re.search(r"\bcode\s*=|Error\(|Notice\(|problem", text):
            yield path, ast.parse(text)


def given_codes() -> set[str]:
    """Return all codes that the program assigns to notices or compares with them."""
    return {
        part.value
        for _, tree in syntax_trees()
        for node in ast.walk(tree)
        if isinstance(node, ast.keyword) and node.arg == "code"
        for part in ast.walk(node.value)
        if isinstance(part, ast.Constant) and isinstance(part.value, str)
    }


def is_error_without_remedy(call: ast.Call) -> bool:
    """Return whether a call makes an error with a cause, but without a remedy.

    A single argument is a list of errors, each with its own remedy.
    """
    name = getattr(call.func, "attr", getattr(call.func, "id", ""))
    keywords = {keyword.arg: keyword.value for keyword in call.keywords}
    level = keywords.get("level")
    is_note = isinstance(level, ast.Constant) and level.value != "error"
    is_complete = (
        name not in REMEDY_POSITIONS
        or is_note
        or len(call.args) > REMEDY_POSITIONS[name]
        or not {"remedy", "fix", None}.isdisjoint(keywords)
        or any(isinstance(argument, ast.Starred) for argument in call.args)
        or (len(call.args) == 1 and not keywords)
    )
    if is_complete:
        return False
    code = keywords.get("code")
    if isinstance(code, ast.Constant):
        return not CODES[str(code.value)][1]
    return code is None


def test_a_rare_notice_has_no_unknown_code() -> None:
    """Such a notice would raise an error instead of being shown."""
    with pytest.raises(KeyError):
        Notice(what="x", code="never heard of")
    codes = given_codes()
    assert {"step", "option", "left-out"} <= codes
    assert codes - set(CODES) == set()
    assert all(cause for cause, _ in CODES.values())


def test_errors_state_a_remedy() -> None:
    errors = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path, tree in syntax_trees()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and is_error_without_remedy(node)
    ]
    assert errors == []
    call = ast.parse("problem(path, 'the file is empty')", mode="eval").body
    assert isinstance(call, ast.Call)
    assert is_error_without_remedy(call)
