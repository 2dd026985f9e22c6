"""Position of a calibration relative to the run, and its weight in the prior (see `outer_band`).

The registration between the two reference images is refined: rigidly at first, then by scaling and
shearing within the slice plane, because two echo-planar scans may have different distortions. Each
parameter is changed by a step in both directions, evaluated on every third slice. If a parabola
through the three values predicts an improvement, its vertex is evaluated on all slices and
accepted if the prediction clearly improves.
"""

from collections.abc import Mapping
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
    BandPrediction,
    OuterBand,
)

# weight of a calibration that is tested first, and used for calibrations of doubtful fit
_CAUTIOUS_WEIGHT = 0.25
_MAX_SHIFT = 4.0  # high-resolution voxels, largest change of the registration (rms over the brain)
# step sizes of the parameters: high-resolution voxels, degrees and fractions
_STEPS = (0.5, 0.5, 0.25, 1.0, 1.0, 1.0, 0.01, 0.01, 0.01)
# parameters that are changed in each round, and step size relative to `_STEPS`
_ROUNDS = ((range(2), 2.0), (range(9), 1.0), (range(3), 0.4))
_REPORTED_MM = 0.05  # mm, smallest correction that is reported
_MAX_STEPS = 2.0  # steps, largest distance of a parabola's vertex
_POINT_STRIDE = 7  # every 7th brain voxel is a point at which the displacement is measured
_SLICE_STEP = 3  # every third slice is evaluated for the parabola


@dataclass(frozen=True, kw_only=True)
class CalibrationFit:
    """Weight and position of a calibration, with the predictions that they are based on.

    `weight` is the share of the prior; 0 if the calibration is not used. `correction` is a
    transform applied to boldref points before they are mapped to the calibration (4 x 4, RAS+ mm),
    and `displacement_mm` the displacement by the correction (rms over the brain).
    `cautious_prediction` and `full_prediction` are predictions with the cautious weight (0.25) and
    the full weight (0.4); None if they were not computed. `failed_self_test` states whether the
    calibration is not used because it did not increase the self-test score.
    """

    weight: float
    correction: Array
    displacement_mm: float
    cautious_prediction: BandPrediction | None = None
    full_prediction: BandPrediction | None = None
    failed_self_test: bool = False

    @property
    def text(self) -> str:
        """Description of the decision as a clause."""
        if not self.weight:
            reason = (
                "the self-test score did not increase"
                if self.failed_self_test
                else "the prediction of the highest acquired spatial frequencies did not improve"
            )
            return f"the calibration run was not used, because {reason}"
        correction_text = (
            f" after its position was corrected by {self.displacement_mm:.1f} mm"
            if self.displacement_mm > _REPORTED_MM
            else ""
        )
        clause = f"the calibration run was used with a weight of {self.weight:g}{correction_text}"
        is_full = self.weight == SHARE
        prediction = self.full_prediction if is_full else self.cautious_prediction
        if prediction is None:
            return clause
        percent, baseline_percent = (
            100 * float(np.mean(fractions))
            for fractions in (prediction.with_calibration, prediction.without_calibration)
        )
        return (
            f"{clause}. With the calibration run, {percent:.1f} % of the variance at the "
            f"highest acquired spatial frequencies was predicted, and {baseline_percent:.1f} % "
            "without it"
        )

    @property
    def entries(self) -> dict[str, object]:
        """Entries for the model card."""
        facts: dict[str, object] = {
            "weight": self.weight,
            "position_correction_mm": round(self.displacement_mm, 3),
            "position_correction": np.round(self.correction, 6).tolist(),
        }
        if self.cautious_prediction is None or self.full_prediction is None:
            return facts
        fraction_without = float(np.mean(self.full_prediction.without_calibration))
        return facts | {
            "predicted_without": round(fraction_without, 5),
            "predicted_gain_by_weight": {
                f"{_CAUTIOUS_WEIGHT:g}": round(self.cautious_prediction.gain, 5),
                f"{SHARE:g}": round(self.full_prediction.gain, 5),
            },
            "predicted_gain_error": round(self.cautious_prediction.error, 5),
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
    return CalibrationFit(weight=_CAUTIOUS_WEIGHT, correction=np.eye(4), displacement_mm=0.0)


@dataclass(frozen=True, kw_only=True)
class _Registration:
    """Registration of a calibration as a function of nine parameters.

    The parameters are shifts (3, high-resolution voxels), rotations (3, degrees), in-plane scales
    (2) and shear, along the axes of the slices. All are 0 for the registration between the two
    reference images.

    `band` is the test that predicts the outermost acquired frequencies. `points` are in the brain
    (N, 3; RAS+ mm), `axes` are unit vectors of the voxel axes, as columns (3, 3), and `voxel_size`
    is the high-resolution voxel size (3, mm).
    """

    band: OuterBand
    calibration: CalibrationPatterns
    points: Array
    axes: Array
    voxel_size: Array

    def make_correction(self, params: Array) -> Array:
        """Return the matrix (4 x 4, RAS+ mm) of a rigid motion with in-plane scaling and shear.

        The motion is about the center of the brain.
        """
        inner = _make_rotation(params[3:6]) @ np.array(
            [[1 + params[6], params[8], 0], [0, 1 + params[7], 0], [0, 0, 1.0]]
        )
        center = self.points.mean(0)
        correction = np.eye(4)
        correction[:3, :3] = self.axes @ inner @ np.linalg.inv(self.axes)
        shift = self.axes @ (params[:3] * self.voxel_size)
        correction[:3, 3] = center - correction[:3, :3] @ center + shift
        return correction

    def measure_displacement(self, correction: Array) -> float:
        """Return the displacement by a correction (mm, rms over the points)."""
        return rms_distance(np.eye(4), correction, self.points)

    def predict(self, params: Array, slice_step: int = 1) -> BandPrediction | None:
        """Return the prediction with these parameters on every n-th slice of the test.

        None is returned if the parameters move the calibration too far.
        """
        correction = self.make_correction(params)
        max_displacement = _MAX_SHIFT * float(self.voxel_size[:2].max())
        if self.measure_displacement(correction) > max_displacement:
            return None
        return self.band.predict(self.calibration, correction, slice_step=slice_step)


def fit_calibration(
    band: OuterBand, calibration: CalibrationPatterns, mask: Array, affine: Array
) -> CalibrationFit:
    """Refine the position of a calibration, and determine its weight.

    `band` is the test that predicts the outermost acquired frequencies. `mask` is on the acquired
    grid (x, y, z), and `affine` its voxel-to-world matrix (4 x 4, RAS+ mm). The weight is 0 if the
    calibration does not improve the prediction.
    """
    if not band.tiles:
        return CalibrationFit(weight=0.0, correction=np.eye(4), displacement_mm=0.0)
    registration = _Registration(
        band=band,
        calibration=calibration,
        points=voxel_centers(mask, affine, _POINT_STRIDE),
        axes=affine[:3, :3] / voxel_sizes(affine),
        voxel_size=voxel_sizes(band.highres_affine),
    )
    params, full_prediction = _optimize_params(registration)
    correction = registration.make_correction(params)
    cautious_prediction = band.predict(calibration, correction, _CAUTIOUS_WEIGHT)
    return CalibrationFit(
        weight=_compute_weight(cautious_prediction, full_prediction),
        correction=correction,
        displacement_mm=registration.measure_displacement(correction),
        cautious_prediction=cautious_prediction,
        full_prediction=full_prediction,
    )


def _optimize_params(registration: _Registration) -> tuple[Array, BandPrediction]:
    """Return the parameters with the best prediction, and this prediction.

    Parameters are optimized one after the other, starting from 0.
    """
    params = np.zeros(len(_STEPS))
    prediction = registration.predict(params)
    sparse_prediction = registration.predict(params, _SLICE_STEP)
    assert prediction is not None
    assert sparse_prediction is not None
    for param_numbers, scale in _ROUNDS:
        if scale < 1 and not params.any():
            break  # small steps are not tried if larger steps gave no improvement
        for param_number in param_numbers:
            change = _find_promising_change(
                registration, params, sparse_prediction, param_number, scale * _STEPS[param_number]
            )
            if change is None:
                continue
            changed_params = _change_parameter(params, param_number, change)
            changed_prediction = registration.predict(changed_params)
            if changed_prediction is None or not changed_prediction.exceeds(prediction):
                continue
            params, prediction = changed_params, changed_prediction
            sparse_prediction = registration.predict(params, _SLICE_STEP)
            assert sparse_prediction is not None
    return params, prediction


def _find_promising_change(
    registration: _Registration,
    params: Array,
    prediction: BandPrediction,
    param_number: int,
    step: float,
) -> float | None:
    """Return the change of a parameter that promises a better prediction, or None.

    `param_number` is the number of the parameter, and `prediction` the sparse prediction for the
    unchanged parameters. The gain is approximated by a parabola through this prediction and the
    predictions after a `step` in both directions.
    """
    lower, upper = (
        registration.predict(_change_parameter(params, param_number, change), _SLICE_STEP)
        for change in (-step, step)
    )
    if lower is None or upper is None:
        return None
    slope = (upper.gain - lower.gain) / 2
    curvature = (lower.gain + upper.gain) / 2 - prediction.gain
    if curvature < 0:
        n_steps = float(np.clip(-slope / (2 * curvature), -_MAX_STEPS, _MAX_STEPS))
    else:
        n_steps = float(np.sign(slope))
    promised_gain = slope * n_steps + curvature * n_steps**2
    return n_steps * step if promised_gain > MIN_IMPROVEMENT else None


def _change_parameter(params: Array, param_number: int, change: float) -> Array:
    """Return the parameters with one of them changed."""
    changed_params = params.copy()
    changed_params[param_number] += change
    return changed_params


def _compute_weight(cautious_prediction: BandPrediction, full_prediction: BandPrediction) -> float:
    """Return the share of the prior for a calibration.

    The share is 0 unless the cautious weight improves the prediction by more than chance. It is
    the full weight if this also improves the prediction, otherwise the cautious weight.
    """
    if not cautious_prediction.gain > MIN_STANDARD_ERRORS * cautious_prediction.error:
        return 0.0
    return SHARE if full_prediction.gain > 0 else _CAUTIOUS_WEIGHT


def _make_rotation(degrees: Array) -> Array:
    """Return the matrix of successive rotations about the three axes (3, 3)."""
    total_rotation = np.eye(3)
    for axis, angle in enumerate(degrees):
        cosine, sine = cos(radians(angle)), sin(radians(angle))
        first, second = (plane_axis for plane_axis in range(3) if plane_axis != axis)
        rotation = np.eye(3)
        rotation[first, first] = rotation[second, second] = cosine
        rotation[first, second], rotation[second, first] = -sine, sine
        total_rotation = rotation @ total_rotation
    return total_rotation
