"""What benchmarks on one data set share: the only file of a pattern, and the factor."""

import sys
from pathlib import Path

FACTOR = (2.0, 2.0, 1.0)


def one(root: Path, pattern: str) -> Path:
    """The only file of a pattern."""
    found = sorted(root.glob(pattern))
    if len(found) != 1:
        sys.exit(f"{root}: {len(found)} files match {pattern}, not one")
    return found[0]
