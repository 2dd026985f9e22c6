"""Make the program importable from its source tree, on a machine without an installation."""

import importlib.util
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def make_importable() -> None:
    """Add the source tree to the path unless `bids_sr` is installed."""
    if importlib.util.find_spec("bids_sr") is None:
        sys.path.insert(0, str(ROOT))


make_importable()
