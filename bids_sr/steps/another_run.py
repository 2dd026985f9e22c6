"""Another acquired run of the same task, as a reference for series of other programs.

Its noise is independent of the noise in these series.
"""

import logging
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from bids_sr.config.memory import Need
from bids_sr.evaluation.agreement import agreement_rows
from bids_sr.evaluation.references import make_other_run_reference
from bids_sr.glm.block_effects import block_effects
from bids_sr.glm.confound_table import censor_outliers
from bids_sr.glm.confounds import motion_columns
from bids_sr.glm.design import DesignSettings
from bids_sr.glm.model_confounds import MOTION as MODEL_MOTION
from bids_sr.glm.temporal_regressors import time_column_names
from bids_sr.io.grids import Factor
from bids_sr.io.nifti import SeriesReader, SeriesWriter
from bids_sr.pipeline.artifacts import (
    Confounds,
    Effects,
    Facts,
    File,
    Image,
    Mask,
    Regressors,
    Rows,
    Series,
    Table,
    Transforms,
)
from bids_sr.pipeline.step import HERE, step
from bids_sr.registration.head_comparison import resample_to_reference, signal_ratio
from bids_sr.registration.rigid import rigid
from bids_sr.registration.same_contrast import refine
from bids_sr.run_time import RunTime
from bids_sr.series import ACQUIRED_BAND
from bids_sr.sr.inference.apply_to_series import super_resolve_series
from bids_sr.sr.inference.upsampler_inputs import UpsamplerInputs
from bids_sr.sr.inference.upsamplers import make_upsampler
from bids_sr.steps.evaluation import EffectsComparison, run_effects
from bids_sr.steps.linear_models import DesignInputs
from bids_sr.steps.memory import EFFECTS
from bids_sr.steps.outlier_volumes import reasons_by_volume

_LOGGER = logging.getLogger(__name__)

_MOST_NOTED_RATIO = 1.1  # ratio of the signals of two runs above which a notice names the factor
OTHER_RUN_TEXT = (
    "Below the acquired Nyquist frequency, series from other programs were also compared with a"
    " second acquired run of the same task, which has independent noise. The second run was"
    " corrected for head motion in the same way, its boldref was coregistered to the boldref of"
    " the first run, and its blocks were analyzed with the same model. Explained variance was"
    " computed in voxels that were active in one half of the second run, and corrected for noise"
    " with the covariance between the two halves. "
)
"""Methods text of a run with this reference."""


@step(
    makes="other_effects",
    memory=Need(always=0.1, high=0.6),
    cost=RunTime(always=2.0, volumes=0.5),
)
def measure_other_run(
    stc: Series,
    other_ref: Image,
    head_mask: Mask,
    hmc_xfms: Transforms,
    motion: Table,
    regressors: Regressors,
    boldref: Image,
    bold_mask: Mask,
    bold_mask_hr: Mask,
    here: Path = HERE,
    time_columns: Confounds | None = None,
    outliers: Facts | None = None,
    *,
    factor: Factor,
    n_dummy: int,
    design: DesignSettings,
    random_seed: int,
) -> Effects:
    """Estimate block effects of another run on the high-resolution grid of the evaluated run.

    The effects have the scale of the evaluated run, which is found from the boldrefs.

    Parameters
    ----------
    stc : Series
        Series of the other run; `other_ref`, `head_mask`, `hmc_xfms`, `motion` and `regressors`
        also belong to this run.
    boldref, bold_mask, bold_mask_hr : Image
        Boldref and brain of the evaluated run, which the other run is registered to.
    time_columns : Confounds | None
        Columns of the temporal model of the other run.
    outliers : Facts | None
        Outlier volumes of the other run.
    design : DesignSettings
        Options of the design of the other run.
    """
    import pandas as pd

    fit = rigid(
        boldref,
        other_ref,
        bold_mask.data,
        head_mask.data,
        seed=random_seed,
        prefix=str(here / "other_run"),
    )
    xfm = refine(boldref, other_ref, bold_mask.data, fit.xfm)
    shape, affine = bold_mask_hr.data.shape, bold_mask_hr.affine
    target = here / "other.nii"
    with threadpool_limits(1):
        with SeriesWriter(
            target, (*shape, stc.shape[3]), affine, stc.tr, header_like=stc.header
        ) as writer:
            upsample = make_upsampler(ACQUIRED_BAND, UpsamplerInputs(factor=factor))
            super_resolve_series(
                stc, writer, upsample, hmc_xfms @ xfm, shape, affine, factor=factor
            )
        confounds, _ = censor_outliers(
            pd.DataFrame(motion_columns(motion)), {}, reasons_by_volume(outliers)
        )
        if time_columns is not None:
            confounds = pd.concat([confounds, time_columns], axis=1)
        inputs = DesignInputs(
            regressors=regressors, confounds=confounds, n_dummy=n_dummy, design=design
        )
        blocks = inputs.build_block_design(stc, (*MODEL_MOTION, *time_column_names(confounds)))
        with SeriesReader(target) as resampled:
            effects = block_effects(
                resampled, bold_mask_hr.data, blocks, series=ACQUIRED_BAND, with_t=True
            )
    target.unlink()
    ratio = signal_ratio(
        boldref.data, resample_to_reference(other_ref, boldref, xfm), bold_mask.data
    )
    if max(ratio, 1 / ratio) > _MOST_NOTED_RATIO:
        _LOGGER.warning(
            "The signal of the second run of the task is %.3g times the signal of this run. In the"
            " comparison, its effects are divided by this factor",
            ratio,
        )
    return replace(
        effects,
        betas=effects.betas / np.float32(ratio),
        mean=effects.mean / np.float32(ratio),
        smooth_variance=None
        if effects.smooth_variance is None
        else effects.smooth_variance / np.float32(ratio**2),
    )


@step(makes="other_rows", memory=EFFECTS, cost=RunTime(always=2.0))
def compare_with_other_run(
    effects: dict[str, File],
    other_effects: Effects,
    comparison: EffectsComparison,
    same_widths: Facts,
) -> Rows:
    """Compare series of other programs and the acquired series with another run of the task.

    The comparison is limited to the acquired band. For `same_widths`, see
    `bids_sr.compared_series.steps.match_resolution`.
    """
    run = run_effects(effects, comparison, same_widths)
    with threadpool_limits(1):
        return agreement_rows(run, partial(make_other_run_reference, other_effects=other_effects))
