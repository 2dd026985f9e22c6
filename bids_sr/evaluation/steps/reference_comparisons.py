"""Evaluation of super-resolved series: split halves, whole-run references and single volumes."""

from collections.abc import Mapping, Sequence
from functools import partial
from operator import attrgetter
from pathlib import Path

from threadpoolctl import threadpool_limits

from bids_sr.engine.artifacts import Facts, File, Image, Map, Mask, Rows, Series
from bids_sr.engine.metric_rows import columns_json, with_input_smoothing
from bids_sr.engine.step import HERE, Stage, step
from bids_sr.engine.step_memory import EFFECTS
from bids_sr.evaluation.agreement import agreement_rows
from bids_sr.evaluation.effects_of_run import RunEffects, save_fine_effects
from bids_sr.evaluation.evidence import select_applied, select_compared_rows
from bids_sr.evaluation.reference_maps import reference_map_rows, replace_rows
from bids_sr.evaluation.references import (
    make_half_reference,
    make_known_reference,
    make_map_reference,
    make_other_effects_reference,
)
from bids_sr.evaluation.volume_scores import image_rows, volume_scores
from bids_sr.glm.contrasts import Contrasts
from bids_sr.glm.steps.map_comparison import group_by_smoothing
from bids_sr.io.frozen import frozen
from bids_sr.io.grids import Factor
from bids_sr.io.series import ACQUIRED, MEASURED, get_kind
from bids_sr.spatial.resampling import sample_volume

UNSPLIT_TEXT = (
    "The run had too few blocks for a split-half analysis, so the reproducibility of detail was"
    " not measured. "
)
"""Methods text of a run without split halves, in place of the text of `compare_halves`."""
N_BOOT = 1000
_MAX_VOLUMES = 60  # largest number of evenly spaced volumes for scores of single images


@frozen
class EffectsComparison:
    """Settings of comparisons between series on the high-resolution grid of a run.

    `bold_mask_hr` and `roi_hr` are on the high-resolution grid. `contrasts` are weights of
    conditions, or of seeds, by contrast. `n_boot` is the number of bootstrap resamples of blocks
    for confidence intervals.
    """

    bold_mask_hr: Mask
    roi_hr: Mask
    contrasts: Contrasts
    factor: Factor
    random_seed: int
    n_boot: int = N_BOOT


@step(Stage.EVALUATION, makes="halves_figures", memory=EFFECTS)
def gather_fine_effects(
    effects: dict[str, File], comparison: EffectsComparison, here: Path = HERE
) -> File:
    """Write effects above the acquired Nyquist frequency in every series (.npz), for figures.

    `effects` are files of all series on the high-resolution grid, which are read one at a time.
    """
    run = make_run_effects(effects, comparison)
    with threadpool_limits(1):
        return save_fine_effects(run, here / "fine_effects.npz")


@step(Stage.EVALUATION, makes="split_half", memory=EFFECTS)
def compare_halves(
    effects: dict[str, File],
    comparison: EffectsComparison,
    maps: Sequence[Map] = (),
) -> Rows:
    """Compare effects of one half of the blocks with measured effects of the other half.

    `effects` are the block effects of all series on the high-resolution grid, including
    `measured`, which are read one at a time. t of the acquired series in `maps` selects active
    voxels.
    """
    run = make_run_effects(effects, comparison, maps)
    with threadpool_limits(1):
        return agreement_rows(run, make_half_reference, make_other_effects_reference)


@step(Stage.EVALUATION, makes="truth", memory=EFFECTS)
def compare_with_truth(
    maps: Sequence[Map],
    comparison: EffectsComparison,
    effects: dict[str, File] | None = None,
    truth_maps: dict[str, Image] | None = None,
    *,
    at_rest: bool,
) -> Rows:
    """Compare maps of the whole run with measured maps and known activation.

    `effects` are the block effects of all series, for intervals and metrics above the Nyquist
    frequency, which require complete slices. `truth_maps` are known activation by contrast (signal
    units, as block effects), on any grid in the frame of the mask. If `at_rest`, correlations are
    also compared, because the run has no events.
    """
    known_maps = {name: (image.data, image.affine) for name, image in (truth_maps or {}).items()}
    highres_maps = group_by_smoothing(maps, ("t", "effect", "cc") if at_rest else ("t", "effect"))
    for maps_by_series in highres_maps.values():
        maps_by_series.pop(ACQUIRED, None)
    rows = reference_map_rows(
        highres_maps,
        attrgetter("volume.data"),
        comparison.contrasts,
        grid=comparison.bold_mask_hr,
        roi=comparison.roi_hr.data,
        known=known_maps,
    )
    if not effects:
        return rows
    run = make_run_effects(effects, comparison, maps)
    with threadpool_limits(1):
        effect_rows = agreement_rows(
            run, make_map_reference, partial(make_known_reference, known=known_maps)
        )
    return replace_rows(rows, effect_rows)


def make_run_effects(
    effects: Mapping[str, Path],
    comparison: EffectsComparison,
    maps: Sequence[Map] = (),
) -> RunEffects:
    """Return the effects of all series of a run with the settings of their comparison.

    Unsmoothed t maps of the acquired series among `maps` select active voxels.
    """
    mask = comparison.bold_mask_hr
    unsmoothed_maps = group_by_smoothing(maps, ("t",)).get(0, {})
    return RunEffects(
        files=effects,
        contrasts=comparison.contrasts,
        mask=mask.data,
        affine=mask.affine,
        roi=comparison.roi_hr.data,
        factor=comparison.factor,
        n_boot=comparison.n_boot,
        seed=comparison.random_seed,
        acquired_t={
            contrast: sample_volume(
                t_map.volume.data, t_map.volume.affine, mask.data.shape, mask.affine
            )
            for (contrast, _), t_map in unsmoothed_maps.get(ACQUIRED, {}).items()
        },
    )


def describe_halves(factor: Factor, *, at_rest: bool) -> str:
    """Return methods text of `compare_halves`; `at_rest` is True if the run has no events."""
    blocks = "Segments of the run" if at_rest else "Blocks of each condition"
    return (
        f"{blocks} were split into two halves for cross-validation. The effect in one half was"
        " compared with the effect in the measured high-resolution series in the other half,"
        " averaged over all balanced splits. This comparison was performed"
        f" {_describe_bands(factor)}. Accuracy was"
        " expressed as explained variance, 1 - E|e - T|^2 / E|T|^2, with the true effect T and"
        " the estimated effect e. Explained variance was corrected for noise in the measured"
        " series, which was estimated from the covariance between its halves. Confidence"
        " intervals were computed by resampling blocks, with the same samples for all series. "
    )


def describe_known_activation(factor: Factor) -> str:
    """Return methods text of a comparison with known activation, without a measured series."""
    return (
        "Unsmoothed effects of the whole run were compared with known activation,"
        f" {_describe_bands(factor)}. Confidence intervals were computed by resampling blocks,"
        " with the same samples for all series. "
    )


def _describe_bands(factor: Factor) -> str:
    """Return the spatial frequencies of a comparison in words."""
    if factor[2] == 1:
        return (
            "both for all in-plane spatial frequencies and for detail, the frequencies at or above"
            " the Nyquist frequency of the acquired voxels"
        )
    return (
        "both for all spatial frequencies and for detail, the frequencies at or above the Nyquist"
        " frequency of the acquired voxels, in plane (Fourier transform) or across slices"
        " (discrete cosine transform)"
    )


@step(Stage.EVALUATION, makes="truth_images", memory=EFFECTS)
def compare_images(
    series: dict[str, Series],
    bold_mask_hr: Mask,
    *,
    n_dummy: int,
    random_seed: int,
    n_boot: int = N_BOOT,
) -> Rows:
    """Compare single volumes of baselines and methods with measured volumes.

    The metrics are PSNR and SSIM inside the brain.
    """
    compared_series = {
        name: reader for name, reader in series.items() if get_kind(name) in ("baseline", "method")
    }
    scores = volume_scores(
        compared_series,
        series[MEASURED],
        bold_mask_hr.data,
        n_dummy=n_dummy,
        max_volumes=_MAX_VOLUMES,
    )
    return image_rows(scores, seed=random_seed, n_boot=n_boot)


@step(Stage.EVALUATION, makes=("evaluation", "evaluation_columns"), small=True)
def join_evaluation(
    rows: list[Rows], verdict_rows: Rows, *, input_smoothing: float
) -> tuple[Rows, Facts]:
    """Combine all rows of a run's evaluation in one table.

    The verdict does not depend on rows that it does not require and is therefore available
    earlier.

    `rows` are tables in the order of the result; `verdict_rows`, with flags, follow.
    `input_smoothing` is the smoothing of the acquired volumes (FWHM, mm). Returns all rows,
    without comparisons with methods that were not applied; and descriptions of the columns.
    """
    all_rows = [row for table in [*rows, verdict_rows] for row in table]
    compared_rows = select_compared_rows(all_rows, select_applied(verdict_rows, applied=False))
    return (
        with_input_smoothing(compared_rows, input_smoothing),
        columns_json(row.statistic for row in compared_rows),
    )
