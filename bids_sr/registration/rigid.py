"""Rigid registration of two images of one head by mutual information and Gauss-Newton.

Mutual information comes first; Gauss-Newton follows where the contrast is the same.

Matrices are 4x4, RAS mm, and take a point of the fixed image to where it lies in the moving one.
"""

import numpy as np
from nibabel.affines import apply_affine

from bids_sr.frozen import frozen
from bids_sr.io.arrays import Array
from bids_sr.io.volume import Volume
from bids_sr.registration.ants import Stage, read_linear, register
from bids_sr.registration.brain import coarse, mutual_information
from bids_sr.spatial import coarse_grids, masks
from bids_sr.spatial.hmc import MotionEstimator
from bids_sr.spatial.resampling import sample_volume
from bids_sr.spatial.same_results import rounded
from bids_sr.spatial.transforms import (
    displacement,
    points_in,
    quarter_turns,
    rigid_params,
    rms_distance,
)

_MIN_OVERLAP = 0.3  # of the smaller head, below which headers are not believed alone
# a start from the headers that ends below this share of the best start's information is poor
_POOR_GAIN = 0.5
# A header that is wrong by a quarter turn leaves a match with little information. Turned starts
# are compared on voxels of this size (mm), and registered if they come near that match as they are
_TURN_MM = 4.0
_TURNS_TRIED = 3
_TURN_SHARE = 0.25  # of the information above 1, that counts as near
# information of a turned start over that of the headers, from which the headers are not believed
_TURNED_GAIN = 1.5
# correlation of aligned images of one contrast, below which the alignment is not believed
_ALIKE = 0.97


@frozen
class _Fit:
    """A rigid transform and how well it aligns.

    `xfm` takes a fixed point to its moving point; `nmi` is normalized mutual information in the
    fixed mask (1 is none); `start` is "headers", "centers of mass", or "turned headers".
    """

    xfm: Array
    nmi: float
    start: str


def _center(mask: Array, affine: Array) -> Array:
    return apply_affine(affine, np.argwhere(mask).mean(axis=0))


def rim_of(mask: Array, image: Volume) -> Array:
    """A head or brain with what surrounds it, as the metrics of registrations need it.

    `image`: image on the grid of the mask (3D); its voxel size sets the width. Voxels of the
    region and 1.5 largest voxel edges around it (3D, boolean).
    """
    return masks.grow(mask, image.affine, 1.5 * float(image.zooms.max()))


def linear_stages(kind: str, size: float, fine_mm: float = 0.0) -> list[Stage]:
    """Return stages of a linear registration of images of smallest voxel side `size` (mm).

    `fine_mm` is the smoothing (sigma) of the last level.

    `kind`: transform of ANTs, ``Rigid`` or ``Affine``. Two stages; the second looks at all voxels.
    """
    return [
        Stage(
            transform=f"{kind}[0.1]",
            iterations=(100, 50),
            shrink=(2, 1),
            mm=(1.2 * size, 0.6 * size),
        ),
        Stage(
            transform=f"{kind}[0.05]", iterations=(30,), shrink=(1,), mm=(fine_mm,), sampling=1.0
        ),
    ]


def _overlap(fixed: Volume, fixed_mask: Array, moving: Volume, moving_mask: Array) -> float:
    """Share of the smaller mask that the headers put inside the other one."""
    seen = coarse_grids.coverage(moving_mask, moving.affine, fixed.data.shape, fixed.affine) > 0.5
    sizes = [fixed_mask.sum() * np.prod(fixed.zooms), moving_mask.sum() * np.prod(moving.zooms)]
    return float((seen & fixed_mask).sum() * np.prod(fixed.zooms) / max(min(sizes), 1.0))


def rigid(
    fixed: Volume,
    moving: Volume,
    fixed_mask: Array,
    moving_mask: Array,
    *,
    seed: int,
    prefix: str,
    soft: bool = False,
) -> _Fit:
    """Rigid transform between two images of one head by mutual information.

    Starts from the headers (scanner coordinates). Where these leave the heads hardly overlapping,
    or lead to a poor match, it also starts from the centers of mass; the better match wins. A
    header may also be wrong by quarter turns: if one of these, about the centers of mass, comes
    near the match without any registration, it is a start, too, and wins where the mutual
    information above 1 grows by half.

    Parameters
    ----------
    fixed, moving : Volume
        The image of larger voxels, and that with less of the head, should be the fixed one.
    fixed_mask, moving_mask : Array
        Heads or brains on the grids of the images.
    seed : int
        Seed of the random samples of ANTs.
    prefix : str
        Path and first letters of the files that ANTs writes.
    soft : bool, optional
        Smooth at the last level too, by a third of a voxel.

    Returns
    -------
    Fit
        Transform of the better match, its score and its start.
    """
    rim = rim_of(fixed_mask, fixed)
    shift = np.eye(4)
    shift[:3, 3] = _center(moving_mask, moving.affine) - _center(fixed_mask, fixed.affine)
    starts = {"headers": np.eye(4), "centers of mass": shift}
    if _overlap(fixed, fixed_mask, moving, moving_mask) >= _MIN_OVERLAP:
        before = {
            name: mutual_information(fixed, moving, start, rim) for name, start in starts.items()
        }
        if before["headers"] - 1 >= _POOR_GAIN * (before["centers of mass"] - 1):
            del starts["centers of mass"]
    size = float(fixed.zooms.min())
    stages = linear_stages("Rigid", size, 0.35 * size if soft else 0.0)

    def fitted(start: Array, name: str, number: int) -> _Fit:
        files = register(
            fixed,
            moving,
            stages,
            seed=seed,
            prefix=f"{prefix}{number}_",
            start=start,
            fixed_mask=rim,
        )
        xfm = orthonormal(read_linear(files[0]))
        return _Fit(xfm=xfm, nmi=mutual_information(fixed, moving, xfm, rim), start=name)

    fits = [fitted(start, name, number) for number, (name, start) in enumerate(starts.items())]
    best = max(fits, key=lambda fit: fit.nmi)
    for number, start in enumerate(
        _turned_starts(fixed, moving, fixed_mask, moving_mask, best.nmi), len(fits)
    ):
        turned = fitted(start, "turned headers", number)
        if turned.nmi - 1 > _TURNED_GAIN * (best.nmi - 1):
            best = turned
    return best


def _turned_starts(
    fixed: Volume, moving: Volume, fixed_mask: Array, moving_mask: Array, nmi: float
) -> list[Array]:
    """Return starts turned by multiples of 90 degrees that are worth a registration, best first.

    Centers of mass lie on each other. `nmi`: of the best match so far. A turned start is worth it
    if it comes near that match, or if it is better than the headers without registration.
    """
    mm = _TURN_MM * masks.head_scale(moving_mask, moving.affine)
    low, other = coarse(fixed, mm), coarse(moving, mm)
    inside = rim_of(coarse_grids.coarse_mask(fixed_mask, fixed.affine, mm), low)
    center, target = _center(fixed_mask, fixed.affine), _center(moving_mask, moving.affine)
    scored = []
    for turn in quarter_turns():
        start = np.eye(4)
        start[:3, :3] = turn
        start[:3, 3] = target - turn @ center
        scored.append((mutual_information(low, other, start, inside), start))
    scored.sort(key=lambda pair: -pair[0])
    by_headers = mutual_information(low, other, np.eye(4), inside)
    least = min(_TURN_SHARE * (nmi - 1), by_headers - 1)
    worth = [start for score, start in scored if score - 1 >= least]
    return worth[:_TURNS_TRIED]


def orthonormal(matrix: Array) -> Array:
    """The nearest rigid matrix; takes away rounding of single-precision files."""
    u, _, vt = np.linalg.svd(matrix[:3, :3])
    out = np.array(matrix, dtype=float)
    out[:3, :3] = u @ vt
    return rounded(out)


def refine(fixed: Volume, moving: Volume, mask: Array, start: Array, *, rounds: int = 2) -> Array:
    """Refine a rigid transform between images of one contrast by Gauss-Newton.

    The result equals `start` where that fails.

    `start` takes a fixed point to its moving point, right to about 10 mm; `mask` is the head on
    the fixed grid. A correction whose rms over the head is above 3 mm is not believed.

    Parameters
    ----------
    fixed : Volume
        Image that stays in place (3D).
    moving : Volume
        Image that is brought onto the fixed one (3D).
    mask : Array
        Voxels of the head in the fixed image (3D, boolean).
    start : Array
        Transform of a fixed point to its moving point (4 x 4, RAS+ mm).
    rounds : int, optional
        Number of times that the moving image is resampled and registered.

    Returns
    -------
    Array
        Transform of a fixed point to its moving point (4 x 4, RAS+ mm).
    """
    xfm = _gauss_newton(fixed, moving, mask, start, rounds)
    if xfm is None:
        return np.asarray(start, dtype=float)
    moved = rms_distance(start, xfm, points_in(mask, fixed.affine))
    return xfm if moved <= 3.0 else np.asarray(start, dtype=float)


def align_alike(fixed: Volume, moving: Volume, mask: Array) -> Array | None:
    """Align images of one contrast and one head from their headers by Gauss-Newton.

    It takes a tenth of the time of `rigid`, and fails if the head moved far.

    Parameters
    ----------
    fixed : Volume
        Image that stays in place (3D).
    moving : Volume
        Image that is brought onto the fixed one (3D).
    mask : Array
        Voxels of the head in the fixed image (3D, boolean).

    Returns
    -------
    Array | None
        Transform of a fixed point to its moving point (4 x 4, RAS+ mm); None unless the images
        then correlate at .97 or more in the mask.
    """
    xfm = _gauss_newton(fixed, moving, mask, np.eye(4), rounds=3)
    if xfm is None:
        return None
    shape = fixed.data.shape
    seen = sample_volume(moving.data, moving.affine, shape, fixed.affine, xfm)
    return xfm if np.corrcoef(seen[mask], fixed.data[mask])[0, 1] >= _ALIKE else None


def _gauss_newton(
    fixed: Volume, moving: Volume, mask: Array, start: Array, rounds: int
) -> Array | None:
    """Resample and register some rounds; None if an image gives no transform."""
    ones = np.ones(moving.data.shape, dtype=np.float32)
    xfm = np.asarray(start, dtype=float)
    for _ in range(rounds):
        shape = fixed.data.shape
        seen = sample_volume(moving.data, moving.affine, shape, fixed.affine, xfm)
        valid = (
            sample_volume(
                ones, moving.affine, shape, fixed.affine, xfm, order=1, zero_outside=True
            )
            > 0.99
        )
        estimator = MotionEstimator(
            np.where(valid, fixed.data, 0), mask & valid, fixed.affine, margin=0
        )
        step, cost = estimator.fit(np.where(valid, seen, 0), [np.eye(4)])
        if not np.isfinite(cost):
            return None
        xfm = rounded(xfm @ step)
    return xfm


def size_of(xfm: Array, mask: Array, affine: Array) -> dict[str, float]:
    """Return how far a rigid transform moves a head.

    The values are mm (of its center), degrees, and rms and maximal displacement (mm).
    """
    points = points_in(mask, affine)
    parameters = rigid_params(xfm, points.mean(axis=0))
    return {
        "offset_mm": round(float(np.linalg.norm(parameters[:3])), 4),
        "offset_deg": round(float(np.rad2deg(np.linalg.norm(parameters[3:]))), 4),
        "displacement_rms_mm": round(rms_distance(np.eye(4), xfm, points), 4),
        "displacement_max_mm": round(float(displacement(np.eye(4), xfm, points).max()), 4),
    }
