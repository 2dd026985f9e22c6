"""Another acquired run of the same task, as a reference for series of other programs.

Its noise is independent of the noise in these series.
"""

import logging
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from bids_sr.engine.artifacts import Confounds, Facts, File, Image, Mask, Rows, Series, Table
from bids_sr.engine.memory import Need
from bids_sr.engine.step import HERE, Stage, step
from bids_sr.engine.step_memory import EFFECTS
from bids_sr.evaluation.agreement import agreement_rows
from bids_sr.evaluation.references import make_other_run_reference
from bids_sr.evaluation.steps.reference_comparisons import EffectsComparison, make_run_effects
from bids_sr.glm.block_effects import Effects, block_effects
from bids_sr.glm.design import DesignSettings
from bids_sr.glm.regressors import Regressors
from bids_sr.glm.steps.linear_models import DesignInputs
from bids_sr.io.confound_names import MOTION_REGRESSORS
from bids_sr.io.nifti import SeriesReader
from bids_sr.io.run_time import RunTime
from bids_sr.io.series import ACQUIRED_BAND
from bids_sr.preproc.ants import AntsOptions
from bids_sr.preproc.confound_table import censor_outliers
from bids_sr.preproc.head_comparison import resample_with_field_of_view, signal_ratio
from bids_sr.preproc.head_motion import motion_columns
from bids_sr.preproc.rigid import register_rigid
from bids_sr.preproc.same_contrast import refine
from bids_sr.preproc.steps.aligned_series import RunBrain
from bids_sr.preproc.steps.outlier_volumes import add_alternation, reasons_by_volume
from bids_sr.preproc.temporal_regressors import time_column_names
from bids_sr.spatial.itk_files import Transforms
from bids_sr.sr.inference.apply_to_series import write_series
from bids_sr.sr.inference.upsampler_inputs import UpsamplerInputs
from bids_sr.sr.inference.upsamplers import make_upsampler

_LOGGER = logging.getLogger(__name__)

_MAX_SIGNAL_RATIO = 1.1  # ratio of the signals of two runs above which a warning is logged
OTHER_RUN_TEXT = (
    "Without their detail, series from other programs were also compared with a"
    " second acquired run of the same task, which has independent noise. The second run was"
    " corrected for head motion in the same way, its boldref was coregistered to the boldref of"
    " the first run, and its blocks were analyzed with the same model. Explained variance was"
    " computed in voxels that were active in one half of the second run, and corrected for noise"
    " with the covariance between the two halves. "
)
"""Methods text of a run with this reference."""


@step(
    Stage.OTHER_PROGRAMS,
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
    brain: RunBrain,
    here: Path = HERE,
    time_columns: Confounds | None = None,
    outliers: Facts | None = None,
    *,
    n_dummy: int,
    design: DesignSettings,
    random_seed: int,
) -> Effects:
    """Estimate block effects of another run on the high-resolution grid of the evaluated run.

    The effects are scaled to the signal of the evaluated run, with the ratio of the boldrefs.

    `other_ref` is the boldref of the other run. This run also has `stc`, `head_mask`, `hmc_xfms`,
    `motion`, `regressors`, `outliers` and `design`, and `time_columns` are the columns of its
    temporal model. `brain` is of the evaluated run, which the other run is registered to.
    """
    boldref, bold_mask, bold_mask_hr = brain.boldref, brain.bold_mask, brain.bold_mask_hr
    registration = register_rigid(
        boldref,
        other_ref,
        bold_mask.data,
        head_mask.data,
        AntsOptions(seed=random_seed, prefix=str(here / "other_run")),
    )
    xfm = refine(boldref, other_ref, bold_mask.data, registration.xfm)
    censored = censor_outliers(motion_columns(motion), {}, reasons_by_volume(outliers))
    confounds, _ = add_alternation(*censored, outliers)
    inputs = DesignInputs(
        regressors=regressors,
        confounds=pd.concat([confounds, time_columns], axis=1),
        n_dummy=n_dummy,
        design=design,
    )
    resampled_file = here / "other.nii"
    write_series(
        stc,
        resampled_file,
        make_upsampler(ACQUIRED_BAND, UpsamplerInputs(factor=brain.factor)),
        hmc_xfms @ xfm,
        bold_mask_hr.data.shape,
        bold_mask_hr.affine,
        factor=brain.factor,
    )
    with threadpool_limits(1), SeriesReader(resampled_file) as resampled:
        blocks = inputs.build_block_design(
            stc, (*MOTION_REGRESSORS, *time_column_names(inputs.confounds))
        )
        effects = block_effects(
            resampled, bold_mask_hr.data, blocks, series=ACQUIRED_BAND, with_t=True
        )
    resampled_file.unlink()
    ratio = signal_ratio(
        boldref.data, resample_with_field_of_view(other_ref, boldref, xfm), bold_mask.data
    )
    return _scale_effects(effects, ratio)


def _scale_effects(effects: Effects, ratio: float) -> Effects:
    """Divide the effects of the other run by the ratio of the two runs' signals."""
    if max(ratio, 1 / ratio) > _MAX_SIGNAL_RATIO:
        _LOGGER.warning(
            "The signal of the second run of the task is %.3g times the signal of this run. In the"
            " comparison, its effects are divided by this factor",
            ratio,
        )
    variance = effects.smooth_variance
    return replace(
        effects,
        betas=effects.betas / np.float32(ratio),
        mean=effects.mean / np.float32(ratio),
        smooth_variance=None if variance is None else variance / np.float32(ratio**2),
    )


@step(Stage.OTHER_PROGRAMS, makes="other_rows", memory=EFFECTS, cost=RunTime(always=2.0))
def compare_with_other_run(
    effects: dict[str, File],
    other_effects: Effects,
    comparison: EffectsComparison,
    same_widths: Facts,
) -> Rows:
    """Compare series of other programs and the acquired series with another run of the task.

    The comparison is limited to the acquired band. For `same_widths`, see
    `bids_sr.evaluation.compared_series.steps.match_resolution`.
    """
    run = make_run_effects(effects, comparison, same_widths)
    with threadpool_limits(1):
        return agreement_rows(run, partial(make_other_run_reference, other_effects=other_effects))
