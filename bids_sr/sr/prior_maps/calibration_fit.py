"""Position of a calibration relative to the run, and its weight in the prior (see `outer_band`).

The registration between the two reference images is refined: rigidly at first, then by scaling and
shearing within the slice plane, because two echo-planar scans may have different distortions. Each
parameter is changed by a step in both directions, evaluated on every third slice. If a parabola
through the three values predicts an improvement, its vertex is evaluated on all slices and
accepted if the prediction clearly improves.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import cos, radians, sin

import numpy as np
from nibabel.affines import voxel_sizes

from bids_sr.io.arrays import Array
from bids_sr.spatial.transforms import rms_distance, voxel_centers
from bids_sr.sr.prior_maps.calibration_prior import SHARE, CalibrationPatterns
from bids_sr.sr.prior_maps.outer_band import (
    MIN_IMPROVEMENT,
    MIN_STANDARD_ERRORS,
    OuterBand,
    Predicted,
)

_CAUTIOUS = 0.25
"""Cautious weight of a calibration, used in the test and for calibrations of doubtful fit."""
_MAX_SHIFT = 4.0  # high-resolution voxels, largest change of the registration (rms over the brain)
# step sizes of the parameters: high-resolution voxels, degrees and fractions
_STEPS = (0.5, 0.5, 0.25, 1.0, 1.0, 1.0, 0.01, 0.01, 0.01)
_LAST_STEP = 0.4  # step size in the last round, relative to `_STEPS`
_REPORTED_MM = 0.05  # mm, smallest correction that is reported
_MAX_STEPS = 2.0  # steps, largest distance of a parabola's vertex
_SLICE_STEP = 3  # every third slice is evaluated for the parabola

_Evaluate = Callable[..., Predicted | None]
"""Function that returns the prediction for parameters on every n-th slice.

It returns None if the parameters move the calibration too far.
"""


@dataclass(frozen=True, kw_only=True)
class CalibrationFit:
    """Weight and position of a calibration, with the predictions that they are based on.

    Parameters
    ----------
    weight : float
        Share of the prior; 0 if the calibration is not used.
    correction : Array
        Transform applied to boldref points before they are mapped to the calibration (4 x 4, RAS+
        mm).
    moved_mm : float
        Displacement by the correction (mm, rms over the brain).
    cautious, full : Predicted | None
        Predictions with the cautious weight (.25) and the full weight (.4); None if they were not
        computed.
    """

    weight: float
    correction: Array
    moved_mm: float
    cautious: Predicted | None = None
    full: Predicted | None = None

    @property
    def text(self) -> str:
        """Description of the decision as a clause."""
        if not self.weight:
            prediction_improved = (
                self.cautious is not None
                and self.full is not None
                and _compute_weight(self.cautious, self.full) > 0
            )
            reason = (
                "the self-test score did not increase"
                if prediction_improved
                else "the prediction of the highest acquired spatial frequencies did not improve"
            )
            return f"the calibration run was not used, because {reason}"
        sentence = f"the calibration run was used with a weight of {self.weight:g}"
        if self.moved_mm > _REPORTED_MM:
            sentence += f" after its position was corrected by {self.moved_mm:.1f} mm"
        if (prediction := self.full if self.weight == SHARE else self.cautious) is None:
            return sentence
        value, baseline = (
            100 * float(np.mean(shares))
            for shares in (prediction.with_calibration, prediction.without_calibration)
        )
        return (
            f"{sentence}. With the calibration run, {value:.1f} % of the variance at the highest "
            f"acquired spatial frequencies was predicted, and {baseline:.1f} % without it"
        )

    @property
    def entries(self) -> dict[str, object]:
        """Entries for the model card."""
        facts: dict[str, object] = {
            "weight": self.weight,
            "position_correction_mm": round(self.moved_mm, 3),
            "position_correction": np.round(self.correction, 6).tolist(),
        }
        if self.cautious is None or self.full is None:
            return facts
        return facts | {
            "predicted_without": round(float(np.mean(self.full.without_calibration)), 5),
            "predicted_gain_by_weight": {
                f"{_CAUTIOUS:g}": round(self.cautious.gain, 5),
                f"{SHARE:g}": round(self.full.gain, 5),
            },
            "predicted_gain_error": round(self.cautious.error, 5),
        }


def read_calibration(held_out: object) -> tuple[float, Array | None]:
    """Return weight and position correction of a calibration from `CalibrationFit.entries`.

    The weight is 0 if no calibration was used. The correction (4 x 4, RAS+ mm) is None if it is
    missing, as in cards of earlier versions.
    """
    if not isinstance(held_out, Mapping):
        return 0.0, None
    correction = held_out.get("position_correction")
    return float(held_out.get("weight", 0)), None if correction is None else np.array(correction)


def unrefined_fit() -> CalibrationFit:
    """Return the fit of a calibration with thinner slices than the run.

    The test in `outer_band` is not valid for thinner slices. The calibration is used with the
    cautious weight and without a correction of its position, if it improves the self-test score.
    """
    return CalibrationFit(weight=_CAUTIOUS, correction=np.eye(4), moved_mm=0.0)


def fit_calibration(
    band: OuterBand, exemplars: CalibrationPatterns, mask: Array, affine: Array
) -> CalibrationFit:
    """Refine the position of a calibration, and determine its weight.

    Parameters
    ----------
    band : OuterBand
        Test that predicts the outermost acquired frequencies.
    exemplars : CalibrationPatterns
        Patterns of the calibration.
    mask : Array
        Brain mask on the acquired grid (x, y, z).
    affine : Array
        Voxel-to-world matrix of the acquired grid (4 x 4, RAS+ mm).

    Returns
    -------
    CalibrationFit
        Position and weight. The weight is 0 if the calibration does not improve the prediction.
    """
    points = voxel_centers(mask, affine, 7)
    if not band.tiles:
        return CalibrationFit(weight=0.0, correction=np.eye(4), moved_mm=0.0)
    center = points.mean(0)
    axes = affine[:3, :3] / voxel_sizes(affine)
    fine_size = voxel_sizes(band.affine)

    def predicted(params: Array, slice_step: int = 1) -> Predicted | None:
        matrix = _correction(params, center, axes, fine_size)
        return (
            None
            if rms_distance(np.eye(4), matrix, points) > max_distance
            else band.predict(exemplars, matrix, slice_step=slice_step)
        )

    max_distance = _MAX_SHIFT * float(fine_size[:2].max())
    params, full = _climb(predicted)
    correction = _correction(params, center, axes, fine_size)
    cautious = band.predict(exemplars, correction, _CAUTIOUS)
    return CalibrationFit(
        weight=_compute_weight(cautious, full),
        correction=correction,
        moved_mm=rms_distance(np.eye(4), correction, points),
        cautious=cautious,
        full=full,
    )


def _compute_weight(cautious: Predicted, full: Predicted) -> float:
    """Return the share of the prior for a calibration.

    The share is 0 unless the cautious weight improves the prediction by more than chance. It is
    the full weight if this also improves the prediction, otherwise the cautious weight.
    """
    if not cautious.gain > MIN_STANDARD_ERRORS * cautious.error:
        return 0.0
    return SHARE if full.gain > 0 else _CAUTIOUS


def _correction(params: Array, center: Array, axes: Array, fine: Array) -> Array:
    """Return the matrix (4 x 4, RAS+ mm) of a rigid motion with in-plane scaling and shear.

    Parameters
    ----------
    params : Array
        Shifts (3, high-resolution voxels), rotations (3, degrees), in-plane scales (2) and shear,
        along the axes of the slices.
    center : Array
        Center of the brain (RAS+ mm).
    axes : Array
        Unit vectors of the voxel axes, as columns (3, 3).
    fine : Array
        High-resolution voxel size (3, mm).
    """
    inner = _rotation(params[3:6]) @ np.array(
        [[1 + params[6], params[8], 0], [0, 1 + params[7], 0], [0, 0, 1.0]]
    )
    out = np.eye(4)
    out[:3, :3] = axes @ inner @ np.linalg.inv(axes)
    out[:3, 3] = center - out[:3, :3] @ center + axes @ (params[:3] * fine)
    return out


def _rotation(degrees: Array) -> Array:
    """Return the matrix of successive rotations about the three axes (3, 3)."""
    out = np.eye(3)
    for axis, angle in enumerate(degrees):
        c = cos(radians(angle))
        s = sin(radians(angle))
        a, b = (k for k in range(3) if k != axis)
        rotation = np.eye(3)
        rotation[a, a], rotation[a, b], rotation[b, a], rotation[b, b] = c, -s, s, c
        out = rotation @ out
    return out


def _climb(predicted: _Evaluate) -> tuple[Array, Predicted]:
    """Return the parameters with the best prediction, and this prediction.

    Parameters are optimized one after the other, starting from 0.
    """
    params = np.zeros(len(_STEPS))
    best, coarse_best = predicted(params), predicted(params, _SLICE_STEP)
    assert best is not None
    assert coarse_best is not None
    for numbers, scale in ((range(2), 2.0), (range(9), 1.0), (range(3), _LAST_STEP)):
        if scale < 1 and not params.any():
            break  # small steps are not tried if larger steps gave no improvement
        for number in numbers:
            change = _find_promising(
                predicted, params, coarse_best, number, scale * _STEPS[number]
            )
            candidate = params if change is None else _change_parameter(params, number, change)
            if (
                change is None
                or (prediction := predicted(candidate)) is None
                or not prediction.exceeds(best)
            ):
                continue
            params = candidate
            best = prediction
            coarse_best = predicted(candidate, _SLICE_STEP)
            assert coarse_best is not None
    return params, best


def _find_promising(
    predicted: _Evaluate, params: Array, current: Predicted, number: int, step: float
) -> float | None:
    """Return the change of a parameter that promises a better prediction, or None."""
    down, up = (
        predicted(_change_parameter(params, number, direction * step), _SLICE_STEP)
        for direction in (-1.0, 1.0)
    )
    if down is None or up is None:
        return None
    slope = (up.gain - down.gain) / 2
    curve = (down.gain + up.gain) / 2 - current.gain
    direction = (
        float(np.clip(-slope / (2 * curve), -_MAX_STEPS, _MAX_STEPS))
        if curve < 0
        else float(np.sign(slope))
    )
    return direction * step if slope * direction + curve * direction**2 > MIN_IMPROVEMENT else None


def _change_parameter(params: Array, number: int, change: float) -> Array:
    """Return the parameters with one of them changed."""
    out = params.copy()
    out[number] += change
    return out
