"""Confounds of a run: head motion, tissue signals and CompCor."""

from bids_sr.engine.artifacts import Confounds, Facts, Image, Series, Table
from bids_sr.engine.step import Stage, step
from bids_sr.io.frozen import frozen
from bids_sr.preproc import confound_table
from bids_sr.preproc.head_motion import motion_columns
from bids_sr.preproc.steps.aligned_series import PosedBrain
from bids_sr.preproc.steps.outlier_volumes import add_alternation, reasons_by_volume


@frozen
class ConfoundSettings:
    """Settings of the confounds of a run.

    A volume above `fd_spike_threshold` (framewise displacement, mm) or `dvars_spike_threshold`
    (standardized DVARS) is a motion outlier. Without `return_all_components`, the first CompCor
    components that explain half of the variance are included.
    """

    fd_spike_threshold: float
    dvars_spike_threshold: float
    return_all_components: bool


@step(Stage.HEAD_MOTION, makes="confounds")
def motion_confounds(
    motion: Table, known_confounds: Confounds | None = None, outliers: Facts | None = None
) -> Confounds:
    """Return confounds of head motion, for a run without a complete confounds table.

    `known_confounds` are columns that replace these columns or are added. `outliers` are outlier
    volumes of the run, which get a column each. The table has motion parameters, their backward
    differences and framewise displacement, one row per volume.
    """
    table = motion_columns(motion)
    if known_confounds is not None:
        table = table.assign(**dict(known_confounds.items()))
    censored = confound_table.censor_outliers(table, {}, reasons_by_volume(outliers))
    return add_alternation(*censored, outliers)[0]


@step(Stage.HEAD_MOTION, makes=("confounds", "confounds_columns"))
def gather_confounds(
    preproc: Series,
    run: PosedBrain,
    motion: Table,
    tpms_bold: list[Image] | None = None,
    registration: Facts | None = None,
    *,
    n_dummy: int,
    settings: ConfoundSettings,
) -> tuple[Confounds, Facts]:
    """Compute motion, tissue-signal and CompCor confounds, named and described as in fMRIPrep.

    `preproc` is motion-corrected (uncompressed). `motion` has six parameters (mm, rad) and the
    residual, one row per volume. `tpms_bold` are tissue probabilities on the acquired grid; None
    if there is no T1w image. They are not used if, according to `registration`, the brain mask of
    the T1w image is implausible.

    Returns confounds, one row per volume; and description and unit of each column.
    """
    is_implausible = bool(registration and registration.get("brain_doubts"))
    tpms = [] if is_implausible else [probability.data for probability in tpms_bold or ()]
    confounds = confound_table.build_confound_table(
        preproc,
        run.bold_mask.data,
        motion,
        run.hmc_xfms,
        tpms=tpms or None,
        n_dummy=n_dummy,
        fd_mm=settings.fd_spike_threshold,
        std_dvars=settings.dvars_spike_threshold,
        all_components=settings.return_all_components,
        outliers=reasons_by_volume(run.outliers),
    )
    table, descriptions = add_alternation(*confounds, run.outliers)
    if tpms:
        return table, descriptions
    reason = (
        "the brain mask of the T1w image is implausible"
        if is_implausible
        else "there is no T1w image"
    )
    omission_text = (
        "The single-tissue columns (csf, white_matter, csf_wm, a_comp_cor, w_comp_cor,"
        f" c_comp_cor) are omitted because {reason}. Denoising strategies that require these"
        " columns cannot be used for this run."
    )
    return table, {"Description": omission_text, **descriptions}
