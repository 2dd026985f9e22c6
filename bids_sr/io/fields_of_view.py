"""Comparison of grids and fields of view.

A field of view ends at the outer edges of the voxels.
"""

from collections.abc import Sequence

import numpy as np

from bids_sr.io.arrays import Array
from bids_sr.io.orientation import axes_text, storage_order

_POSITION_TOLERANCE_MM = 0.01  # mm, position differences due to rounding
_TR_TOLERANCE_S = 1e-3  # s, tolerance of repetition times
REORDER_FIX = "Save the image with the axes and directions of the run, without interpolation."
"""Remedy for an image whose voxels are stored in another order than in its run."""
EDGE_TOLERANCE = 0.1
"""Distance between corners of two fields of view that count as equal, as a fraction of the
high-resolution voxel size.
"""


def same_grid(
    shape: Sequence[int], affine: Array, other_shape: Sequence[int], other_affine: Array
) -> bool:
    """Return whether two images (3D) have equal shapes, and corners within 0.01 mm.

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


def find_grid_problems(
    shape: Sequence[int],
    affine: Array,
    tr: float,
    run_shape: Sequence[int],
    run_affine: Array,
    run_tr: float,
    factor: Sequence[float],
    *,
    requires_highres: bool = False,
    run_name: str = "its run",
) -> list[tuple[str, str]]:
    """Compare time axis and grid of an image with the run from which it was computed.

    The grid may be the acquired grid of the run, its high-resolution grid, or a grid between them.

    `shape` is the shape of a series (X, Y, Z, T) or of a map (X, Y, Z), and `run_shape` the shape
    of the run (X, Y, Z, T). Voxel-to-world matrices are 4 x 4 (RAS+ mm). `tr` is the repetition
    time (s); 0 if not known. `factor` is the ratio of acquired to high-resolution voxel size along
    each axis. With `requires_highres`, only the high-resolution grid is accepted. `run_name` is
    used in the reasons. Returns pairs of reason and remedy for each difference; empty if the image
    fits the run.
    """
    problems = [
        _find_count_problem(shape, run_shape, run_name),
        _find_tr_problem(tr, run_tr, run_name),
        _find_matrix_problem(
            shape, run_shape, factor, run_name, requires_highres=requires_highres
        ),
        _find_position_problem(shape, affine, run_shape, run_affine, run_name),
    ]
    return [problem for problem in problems if problem is not None]


def _find_count_problem(
    shape: Sequence[int], run_shape: Sequence[int], run_name: str
) -> tuple[str, str] | None:
    """Return reason and remedy if a series has another number of volumes than its run."""
    if len(shape) <= 3 or shape[3] == run_shape[3]:
        return None
    reason = (
        f"the series has {shape[3]} volumes, but {run_name} has {run_shape[3]} volumes."
        " The series may belong to another run, or volumes may have been removed"
    )
    return reason, (
        "Provide the complete series of this run, including volumes that were removed from"
        " its start."
    )


def _find_tr_problem(tr: float, run_tr: float, run_name: str) -> tuple[str, str] | None:
    """Return reason and remedy if two known repetition times (s) differ."""
    if tr <= 0 or run_tr <= 0 or abs(tr - run_tr) <= _TR_TOLERANCE_S:
        return None
    reason = (
        f"the repetition time of the series is {tr:g} s, but the repetition time of {run_name}"
        f" is {run_tr:g} s"
    )
    return reason, (
        "Provide the series of this run, or correct the repetition time in the sidecar or in"
        " the image header (pixdim[4] and its unit)."
    )


def _find_matrix_problem(
    shape: Sequence[int],
    run_shape: Sequence[int],
    factor: Sequence[float],
    run_name: str,
    *,
    requires_highres: bool,
) -> tuple[str, str] | None:
    """Return reason and remedy if a matrix is too small or too large for the run."""
    highres_shape = [
        int(np.floor(size * ratio + 0.5)) for size, ratio in zip(run_shape, factor, strict=False)
    ]
    min_shape, resolution = (
        (highres_shape, "high-resolution") if requires_highres else (run_shape, "acquired")
    )
    is_smaller = any(size < least for size, least in zip(shape[:3], min_shape, strict=False))
    is_larger = any(size > largest for size, largest in zip(shape, highres_shape, strict=False))
    if not is_smaller and not is_larger:
        return None
    if is_smaller:
        difference = f"smaller than the {resolution} matrix size {_format_shape(min_shape)}"
    else:
        difference = f"larger than the high-resolution matrix size {_format_shape(highres_shape)}"
    factor_text = "×".join(f"{ratio:g}" for ratio in factor)
    reason = (
        f"the matrix size {_format_shape(shape)} is {difference}, given the super-resolution"
        f" factor {factor_text} and the matrix size of {run_name}"
    )
    if requires_highres:
        return reason, (
            "Provide the series at the high resolution of the run, which is specified with"
            " --sr-factor if there is no T2*w pair."
        )
    return reason, (
        "Provide the series on the acquired grid or on a finer grid with the same field"
        " of view, or choose another super-resolution factor."
    )


def _format_shape(shape: Sequence[int]) -> str:
    """Format the first three sizes of a shape, such as ``64×64×30``."""
    return "×".join(map(str, shape[:3]))


def _find_position_problem(
    shape: Sequence[int],
    affine: Array,
    run_shape: Sequence[int],
    run_affine: Array,
    run_name: str,
) -> tuple[str, str] | None:
    """Return reason and remedy if the field of view differs from the run's field of view."""
    voxel_mm, run_voxel_mm = (
        np.linalg.norm(matrix[:3, :3], axis=0) for matrix in (affine, run_affine)
    )
    distance_mm = corner_distance(shape[:3], affine, run_shape[:3], run_affine)
    limit_mm = EDGE_TOLERANCE * float(voxel_mm.min())
    if not distance_mm > limit_mm:
        return None
    if turned_corner_distance(shape[:3], affine, run_shape[:3], run_affine) <= limit_mm:
        reason = (
            f"the voxels are stored in another order ({axes_text(affine)}) than in {run_name}"
            f" ({axes_text(run_affine)}). The field of view is the same"
        )
        return reason, REORDER_FIX
    reason = (
        f"the field of view differs from {run_name}: its outer edges are shifted by up to"
        f" {distance_mm:.3g} mm ({distance_mm / run_voxel_mm[:2].min():.2g} acquired voxels), but"
        f" at most {limit_mm:.2g} mm are allowed. The series may be shifted, cropped or in another"
        " space"
    )
    return reason, (
        "Provide the series in the space of the run (space-boldref), with the same field of view"
        " and axis directions. Compare the affines in the image headers."
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
