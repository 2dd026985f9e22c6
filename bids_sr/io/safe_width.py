"""Smoothing of the safe map, in which wrong detail does little harm.

Detail that the test at half the resolution accepts is wrong if a compact patch also fluctuates
without the task. Most of this detail is gone after smoothing by `SAFE_VOXELS` (`safe_map.md` in
`benchmarks/results`). The reconstruction error is then as small as the noise, so that maps of t
can contain it, and its correlation between runs was measured up to this width.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bids_sr.io.arrays import Array

SAFE_VOXELS = 5 / 6
"""Smoothing of the safe map (FWHM), in acquired in-plane voxels."""
_SAFE_MM = 5.0  # least smoothing of the safe map; the harm of less smoothing was not measured


def choose_widths(voxel_mm: float = 0.0) -> tuple[float, float]:
    """Return the default smoothing of maps (FWHM, mm): none, and that of the safe map.

    `voxel_mm` is the largest acquired in-plane voxel size of a study.

    >>> choose_widths(3.0), choose_widths(7.5)
    ((0.0, 5.0), (0.0, 6.2))
    """
    return 0.0, max(_SAFE_MM, round(SAFE_VOXELS * voxel_mm, 1))


def is_safe(fwhm_mm: float, zooms: "Sequence[float] | Array") -> bool:
    """Return whether the reconstruction error does not exceed the noise after smoothing.

    `zooms` is the voxel size of the acquired grid (mm). Widths are compared as in file names.
    """
    return round(fwhm_mm, 1) >= round(SAFE_VOXELS * float(max(zooms[:2])), 1)
