"""Place of a calibration relative to the run, and its share of the prior; see `outer_band`.

The registration of the two references is refined: rigidly, then by scale and shear in the plane of
the slices, because two echo-planar scans need not be distorted alike. Each parameter is moved a
step up and down, which is looked at in every third slice. Where the parabola through the three
values promises more, its vertex is looked at in all slices, and taken if clearly more is predicted
there.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import cos, radians, sin

import numpy as np
from nibabel.affines import voxel_sizes

from bids_sr.io.arrays import Array
from bids_sr.spatial.transforms import points_in, rms_distance
from bids_sr.sr.variance.exemplars import SHARE, Exemplars
from bids_sr.sr.variance.outer_band import SURE, WORTH, OuterBand, Predicted

_CAUTIOUS = 0.25
"""Weight at which it is decided whether a calibration helps at all, and with which a doubtful one
is used.
"""
_FARTHEST = 4.0  # high-resolution voxels (rms over the brain) that the registration may be moved
_STEPS = (0.5, 0.5, 0.25, 1.0, 1.0, 1.0, 0.01, 0.01, 0.01)  # voxels, degrees, and shares
_FINER = 0.4  # of the steps, in the last round
_TOLD_MM = 0.05
_REACH = 2.0  # steps to which a parabola is trusted
_EVERY = 3  # slices of which one is looked at for the parabola

_Look = Callable[..., Predicted | None]
"""What is predicted at some parameters, in one of so many slices; None where they are too far."""


@dataclass(frozen=True, kw_only=True)
class CalibrationFit:
    """What was decided, and on what grounds.

    `weight`: share of the prior, 0: the calibration is not used. `correction`: 4x4, moves a
    boldref point (RAS mm) before its look-up there. `moved_mm`: by it, rms over the brain.
    """

    weight: float
    correction: Array
    moved_mm: float
    cautious: Predicted | None = None
    full: Predicted | None = None

    @property
    def text(self) -> str:
        """What was decided, in words."""
        if not self.weight:
            fits = (
                self.cautious is not None
                and self.full is not None
                and _weight_of(self.cautious, self.full) > 0
            )
            why = (
                "the self-test score did not increase"
                if fits
                else "the prediction of the highest acquired spatial frequencies did not improve"
            )
            return f"the calibration run was not used, because {why}"
        sentence = f"the calibration run was used with a weight of {self.weight:g}"
        if self.moved_mm > _TOLD_MM:
            sentence += f" after its position was corrected by {self.moved_mm:.1f} mm"
        if (found := self.full if self.weight == SHARE else self.cautious) is None:
            return sentence
        having, without = (100 * float(np.mean(each)) for each in (found.having, found.without))
        return (
            f"{sentence}. With the calibration run, {having:.1f} % of the variance at the highest "
            f"acquired spatial frequencies was predicted, and {without:.1f} % without it"
        )

    @property
    def entries(self) -> dict[str, object]:
        """For the card."""
        facts: dict[str, object] = {
            "weight": self.weight,
            "position_correction_mm": round(self.moved_mm, 3),
        }
        if self.cautious is None or self.full is None:
            return facts
        return facts | {
            "predicted_without": round(float(np.mean(self.full.without)), 5),
            "predicted_gain_by_weight": {
                f"{_CAUTIOUS:g}": round(self.cautious.gain, 5),
                f"{SHARE:g}": round(self.full.gain, 5),
            },
            "predicted_gain_error": round(self.cautious.error, 5),
        }


def unrefined() -> CalibrationFit:
    """Return the fit of a calibration whose slices are thinner than those of the run.

    There the test of `outer_band` does not hold.

    It is taken where the registration found it, with caution, if it helps one level of resolution
    down.

    Fit with the cautious weight and without correction of the place.
    """
    return CalibrationFit(weight=_CAUTIOUS, correction=np.eye(4), moved_mm=0.0)


def fit_calibration(
    band: OuterBand, exemplars: Exemplars, mask: Array, affine: Array
) -> CalibrationFit:
    """Refine the place of a calibration and decide on its weight.

    `band`: test of how well the outermost acquired frequencies are predicted. `mask, affine`: (x,
    y, z) brain on the acquired grid, voxel -> RAS mm. Weight, 0 where it does not help, and
    correction of the place.
    """
    points = points_in(mask, affine, 7)
    if not band.tiles:
        return CalibrationFit(weight=0.0, correction=np.eye(4), moved_mm=0.0)
    center = points.mean(0)
    axes = affine[:3, :3] / voxel_sizes(affine)
    fine = voxel_sizes(band.affine)

    def predicted(params: Array, every: int = 1) -> Predicted | None:
        matrix = _correction(params, center, axes, fine)
        return (
            None
            if rms_distance(np.eye(4), matrix, points) > farthest
            else band.predicted(exemplars, matrix, every=every)
        )

    farthest = _FARTHEST * float(fine[:2].max())
    params, full = _climb(predicted)
    correction = _correction(params, center, axes, fine)
    cautious = band.predicted(exemplars, correction, _CAUTIOUS)
    return CalibrationFit(
        weight=_weight_of(cautious, full),
        correction=correction,
        moved_mm=rms_distance(np.eye(4), correction, points),
        cautious=cautious,
        full=full,
    )


def _weight_of(cautious: Predicted, full: Predicted) -> float:
    """Share of the prior that a calibration gets.

    None, unless it helps at the cautious weight by more than chance; the full one if it does no
    harm at that.
    """
    if not cautious.gain > SURE * cautious.error:
        return 0.0
    return SHARE if full.gain > 0 else _CAUTIOUS


def _correction(params: Array, center: Array, axes: Array, fine: Array) -> Array:
    """Return the 4x4 matrix (RAS mm) of a rigid motion with in-plane scales and shear.

    `params`: shifts (3, high-resolution voxels), rotations (3, degrees), scales of both axes of
    the plane, and their shear, along the axes of the slices. `center`: of the brain, RAS mm.
    `axes`: (3, 3) unit vectors of the voxel axes, as columns. `fine`: (3,) fine voxel size (mm).
    """
    inner = _rotation(params[3:6]) @ np.array(
        [[1 + params[6], params[8], 0], [0, 1 + params[7], 0], [0, 0, 1.0]]
    )
    out = np.eye(4)
    out[:3, :3] = axes @ inner @ np.linalg.inv(axes)
    out[:3, 3] = center - out[:3, :3] @ center + axes @ (params[:3] * fine)
    return out


def _rotation(degrees: Array) -> Array:
    """About the three axes, one after the other."""
    out = np.eye(3)
    for axis, angle in enumerate(degrees):
        c = cos(radians(angle))
        s = sin(radians(angle))
        a, b = (k for k in range(3) if k != axis)
        turn = np.eye(3)
        turn[a, a], turn[a, b], turn[b, a], turn[b, b] = c, -s, s, c
        out = turn @ out
    return out


def _climb(predicted: _Look) -> tuple[Array, Predicted]:
    """Parameters at which most is predicted, one after the other from nothing, and how much."""
    at = np.zeros(len(_STEPS))
    best, few = predicted(at), predicted(at, _EVERY)
    assert best is not None
    assert few is not None
    for numbers, finer in ((range(2), 2.0), (range(9), 1.0), (range(3), _FINER)):
        if finer < 1 and not at.any():
            break  # steps as small were promised nothing
        for number in numbers:
            way = _promising(predicted, at, few, number, finer * _STEPS[number])
            there = at if way is None else _moved(at, number, way)
            if way is None or (found := predicted(there)) is None or not found.exceeds(best):
                continue
            at = there
            best = found
            few = predicted(there, _EVERY)
            assert few is not None
    return at, best


def _promising(
    predicted: _Look, at: Array, here: Predicted, number: int, step: float
) -> float | None:
    """By how much to move one parameter so that more is predicted; None: stay."""
    down, up = (predicted(_moved(at, number, way * step), _EVERY) for way in (-1.0, 1.0))
    if down is None or up is None:
        return None
    slope = (up.gain - down.gain) / 2
    curve = (down.gain + up.gain) / 2 - here.gain
    way = (
        float(np.clip(-slope / (2 * curve), -_REACH, _REACH))
        if curve < 0
        else float(np.sign(slope))
    )
    return way * step if slope * way + curve * way**2 > WORTH else None


def _moved(at: Array, number: int, by: float) -> Array:
    out = at.copy()
    out[number] += by
    return out
