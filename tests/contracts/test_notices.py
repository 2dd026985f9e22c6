"""Every code of a notice is in the table of codes."""

import ast
import re
from pathlib import Path

import pytest

from bids_sr.notices import CODES, Notice

ROOT = Path(__file__).parents[2]


def given_codes() -> set[str]:
    """Return all codes that the program assigns to notices or compares with them."""
    codes = set()
    for path in [*(ROOT / "bids_sr").rglob("*.py"), *(ROOT / "workflows").rglob("*.py")]:
        text = path.read_text(encoding="utf-8")
        for node in ast.walk(ast.parse(text)) if re.search(r"\bcode\s*=", text) else ():
            if isinstance(node, ast.keyword) and node.arg == "code":
                parts = [
                    part.value for part in ast.walk(node.value) if isinstance(part, ast.Constant)
                ]
                codes |= {part for part in parts if isinstance(part, str)}
    return codes


def test_a_rare_notice_has_no_unknown_code() -> None:
    """Such a notice would raise an error instead of being shown."""
    with pytest.raises(KeyError):
        Notice(what="x", code="never heard of")
    codes = given_codes()
    assert {"step", "option", "left-out"} <= codes
    assert codes - set(CODES) == set()
