"""Effects of the task blocks of a series, the basis of the evaluation."""

from collections.abc import Sequence
from pathlib import Path

from threadpoolctl import threadpool_limits

from bids_sr.glm.block_effects import block_effects, save_effects
from bids_sr.glm.blocks import block_design
from bids_sr.glm.model_confounds import MOTION
from bids_sr.glm.time_columns import time_column_names
from bids_sr.pipeline.artifacts import Confounds, File, Mask, Regressors, Series
from bids_sr.pipeline.step import HERE, step
from bids_sr.series import MEASURED, PCA_RANKS
from bids_sr.sr.method import Cost
from bids_sr.steps.memory import EFFECTS


@step(makes="effects", memory=EFFECTS, cost=Cost(always=0.1, volumes=0.008))
def measure_effects(
    series: Series,
    mask: Mask,
    regressors: Regressors,
    here: Path = HERE,
    confounds: Confounds | None = None,
    own_regressors: Sequence[Regressors] = (),
    *,
    series_name: str,
    tr: float,
    n_dummy: int,
    high_pass: float,
    start_time: float,
    has_measured: bool,
    effect_confounds: Sequence[str] = MOTION,
) -> File:
    """Estimate the effects of every block of a run in one series, for complete slices.

    Steps that compare series read the files one at a time.

    Parameters
    ----------
    series, mask : Series
        Series in BOLD signal units, including dummies, and brain on its grid.
    own_regressors : Sequence[Regressors]
        Seed time series of this series, one per smoothing width of the maps; the first replaces
        `regressors`.
    start_time : float
        Reference time of a volume (s after its start).
    has_measured : bool
        Whether the run has a measured series; temporal components are then computed for controls
        of the B-spline series.
    effect_confounds : Sequence[str]
        Names of confounds, in addition to columns of the temporal model; by default head motion
        and its derivatives.
    """
    design = block_design(
        own_regressors[0] if own_regressors else regressors,
        n_volumes=series.shape[3],
        tr=tr,
        n_dummy=n_dummy,
        high_pass=high_pass,
        start_time=start_time,
        confounds=confounds,
        confound_names=(*effect_confounds, *time_column_names(confounds)),
    )
    with threadpool_limits(1):
        effects = block_effects(
            series,
            mask.data,
            design,
            series=series_name,
            with_t=series_name == MEASURED,
            pca_ranks=PCA_RANKS if has_measured and series_name == "bspline" else (),
            scratch=here,
        )
    return save_effects(effects, here / "effects.npz")


def check_blocks(regressors: Regressors, n_volumes: int, tr: float, high_pass: float) -> None:
    """Raise `TooFewBlocks` if no condition has two blocks inside a run."""
    block_design(regressors, n_volumes=n_volumes, tr=tr, high_pass=high_pass)
