"""Rigid registration of two images of one head by mutual information and Gauss-Newton.

Mutual information comes first; Gauss-Newton follows where the contrast is the same.

Matrices are 4x4, RAS mm, and take a point of the fixed image to where it lies in the moving one.

Calibration and its run as arrays: registration, exclusion criteria, fluctuations.

Matrices are 4x4, RAS mm, and take a boldref point of the run to where it lies in the calibration.
"""

import logging
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from nibabel.affines import apply_affine
from scipy import ndimage

from bids_sr.frozen import frozen
from bids_sr.glm.confounds import HEAD_RADIUS_MM, drift_basis, framewise_displacement
from bids_sr.glm.design import DesignError, frame_times, read_events
from bids_sr.io.grids import Array, Factor, Volume
from bids_sr.io.nifti import SeriesReader
from bids_sr.registration.ants import Stage, read_linear, register
from bids_sr.registration.brain import coarse, mutual_information
from bids_sr.spatial import masks
from bids_sr.spatial.boldref import in_place
from bids_sr.spatial.hmc import MotionEstimator
from bids_sr.spatial.masks import EdgeError, edge_mismatch
from bids_sr.spatial.resampling import FWHM_PER_SIGMA, sample_volume
from bids_sr.spatial.same_results import rounded
from bids_sr.spatial.transforms import (
    displacement,
    hr_grid,
    points_in,
    quarter_turns,
    rigid_params,
    rms_distance,
)
from bids_sr.sr.matrices import acquire
from bids_sr.sr.variance.temporal_components import (
    LEAST_VOLUMES,
    SeriesError,
    calibration_components,
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
    seen = masks.coverage(moving_mask, moving.affine, fixed.data.shape, fixed.affine) > 0.5
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
    inside = rim_of(masks.coarse_mask(fixed_mask, fixed.affine, mm), low)
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
            return np.asarray(start, dtype=float)
        xfm = rounded(xfm @ step)
    moved = rms_distance(start, xfm, points_in(mask, fixed.affine))
    return xfm if moved <= 3.0 else np.asarray(start, dtype=float)


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


_LEAST_OVERLAP = 0.5  # of the run's brain that lies in the calibration's
# of the two references in the brain, below which it is another head or a failed registration
_LEAST_CORRELATION = 0.5
_MOST_MOTION_MM = 1.0  # of any volume that is used, from the reference (rms over the brain)
_MOST_FAR = 0.25  # share of the volumes that may lie farther away, and are left out
_MOST_VOLUMES = 100  # that are read; more tell little more and cost memory


def register_to_calibration(
    boldref: Volume,
    mask: Array,
    fine: Volume,
    fine_mask: Array,
    factor: Factor,
    *,
    seed: int,
    prefix: str,
) -> tuple[Array, dict[str, object]]:
    """Return the rigid boldref-to-calibration transform and how well it fits.

    It maps a boldref point to its point in the calibration.

    Mutual information first, then Gauss-Newton on intensities, as both are echo-planar images of
    one contrast; for the latter the calibration's reference is smoothed to the voxel of the run.
    `factor` is voxel of the run over that of the calibration.

    Parameters
    ----------
    boldref : Volume
        Reference image of the BOLD run (3D).
    mask : Array
        Voxels of the brain in boldref (3D, boolean).
    fine : Volume
        Reference image of the calibration (3D).
    fine_mask : Array
        Voxels of the brain in the calibration's reference (3D, boolean).
    factor : Factor
        Acquired over high-resolution voxel size along each axis.
    seed : int
        Seed of the random samples of ANTs.
    prefix : str
        Path and first letters of the files that ANTs writes.

    Returns
    -------
    tuple[Array, dict[str, object]]
        Transform (4 x 4, RAS+ mm), and figures of its size and fit by name.
    """
    fit = rigid(
        boldref,
        fine,
        mask,
        fine_mask,
        seed=seed,
        prefix=prefix,
        soft=True,
    )
    gap = np.sqrt(np.maximum(boldref.zooms**2 - fine.zooms**2, 0)) / fine.zooms
    soft = ndimage.gaussian_filter(
        np.asarray(fine.data, np.float32), gap / FWHM_PER_SIGMA, mode="nearest"
    )
    xfm = refine(boldref, Volume(data=soft, affine=fine.affine), mask, fit.xfm)
    facts: dict[str, object] = {
        **size_of(xfm, mask, boldref.affine),
        "start": fit.start,
        "nmi": round(fit.nmi, 4),
    }
    return xfm, facts | agreement(boldref, mask, fine, fine_mask, xfm, factor)


def agreement(
    boldref: Volume, mask: Array, fine: Volume, fine_mask: Array, xfm: Array, factor: Factor
) -> dict[str, float | None]:
    """Return the agreement of brains and edges after registration.

    The metrics are overlap, Dice, correlation and distance of edges (mm).

    Parameters
    ----------
    boldref : Volume
        Reference image of the BOLD run (3D).
    mask : Array
        Voxels of the brain in boldref (3D, boolean).
    fine : Volume
        Reference image of the calibration (3D).
    fine_mask : Array
        Voxels of the brain in the calibration's reference (3D, boolean).
    xfm : Array
        Transform of a boldref point to its calibration point (4 x 4, RAS+ mm).
    factor : Factor
        Acquired over high-resolution voxel size along each axis.

    Returns
    -------
    dict[str, float | None]
        Figures by name; None for edges that cannot be compared.
    """
    shape = boldref.data.shape
    carried = masks.coverage(fine_mask, fine.affine, shape, boldref.affine, xfm) >= 0.5
    overlap = float((carried & mask).sum() / max(int(mask.sum()), 1))
    grid_shape, affine = hr_grid(shape, boldref.affine, factor)
    moved = sample_volume(fine.data, fine.affine, grid_shape, affine, xfm)
    # as the run's matrix would show it
    low = np.asarray(acquire(moved, affine, factor=factor, magnitude=True)[0])
    both = carried & mask
    facts: dict[str, float | None] = {
        "overlap": round(overlap, 4),
        "dice": round(masks.dice(mask, carried), 4),
        "correlation": round(masks.correlation(low[both], boldref.data[both]), 4),
        "edges_apart_mm": None,
        "edges_apart_p90_mm": None,
    }
    try:
        mismatch = edge_mismatch(
            boldref.data, low, both, boldref.affine, blur_mm=float(boldref.zooms[:2].max())
        )
    except EdgeError:
        return facts
    told = {"edges_apart_mm": mismatch.median, "edges_apart_p90_mm": mismatch.p90}
    return facts | {
        key: round(value, 3) if math.isfinite(value) else None for key, value in told.items()
    }


def _in_reference(reader: SeriesReader, matrices: Array, first: int) -> Array:
    """Return steady-state volumes in reference space, (X, Y, Z, T) float32.

    The first `_MOST_VOLUMES` of them are used.
    """
    stop = min(reader.shape[3], first + _MOST_VOLUMES)
    out = np.empty((*reader.shape[:3], stop - first), dtype=np.float32)
    for t in range(first, stop):
        out[..., t - first] = in_place(reader, t, matrices[t])
    return out


def moved_mm(matrices: Array, mask: Array, affine: Array) -> Array:
    """Return (T,) rms displacement of the brain from the reference (mm)."""
    points = points_in(mask, affine, 7)
    return np.array([rms_distance(np.eye(4), matrix, points) for matrix in matrices])


def _task_regressors(events: Path, tr: float, volumes: int) -> Array:
    """Return (T, C) predicted response of each condition that happens.

    `DesignError`: the table cannot be used. One column for each condition (T, C); no columns
    without a response.
    """
    found = read_events(events).courses(frame_times(volumes, tr))
    kept = [regressor for regressor in found.values() if np.abs(regressor).max() > 1e-3]
    return np.stack(kept, axis=1) if kept else np.zeros((volumes, 0))


def objection(facts: Mapping[str, float]) -> str:
    """Why a calibration cannot be used, from what was measured; "" if it can.

    `facts`: figures of registration and head motion by name. Reason and advice as a clause; empty
    if nothing speaks against it.
    """
    if facts["overlap"] < _LEAST_OVERLAP:
        return (
            f"the calibration run covers only {facts['overlap']:.0%} of the brain in the"
            " BOLD run. Acquire the calibration run with the same field of view as the BOLD"
            " run."
        )
    if facts["correlation"] < _LEAST_CORRELATION:
        return (
            "after registration, the calibration run does not match the BOLD run (spatial"
            f" correlation {facts['correlation']:.2f}). The calibration run may be from"
            " another participant or have another contrast, or the registration may have"
            " failed. Check the registration figure."
        )
    if facts.get("far_share", 0.0) > _MOST_FAR:
        return (
            f"the head moved by {facts['motion_max_mm']:.1f} mm during the calibration run;"
            f" at most {_MOST_MOTION_MM:g} mm are allowed. Repeat the acquisition with less"
            " head motion."
        )
    return ""


_LOGGER = logging.getLogger(__name__)


def calibration_patterns(
    reader: SeriesReader,
    mask: Array,
    matrices: Array,
    params: Array,
    facts: dict[str, object],
    *,
    n_dummy: int,
    tr: float,
    events: Path | None = None,
) -> tuple[Array, dict[str, object]]:
    """The patterns of its fluctuations (C, X, Y, Z), and what is to be told of them.

    Parameters
    ----------
    reader, mask : SeriesReader
        (X, Y, Z, T) calibration, uncompressed, and the brain in its reference.
    matrices, params : Array
        (T, 4, 4) reference point to the volume's point (RAS mm); (T, 6) the same in mm and rad.
    facts : dict[str, object]
        Of its registration; takes what is known before something speaks against its use.
    n_dummy, tr : int
        First volumes to leave out; repetition time (s).
    events : Path | None, optional
        BIDS events of the calibration; None: there is no task to take out.

    Returns
    -------
    tuple[Array, dict[str, object]]
        Patterns on the grid of the calibration, and figures by name.

    Raises
    ------
    SeriesError : it cannot be used; the message says why
    """
    first = n_dummy
    if not mask.any() or reader.shape[3] - first < LEAST_VOLUMES:
        count = (
            f"{max(reader.shape[3] - first, 0)} steady-state volumes and {int(mask.sum())}"
            " brain voxels"
        )
        raise SeriesError(
            f"the calibration run has {count}; at least {LEAST_VOLUMES} volumes"
            " are required to estimate variances"
        )
    series = _in_reference(reader, matrices, first)
    used = slice(first, first + series.shape[3])
    fd = framewise_displacement(params[used])
    far = moved_mm(matrices[used], mask, reader.affine)
    task, task_facts = _task(events, tr, reader.shape[3])
    # mm at the head's radius
    motion = np.asarray(params[used], dtype=np.float64) * ([1.0] * 3 + [HEAD_RADIUS_MM] * 3)
    away = far > _MOST_MOTION_MM
    task_facts |= {
        "fd_max_mm": round(float(np.nanmax(fd)), 4),
        "fd_mean_mm": round(float(np.nanmean(fd)), 4),
        "motion_max_mm": round(float(far.max()), 4),
        "far_share": round(float(away.mean()), 4),
    }
    facts |= task_facts
    if against := objection(
        {name: value for name, value in facts.items() if isinstance(value, float)}
    ):
        raise SeriesError(against)
    patterns, components = calibration_components(
        series,
        mask,
        drift=drift_basis(series.shape[3], tr),
        motion=motion,
        fd=np.where(away, np.inf, fd),
        task=None if task is None else task[used],
        first=first,
    )
    return patterns, task_facts | components


def _task(events: Path | None, tr: float, volumes: int) -> tuple[Array | None, dict[str, object]]:
    """Regressors of the task, and what became of it."""
    if events is None:
        return None, {"task": "no events file"}
    try:
        return _task_regressors(events, tr, volumes), {"task": Path(events).name}
    except DesignError as error:
        _LOGGER.warning(
            "The task effects could not be removed from the calibration run: %s", error
        )
        return None, {"task": f"not removed: {error}"}
