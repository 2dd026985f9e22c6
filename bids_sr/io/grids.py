"""Grids of images: the order of their voxel axes, and the comparison of their fields of view.

An order names, for each axis of an array as it is used, the axis of the stored array that it is:
(1, 2, 0) takes a sagittal series with its slices on the first axis to slices on the third. Axes
are exchanged, never turned round, and no value is interpolated; directions stand in the affine. A
field of view ends at the outer edges of the voxels.

Types of NumPy arrays by their elements, for annotations, and the checksum of an array.

An image in memory.

What is read of an image before its voxels are.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import permutations
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from bids_sr.frozen import frozen

if TYPE_CHECKING:
    import nibabel
    from nibabel.nifti1 import Nifti1Header


Array = NDArray[Any]
Float = NDArray[np.float64]
Float32 = NDArray[np.float32]
Real = NDArray[np.floating]
Mask = NDArray[np.bool_]


def float32_checksum(values: Array) -> str:
    """SHA-256 of the values as little-endian single-precision numbers, in C order.

    `values`: numbers of any shape and type. Hexadecimal digest of 64 characters.
    """
    return hashlib.sha256(np.ascontiguousarray(values, dtype="<f4").data).hexdigest()


def parts_of(count: int, size: int = 128) -> Iterator[slice]:
    """Cut a range into parts; of voxels, by default, whose time series stay in the cache."""
    for start in range(0, count, size):
        yield slice(start, min(start + size, count))


def evenly_spaced(count: int, most: int) -> tuple[int, ...]:
    """Return at most so many of `count` indices, evenly from the first to the last.

    Numbers in ascending order; empty where there is no volume.
    """
    chosen = np.linspace(0, count - 1, min(most, count)).round().astype(int)
    return tuple(int(k) for k in np.unique(chosen))


_NEAR = 0.01  # mm, largest difference of two positions that is rounding


def same_grid(shape: Sequence[int], affine: Array, other: Sequence[int], affine_2: Array) -> bool:
    """Return whether two images (3D) have the same voxels: equal shapes, corners within .01 mm.

    `affine`, `affine_2`: voxel -> RAS mm of the first and of the second image.
    """
    if tuple(shape) != tuple(other):
        return False
    corners = np.array([(*index, 1) for index in np.ndindex(2, 2, 2)], float)
    corners[:, :3] *= np.asarray(shape) - 1
    return bool(np.abs(corners @ (np.asarray(affine) - np.asarray(affine_2)).T).max() < _NEAR)


_T = TypeVar("_T", bound=np.generic)
AxisOrder = tuple[int, int, int]
Shape = tuple[int, int, int]
"""Voxels of a grid along each axis."""
Factor = tuple[float, float, float]
"""How many times finer a grid is along each axis."""
LARGE = 500_000_000
"""Bytes of a series in single precision, above which the working directory has it in half."""
AS_STORED: AxisOrder = (0, 1, 2)
TURNED_DEG = 45.0  # angle between two heads above which one of the headers is probably wrong
LARGEST_BRAIN_ML = 2500.0
"""Volume (ml) above which a mask cannot be that of a brain."""
LEAST_SAMPLES = 4
"""Voxels along an axis; with fewer no motion along it can be told: no sample lies inside, or there
is no gradient.
"""


def mm_text(length: float) -> str:
    """Format a length (mm) with three digits.

    Lengths that differ only by the rounding in headers give the same text.

    >>> mm_text(3.75), mm_text(3.7499998), mm_text(3.1250001), mm_text(2.0)
    ('3.75', '3.75', '3.12', '2')

    `length`: size or distance to format (mm). Number as text, without its unit.
    """
    return f"{round(length, 4):.3g}"


def size_text(sizes: Iterable[float], by: str = " × ", unit: str = " mm") -> str:
    """Voxel sizes (mm) as text, such as ``3 × 3 × 3.3 mm``.

    `sizes`: voxel edge lengths (mm). Formatted numbers in one line, with the unit.
    """
    return by.join(map(mm_text, sizes)) + unit


def slices_last(affine: np.ndarray, slice_axis: int) -> AxisOrder:
    """Return the axis order with slices last and in-plane axes closest to RAS.

    The axes in plane are as near to right, anterior, superior as can be.

    So all orders in which one acquisition can be stored lead to one.

    `ImageInputError`: the header names another axis of slices.

    >>> slices_last(np.diag([2.0, 2.0, 4.0, 1.0]), 2)
    (0, 1, 2)
    >>> slices_last(np.diag([4.0, 2.0, 2.0, 1.0]), 0)
    (1, 2, 0)
    """
    first, second = (axis for axis in nearest(affine, np.eye(4)) if axis != slice_axis)
    return first, second, slice_axis


def nearest(affine: np.ndarray, reference: np.ndarray) -> AxisOrder:
    """Return the order of an image's axes closest to those of a reference.

    Their directions do not matter.

    `reference`: voxel-to-world matrix of the reference (4 x 4, RAS+ mm).

    >>> nearest(np.diag([1.0, 1.0, 1.0, 1.0])[:, [2, 0, 1, 3]], np.eye(4))
    (1, 2, 0)
    """
    own, other = (
        each[:3, :3] / np.linalg.norm(each[:3, :3], axis=0) for each in (affine, reference)
    )
    cosines = np.abs(other.T @ own)
    best = max(
        permutations(range(3)),
        key=lambda order: float(sum(cosines[k, axis] for k, axis in enumerate(order))),
    )
    return best[0], best[1], best[2]


def inverse(order: Sequence[int]) -> AxisOrder:
    """The order that leads back.

    >>> inverse((1, 2, 0))
    (2, 0, 1)
    """
    return order.index(0), order.index(1), order.index(2)


def reordered(data: NDArray[_T], order: Sequence[int]) -> NDArray[_T]:
    """An array of three or four axes with its first three in another order; a view."""
    return np.transpose(data, (*order, *range(3, np.ndim(data))))


def reordered_affine(affine: np.ndarray, order: Sequence[int]) -> np.ndarray:
    """The affine that goes with `reordered`; each voxel stays where it is.

    Voxel-to-world matrix of the array in use (4 x 4, RAS+ mm).
    """
    return np.asarray(affine)[:, [*order, 3]]


def reordered_header(header: "Nifti1Header", order: Sequence[int]) -> "Nifti1Header":
    """Return a NIfTI header with frequency, phase and slice axes as `reordered` leaves them.

    Copy whose ``dim_info`` names the axes in use.
    """
    copy = header.copy()
    copy.set_dim_info(
        *(None if axis is None else list(order).index(axis) for axis in header.get_dim_info())
    )
    return copy


_TIME_TOLERANCE = 1e-3  # of repetition times (s)
EDGE_TOLERANCE = 0.1
"""Of a high-resolution voxel: so far may the corners of two fields of view lie apart that are
taken for one.
"""


def corners_apart(
    shape: Sequence[int], affine: Array, other_shape: Sequence[int], other_affine: Array
) -> float:
    """Return the largest distance (mm) between corresponding corners of two fields of view.

    The corners are at the outer edges of the voxels.

    `shape, affine, other_shape, other_affine`: matrices (x, y, z) of the two grids, and voxel to
    RAS mm (4, 4). Distance of the pair of corners that lie farthest apart (mm).

    >>> corners_apart((4, 4, 2), np.eye(4), (4, 4, 2), np.eye(4))
    0.0
    """
    from nibabel.affines import apply_affine

    corners = np.stack(np.meshgrid([0, 1], [0, 1], [0, 1], indexing="ij"), -1).reshape(-1, 3)
    places = [
        apply_affine(grid, corners * np.asarray(size) - 0.5)
        for size, grid in ((shape, affine), (other_shape, other_affine))
    ]
    return float(np.linalg.norm(places[0] - places[1], axis=1).max())


def misfits(
    shape: Sequence[int],
    affine: Array,
    tr: float,
    own_shape: Sequence[int],
    own_affine: Array,
    own_tr: float,
    factor: Sequence[float],
    *,
    finest: bool = False,
    name: str = "its run",
) -> list[tuple[str, str]]:
    """Return why times or grid of an image do not fit a run that it was made of, and the fix.

    The grid may be that of the run, its high-resolution one, or one between them.

    `shape, affine, tr`: (X, Y, Z, T) of a series or (X, Y, Z) of a map, voxel to RAS mm,
    repetition time (s); 0 where it is not told. Pairs of reason and remedy; empty where everything
    fits.
    """
    problems = list[tuple[str, str]]()
    if len(shape) > 3 and shape[3] != own_shape[3]:
        fix = (
            "Provide the complete series of this run, including volumes that were removed from"
            " its start."
        )
        problems.append(
            (
                (
                    f"the series has {shape[3]} volumes, but {name} has {own_shape[3]} volumes."
                    " The series may belong to another run, or volumes may have been removed"
                ),
                fix,
            )
        )
    if tr > 0 and own_tr > 0 and abs(tr - own_tr) > _TIME_TOLERANCE:
        fix = (
            "Provide the series of this run, or correct the repetition time in the sidecar or in"
            " the image header (pixdim[4] and its unit)."
        )
        problems.append(
            (
                f"the repetition time of the series is {tr:g} s, but the repetition time of {name}"
                f" is {own_tr:g} s",
                fix,
            )
        )
    high = [int(np.floor(m * f + 0.5)) for m, f in zip(own_shape, factor, strict=False)]
    low, which = (high, "high-resolution") if finest else (own_shape, "acquired")
    coarser = any(n < m for n, m in zip(shape[:3], low, strict=False))
    if coarser or any(n > most for n, most in zip(shape, high, strict=False)):
        sizes = ["×".join(map(str, each[:3])) for each in (shape, low, high)]
        than = (
            f"smaller than the {which} matrix size {sizes[1]}"
            if coarser
            else f"larger than the high-resolution matrix size {sizes[2]}"
        )
        fix = (
            "Provide the series at the high resolution of the run, which is specified with"
            " --sr-factor if there is no T2*w pair."
            if finest
            else "Provide the series on the acquired grid or on a finer grid with the same field"
            " of view, or choose another super-resolution factor."
        )
        by = "×".join(f"{each:g}" for each in factor)
        problems.append(
            (
                f"the matrix size {sizes[0]} is {than}, given the super-resolution factor {by} and"
                f" the matrix size of {name}",
                fix,
            )
        )
    voxel, own_voxel = (np.linalg.norm(each[:3, :3], axis=0) for each in (affine, own_affine))
    apart = corners_apart(shape[:3], affine, own_shape[:3], own_affine)
    limit = EDGE_TOLERANCE * float(voxel.min())
    if apart > limit:
        reason = (
            f"the field of view differs from {name}: its outer edges are shifted by up to"
            f" {apart:.3g} mm ({apart / own_voxel[:2].min():.2g} acquired voxels), but at most"
            f" {limit:.2g} mm are allowed. The series may be shifted, cropped or in another space"
        )
        fix = (
            "Provide the series in the native space of the run rather than in template space,"
            " with the same field of view and axis directions. Compare the affines in the image"
            " headers."
        )
        problems.append((reason, fix))
    return problems


def inside_field(
    voxels: Array, affine: Array, other_shape: Sequence[int], other_affine: Array, tolerance: float
) -> Mask:
    """Which voxels (n, 3) of one grid have their center in the field of view of another.

    `voxels, affine`: indices (n, 3), and voxel to RAS mm (4, 4) of their grid. `other_shape,
    other_affine`: matrix (x, y, z) and voxel to RAS mm of the other grid.

    >>> inside_field(np.array([[0, 0, 0], [4, 0, 0]]), np.eye(4), (4, 4, 2), np.eye(4), 0.0)
    array([ True, False])
    """
    from nibabel.affines import apply_affine

    places = apply_affine(np.linalg.inv(other_affine) @ affine, voxels)
    half = np.asarray(other_shape) / 2
    return np.asarray((np.abs(places + 0.5 - half) <= half + tolerance).all(1))


@dataclass(frozen=True, slots=True, eq=False)
class Volume:
    """An image in memory.

    `data`: values (X, Y, Z), or (X, Y, Z, K) of several maps on one grid. `header`: NIfTI header
    whose qform and sform codes are kept, or None. `dtype`: data type on disk; None for float32 of
    floats and uint8 of booleans.
    """

    data: "Array"
    affine: "Float"
    header: "nibabel.Nifti1Header | None" = None
    dtype: str | None = None

    def like(self, data: "Array") -> "Volume":
        """Other values on the same grid.

        `data`: values (X, Y, Z), or (X, Y, Z, K) of several maps on one grid.
        """
        return Volume(data, self.affine, self.header)

    @property
    def zooms(self) -> "Array":
        """Voxel edge lengths (mm), (3,)."""
        from nibabel.affines import voxel_sizes

        return voxel_sizes(self.affine)


Triple = tuple[float, float, float]


@frozen
class Header:
    """What the header of an image tells.

    `complex`: voxels of complex numbers.
    """

    path: Path
    shape: tuple[int, ...]
    zooms: Triple
    tr: float | None
    affine: np.ndarray = field(compare=False)
    slice_axis: int | None
    complex: bool
    order: AxisOrder = AS_STORED
    colored: bool = False
