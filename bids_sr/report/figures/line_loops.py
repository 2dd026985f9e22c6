"""Line simplification as a compiled loop; import this module only while figures are drawn."""

import math
from typing import Any

import numpy as np

from bids_sr.io.arrays import Float
from bids_sr.io.compiled_loops import compile_for


@compile_for("void(float64[:,::1], float64, boolean[::1])")
def mark_corners(line: Float, tolerance: float, marks: Any) -> None:
    """Mark the points of a line (N, 2) that approximate it within a tolerance.

    Algorithm of Douglas and Peucker (1973): a section is replaced by a straight segment unless one
    of its points is farther than the tolerance from the segment; the farthest point then divides
    the section.

    `tolerance` is the largest distance of a point from the simplified line, in the unit of the
    points. `marks` are flags (N,), all False; marked points become True. Both ends are always
    marked.
    """
    marks[0] = marks[-1] = True
    ends = np.empty(len(line), np.int64)  # ends of pending sections, the next section last
    ends[0] = len(line) - 1
    count = 1
    start = 0
    while count:
        end = ends[count - 1]
        x, y = line[start]
        along_x, along_y = line[end, 0] - x, line[end, 1] - y
        length = math.hypot(along_x, along_y)
        farthest, corner = tolerance, -1
        for point in range(start + 1, end):
            dx, dy = line[point, 0] - x, line[point, 1] - y
            to_end_x, to_end_y = dx - along_x, dy - along_y
            is_between = (
                dx * along_x + dy * along_y > 0 and to_end_x * along_x + to_end_y * along_y < 0
            )
            if is_between:
                distance = abs(dx * along_y - dy * along_x) / length
            else:
                distance = min(math.hypot(dx, dy), math.hypot(to_end_x, to_end_y))
            if distance > farthest:
                farthest, corner = distance, point
        if corner < 0:
            start = end
            count -= 1
        else:
            marks[corner] = True
            ends[count] = corner
            count += 1
