"""Examples in docstrings say what the functions give."""

import doctest
import importlib
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[3]
WITH_EXAMPLES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for folder in ("stats", "metrics", "spatial", "api")
    for path in (ROOT / "bids_sr" / folder).rglob("*.py")
    if ">>> " in path.read_text(encoding="utf-8")
)


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_examples_hold(name: str) -> None:
    module = importlib.import_module(name)
    found = doctest.testmod(module, extraglobs={"np": np}, optionflags=doctest.ELLIPSIS)
    assert found.attempted
    assert not found.failed


def test_modules_of_arrays_have_examples() -> None:
    assert len(WITH_EXAMPLES) >= 8
