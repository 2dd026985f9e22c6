"""Comparison of the grids and fields of view of two images, and of a series with its run.

A field of view ends at the outer edges of the voxels.
"""

from collections.abc import Sequence

import numpy as np

from bids_sr.io.arrays import Array
from bids_sr.io.frozen import frozen
from bids_sr.io.grids import highres_size
from bids_sr.io.orientation import axes_text, storage_order
from bids_sr.io.volume_times import is_same_tr

_POSITION_TOLERANCE_MM = 0.01  # position differences due to rounding
REORDER_FIX = "Save the image with the axes and directions of the run, without interpolation."
"""Remedy for an image whose voxels are stored in another order than in its run."""
EDGE_TOLERANCE = 0.1
"""Distance between corners of two fields of view that count as equal, as a fraction of the
smallest voxel size of the compared image.
"""


def same_grid(
    shape: Sequence[int], affine: Array, other_shape: Sequence[int], other_affine: Array
) -> bool:
    """Return whether two images (3D) have equal shapes, and corner voxels within 0.01 mm.

    Voxel-to-world matrices are (4 x 4, RAS+ mm).
    """
    if tuple(shape) != tuple(other_shape):
        return False
    corners = np.array([(*index, 1) for index in np.ndindex(2, 2, 2)], float)
    corners[:, :3] *= np.asarray(shape) - 1
    return bool(
        np.abs(corners @ (np.asarray(affine) - np.asarray(other_affine)).T).max()
        < _POSITION_TOLERANCE_MM
    )


@frozen
class TimedGrid:
    """Grid and time axis of a series or map.

    `shape` is (X, Y, Z, T), or (X, Y, Z) for a map. `affine` is the voxel-to-world matrix (4 x 4,
    RAS+ mm). `tr` is the repetition time (s); 0 if not known.
    """

    shape: Sequence[int]
    affine: Array
    tr: float


def find_grid_problems(
    image: TimedGrid,
    run: TimedGrid,
    factor: Sequence[float],
    *,
    run_name: str = "its run",
) -> list[tuple[str, str]]:
    """Compare an image with the time axis and the high-resolution grid of its run.

    `factor` is the ratio of acquired to high-resolution voxel size along each axis. `run_name` is
    used in the reasons. Returns pairs of reason and remedy for each difference; empty if the image
    fits the run.
    """
    problems = [
        _find_count_problem(image.shape, run.shape, run_name),
        _find_tr_problem(image.tr, run.tr, run_name),
        _find_matrix_problem(image.shape, run.shape, factor, run_name),
        _find_position_problem(image, run, run_name),
    ]
    return [problem for problem in problems if problem is not None]


def _find_count_problem(
    shape: Sequence[int], run_shape: Sequence[int], run_name: str
) -> tuple[str, str] | None:
    """Return reason and remedy if a series has another number of volumes than its run."""
    if len(shape) <= 3 or shape[3] == run_shape[3]:
        return None
    return (
        f"the series has {shape[3]} volumes, but {run_name} has {run_shape[3]} volumes."
        " The series may belong to another run, or volumes may have been removed",
        "Provide the complete series of this run, including volumes that were removed from"
        " its start.",
    )


def _find_tr_problem(tr: float, run_tr: float, run_name: str) -> tuple[str, str] | None:
    """Return reason and remedy if two known repetition times (s) differ."""
    if tr <= 0 or run_tr <= 0 or is_same_tr(tr, run_tr):
        return None
    return (
        f"the repetition time of the series is {tr:g} s, but the repetition time of {run_name}"
        f" is {run_tr:g} s",
        "Provide the series of this run, or correct the repetition time in the sidecar or in"
        " the image header (pixdim[4] and its unit).",
    )


def _find_matrix_problem(
    shape: Sequence[int],
    run_shape: Sequence[int],
    factor: Sequence[float],
    run_name: str,
) -> tuple[str, str] | None:
    """Return reason and remedy if a matrix is too small or too large for the run."""
    highres_shape = tuple(map(highres_size, run_shape, factor))
    if tuple(shape[:3]) == highres_shape[:3]:
        return None
    is_smaller = any(size < fine for size, fine in zip(shape, highres_shape, strict=False))
    factor_text = "×".join(f"{ratio:g}" for ratio in factor)
    return (
        f"the matrix size {_format_shape(shape)} is {'smaller' if is_smaller else 'larger'} than"
        f" the high-resolution matrix size {_format_shape(highres_shape)}, given the"
        f" super-resolution factor {factor_text} and the matrix size of {run_name}",
        "Provide the series at the high resolution of the run, which is specified with"
        " --sr-factor if there is no T2*w pair.",
    )


def _format_shape(shape: Sequence[int]) -> str:
    """Format the first three sizes of a shape, such as ``64×64×30``."""
    return "×".join(map(str, shape[:3]))


def _find_position_problem(
    image: TimedGrid, run: TimedGrid, run_name: str
) -> tuple[str, str] | None:
    """Return reason and remedy if the field of view differs from the run's field of view."""
    voxel_mm, run_voxel_mm = (np.linalg.norm(grid.affine[:3, :3], axis=0) for grid in (image, run))
    grids = image.shape[:3], image.affine, run.shape[:3], run.affine
    distance_mm = corner_distance(*grids)
    limit_mm = EDGE_TOLERANCE * float(voxel_mm.min())
    if not distance_mm > limit_mm:
        return None
    if turned_corner_distance(*grids) <= limit_mm:
        reason = (
            f"the voxels are stored in another order ({axes_text(image.affine)}) than in"
            f" {run_name} ({axes_text(run.affine)}). The field of view is the same"
        )
        return reason, REORDER_FIX
    return (
        f"the field of view differs from {run_name}: its outer edges are shifted by up to"
        f" {distance_mm:.3g} mm ({distance_mm / run_voxel_mm[:2].min():.2g} acquired voxels), but"
        f" at most {limit_mm:.2g} mm are allowed. The series may be shifted, cropped or in another"
        " space",
        "Provide the series in the space of the run (space-boldref), with the same field of view"
        " and axis directions. Compare the affines in the image headers.",
    )


def turned_corner_distance(
    shape: Sequence[int], affine: Array, other_shape: Sequence[int], other_affine: Array
) -> float:
    """Return the largest distance (mm) between the corners of two fields of view.

    The voxels of both images may be stored in different orders. Parameters are as in
    `corner_distance`.

    >>> flipped = np.diag([-1.0, 1.0, 1.0, 1.0])
    >>> flipped[0, 3] = 3.0
    >>> turned_corner_distance((4, 4, 2), flipped, (4, 4, 2), np.eye(4))
    0.0
    """
    order = storage_order(affine, other_affine)
    return corner_distance(
        order.turn_shape(shape)[:3], order.turn_affine(affine, shape), other_shape, other_affine
    )


def corner_distance(
    shape: Sequence[int], affine: Array, other_shape: Sequence[int], other_affine: Array
) -> float:
    """Return the largest distance (mm) between corresponding corners of two fields of view.

    Voxel-to-world matrices are (4 x 4, RAS+ mm).

    >>> corner_distance((4, 4, 2), np.eye(4), (4, 4, 2), np.eye(4))
    0.0
    """
    from nibabel.affines import apply_affine

    corners = np.stack(np.meshgrid([0, 1], [0, 1], [0, 1], indexing="ij"), -1).reshape(-1, 3)
    positions = [
        apply_affine(grid, corners * np.asarray(size) - 0.5)
        for size, grid in ((shape, affine), (other_shape, other_affine))
    ]
    return float(np.linalg.norm(positions[0] - positions[1], axis=1).max())
