"""Effects of the task blocks of a series, the basis of the evaluation."""

from dataclasses import replace
from pathlib import Path

from threadpoolctl import threadpool_limits

from bids_sr.engine.artifacts import File
from bids_sr.engine.step import HERE, Stage, step
from bids_sr.engine.step_memory import EFFECTS
from bids_sr.glm.block_effects import block_effects
from bids_sr.glm.blocks import block_design
from bids_sr.glm.design import DesignSettings
from bids_sr.glm.regressors import Regressors
from bids_sr.glm.steps.linear_models import DesignInputs
from bids_sr.glm.steps.mapped_series import MaskedSeries
from bids_sr.io.confound_names import MOTION_REGRESSORS
from bids_sr.io.series import MEASURED, PCA_RANKS
from bids_sr.preproc.temporal_regressors import time_column_names


@step(Stage.EVALUATION, makes="effects", memory=EFFECTS)
def measure_effects(
    masked: MaskedSeries,
    inputs: DesignInputs,
    here: Path = HERE,
    *,
    has_measured: bool,
) -> File:
    """Estimate the effects of every block of a run in one series, for complete slices.

    The model has head motion, its derivatives and the columns of the temporal model. Steps that
    compare series read the files one at a time.

    The first of the series' own regressors replaces the regressors of the run. `has_measured`
    states whether the run has a measured series; temporal components are then computed for
    controls of the B-spline series.
    """
    series, series_name, own = masked.series, masked.series_name, masked.own_regressors
    series_inputs = replace(inputs, regressors=own[0]) if own else inputs
    design = series_inputs.build_block_design(
        series, (*MOTION_REGRESSORS, *time_column_names(inputs.confounds))
    )
    with threadpool_limits(1):
        effects = block_effects(
            series,
            masked.mask.data,
            design,
            series=series_name,
            with_t=series_name == MEASURED,
            pca_ranks=PCA_RANKS if has_measured and series_name == "bspline" else (),
            scratch=here,
        )
    return effects.save(here / "effects")


def check_blocks(
    regressors: Regressors, design: DesignSettings, n_volumes: int, tr: float, *, n_dummy: int
) -> None:
    """Raise `TooFewBlocks` if no condition has two blocks in the volumes that are fitted."""
    block_design(regressors, design, n_volumes=n_volumes, tr=tr, n_dummy=n_dummy)
