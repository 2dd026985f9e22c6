"""Files that a run with a pair, a T1w image and three spaces stores at the standard level."""

import itertools
import re
from pathlib import Path

FILE = Path(__file__).parents[1] / "expected_outputs.txt"


def expected_outputs() -> list[str]:
    """Return the names in `FILE`, in which braces list alternatives, as in a shell."""
    return [name for pattern in FILE.read_text().split() for name in expand(pattern)]


def expand(pattern: str) -> list[str]:
    """Return all names of a pattern with alternatives in braces, which are not nested."""
    parts = re.split(r"[{}]", pattern)
    choices = [part.split(",") if k % 2 else [part] for k, part in enumerate(parts)]
    return ["".join(words) for words in itertools.product(*choices)]
