"""Column of tables with the signs of veins in a region or cluster."""

import math
from typing import Any

from bids_sr.engine.number_text import number
from bids_sr.glm.vein_signs import LARGE_PERCENT
from bids_sr.report.markup import ColumnHead

VEIN_HEAD: ColumnHead = ("signs of veins", f"effect above {LARGE_PERCENT:g} %, dark voxels")
"""Head of the column: shares of voxels with a large acquired effect, and of dark voxels."""
_MOST, _MANY = 0.5, 0.25  # shares of voxels from which a row is marked, see `describe_veins`


def describe_veins(row: Any) -> str:
    """Return the shares of a table row, with a mark if it is probably in or near veins.

    Rows are marked if most voxels have a large effect, or if many do and many are dark. The text
    is "" if the row has no shares.
    """
    large, dark = row.large_share, row.dark_share
    if math.isnan(dark):
        return ""
    is_marked = large >= _MOST or (large >= _MANY and dark >= _MANY)
    return ("vein? " if is_marked else "") + f"{number(large, '.0%')}, {number(dark, '.0%')}"
