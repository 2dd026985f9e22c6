"""Growth of the region of interest into activation of the acquired series."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bids_sr.engine.artifacts import Facts, Mask, Series, Volume
from bids_sr.engine.step import HERE, Stage, step
from bids_sr.engine.step_memory import MAPS
from bids_sr.glm.activation_maps import ActivationSettings, map_activation
from bids_sr.glm.contrasts import Contrasts, single_conditions
from bids_sr.glm.region_growth import REACH_MM, grow_roi, transfer_growth
from bids_sr.glm.steps.linear_models import DesignInputs, LinearModel
from bids_sr.preproc.steps.aligned_series import BrainMasks


@step(Stage.EVALUATION, makes=("roi", "roi_hr", "grown_facts"), memory=MAPS)
def grow_region(
    preproc: Series,
    brain: BrainMasks,
    roi_bold: Mask,
    roi_bold_hr: Mask,
    inputs: DesignInputs,
    here: Path = HERE,
    *,
    contrasts: Contrasts,
    smoothing: Sequence[float],
    low_pass: float | None,
) -> tuple[Mask, Mask, Facts]:
    """Grow the region of interest into activation of the acquired series that its border cuts.

    The criterion is the correlation at the largest smoothing width, for conditions against rest.

    `preproc` is motion-corrected. `roi_bold` is on the acquired grid, and `roi_bold_hr` on the
    high-resolution grid. Only the columns of the temporal
    model are used of the confounds. The largest width in `smoothing` (FWHM, mm) is used.
    `low_pass` is the cut-off of the low-pass filter (Hz); None disables the filter.

    Returns the grown region on the acquired and on the high-resolution grid; and number of voxels
    added on the acquired grid, correlation threshold and largest distance (mm).
    """
    # an empty selection of confounds includes the columns of the temporal model
    model = LinearModel(inputs=inputs, contrasts=contrasts, nuisance=[])
    (fit,) = map_activation(
        preproc,
        brain.bold_mask.data,
        {max(smoothing): model.build_design(preproc)},
        model.mapped_contrasts,
        ActivationSettings(kinds=("cc",), low_pass=low_pass),
        scratch=here,
    ).values()
    conditions = select_contrasts(model.mapped_contrasts)
    highest_correlation = np.max([fit.maps[name, "cc"] for name in conditions], axis=0)
    try:
        grown_roi, threshold = grow_roi(
            roi_bold.data, highest_correlation, brain.bold_mask.data, roi_bold.affine
        )
    except ValueError as error:
        raise ValueError(
            f"region of interest: {error}; check the registration, or specify another"
            " region with --roi"
        ) from error
    added_voxels = grown_roi & ~roi_bold.data
    mask_hr, affine_hr = brain.bold_mask_hr.data, roi_bold_hr.affine
    grown_roi_hr = transfer_growth(
        added_voxels, roi_bold.affine, roi_bold_hr.data, mask_hr, affine_hr
    )
    facts = {
        "roi_grown_voxels": int(added_voxels.sum()),
        "roi_grown_level": round(threshold, 3),
        "roi_grown_max_mm": REACH_MM,
    }
    return Volume(grown_roi, roi_bold.affine), Volume(grown_roi_hr, affine_hr), facts


def select_contrasts(contrasts: Contrasts) -> list[str]:
    """Return the conditions against rest, or all contrasts if there are none."""
    return single_conditions(contrasts) or list(contrasts)


def describe_growth(smoothing: Sequence[float]) -> str:
    """Return methods text of the region's growth; `smoothing` are widths of maps (FWHM, mm)."""
    return (
        f"The region of interest was extended by up to {REACH_MM:g} mm into adjacent voxels if the"
        f" correlation between the acquired series (smoothed by {max(smoothing):g} mm"
        " FWHM) and the task was at least .5 and in the upper quarter of the range of"
        " correlations in the region and its surroundings. The extended region was used for all"
        " series.\n"
    )
