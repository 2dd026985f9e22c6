"""Examples in docstrings give the printed results."""

import doctest
import importlib
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[3]
WITH_EXAMPLES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for path in (ROOT / "bids_sr").rglob("*.py")
    if ">>> " in path.read_text(encoding="utf-8")
)
assert len(WITH_EXAMPLES) > 60


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_examples_of_a_module_give_the_printed_results(name: str) -> None:
    module = importlib.import_module(name)
    result = doctest.testmod(module, extraglobs={"np": np}, optionflags=doctest.ELLIPSIS)
    assert result.attempted
    assert not result.failed
