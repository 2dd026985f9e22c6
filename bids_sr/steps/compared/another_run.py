"""Steps of another acquired run of the same task, a reference for series of other programs.

Its noise is independent of theirs.
"""

from functools import partial
from pathlib import Path

from threadpoolctl import threadpool_limits

from bids_sr.config.memory_model import EFFECTS, Need
from bids_sr.evaluation.agreement import agreement_rows
from bids_sr.evaluation.references import another_run
from bids_sr.glm.block_effects import block_effects, load_effects
from bids_sr.glm.blocks import block_design
from bids_sr.glm.confounds import motion_columns
from bids_sr.io.nifti import SeriesReader, SeriesWriter
from bids_sr.pipeline.artifacts import (
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
from bids_sr.pipeline.step import Part, step
from bids_sr.registration.rigid import refine, rigid
from bids_sr.series import ACQUIRED_BAND
from bids_sr.sr.inference.acquired import UpsamplerInputs
from bids_sr.sr.inference.apply_to_series import make_upsampler, super_resolve_series
from bids_sr.sr.method import Cost
from bids_sr.steps.activation import Contrasts, Factor
from bids_sr.steps.evaluation import N_BOOT, run_effects

_OTHER_RUN_TEXT = (
    "Within the acquired band, series of other programs were also held against another acquired"
    " run of the same task, whose noise is its own: its head motion was estimated and undone in"
    " the same way, its reference was registered to that of the run, and its blocks were modeled"
    " alike. Explained variance of its effect was corrected for its noise by the covariance of its"
    " halves, in voxels that the other half shows to be active. "
)
"""Methods text of a run with such a reference."""


@step(
    makes="other_effects",
    memory=Need(always=0.1, high=0.6),
    part=Part.EVALUATION,
    text=_OTHER_RUN_TEXT,
    cost=Cost(always=2.0, volumes=0.5),
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
    here: Path,
    *,
    factor: Factor,
    tr: float,
    n_dummy: int,
    high_pass: float,
    slice_time_ref: float,
    has_stc: bool,
    random_seed: int,
) -> Effects:
    """Effect of every block of another run, on the high-resolution grid of the run under test.

    `slice_time_ref`: moment within a TR (0 to 1) to which slice timing was corrected.
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
    onto = refine(boldref, other_ref, bold_mask.data, fit.xfm)
    shape, affine = bold_mask_hr.data.shape, bold_mask_hr.affine
    target = here / "other.nii"
    with threadpool_limits(1):
        with SeriesWriter(
            target, (*shape, stc.shape[3]), affine, stc.tr, header_like=stc.header
        ) as writer:
            upsample = make_upsampler(ACQUIRED_BAND, UpsamplerInputs(factor=factor))
            super_resolve_series(
                stc, writer, upsample, hmc_xfms @ onto, shape, affine, factor=factor
            )
        design = block_design(
            regressors,
            n_volumes=stc.shape[3],
            tr=tr,
            n_dummy=n_dummy,
            high_pass=high_pass,
            slice_time_ref=slice_time_ref,
            has_stc=has_stc,
            confounds=pd.DataFrame(motion_columns(motion)),
        )
        with SeriesReader(target) as placed:
            found = block_effects(
                placed, bold_mask_hr.data, design, series=ACQUIRED_BAND, with_t=True
            )
    target.unlink()
    return found


@step(makes="other_rows", memory=EFFECTS, cost=Cost(always=2.0))
def compare_with_other_run(
    effects: dict[str, File],
    other_effects: File,
    bold_mask_hr: Mask,
    roi_hr: Mask,
    same_widths: Facts,
    *,
    contrasts: Contrasts,
    factor: Factor,
    random_seed: int,
    n_boot: int = N_BOOT,
) -> Rows:
    """Compare other programs' series and the acquired one with another acquired run.

    The comparison is within the acquired band.

    `same_widths`: see `bids_sr.steps.compared.comparing.match_resolution`.
    """
    run = run_effects(
        effects, bold_mask_hr, roi_hr, same_widths, contrasts, factor, n_boot, random_seed
    )
    with threadpool_limits(1):
        return agreement_rows(run, partial(another_run, other=load_effects(other_effects)))
