"""Simplification of lines as a compiled loop. Import it only while figures are drawn."""

import math
from typing import Any

import numpy as np

from bids_sr.io.arrays import Float
from bids_sr.io.compiled_loops import compiled


@compiled("void(float64[:,::1], float64, boolean[::1])")
def mark_corners(chain: Float, tolerance: float, kept: Any) -> None:
    """Mark the points of a chain (N, 2) that keep it within a distance of all its points.

    Algorithm of Douglas and Peucker (1973): a part of the chain is a straight line unless one of
    its points is farther than the tolerance from it; the farthest point then divides it. Distances
    are to the segment between its ends.

    `kept`: array (N,), all False, in which the marks are set; both ends are always marked.
    """
    kept[0] = kept[-1] = True
    ends = np.empty(len(chain), np.int64)  # of parts that follow the current one, nearest last
    ends[0] = len(chain) - 1
    count = 1
    start = 0
    while count:
        end = ends[count - 1]
        x, y = chain[start]
        along_x, along_y = chain[end, 0] - x, chain[end, 1] - y
        length = math.hypot(along_x, along_y)
        farthest, corner = tolerance, -1
        for k in range(start + 1, end):
            dx, dy = chain[k, 0] - x, chain[k, 1] - y
            to_end_x, to_end_y = dx - along_x, dy - along_y
            beside = (
                dx * along_x + dy * along_y > 0 and to_end_x * along_x + to_end_y * along_y < 0
            )
            if beside:
                distance = abs(dx * along_y - dy * along_x) / length
            else:
                distance = min(math.hypot(dx, dy), math.hypot(to_end_x, to_end_y))
            if distance > farthest:
                farthest, corner = distance, k
        if corner < 0:
            start = end
            count -= 1
        else:
            kept[corner] = True
            ends[count] = corner
            count += 1
