"""Evaluation of finer series: effects of blocks, split halves, measured and known truth."""

import math
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from threadpoolctl import threadpool_limits

from bids_sr.evaluation.agreement import agreement_rows
from bids_sr.evaluation.effects_of_run import RunEffects, save_fine_effects
from bids_sr.evaluation.evidence import compared_rows
from bids_sr.evaluation.reference_maps import replaced, truth_rows
from bids_sr.evaluation.references import known_activation, measured_halves, measured_map
from bids_sr.evaluation.self_test import TESTED
from bids_sr.evaluation.volume_scores import image_rows, volume_scores
from bids_sr.glm.block_effects import block_effects, save_effects
from bids_sr.glm.blocks import block_design
from bids_sr.glm.contrasts import Contrasts
from bids_sr.glm.model_confounds import MOTION
from bids_sr.glm.time_columns import time_column_names
from bids_sr.io.grids import Factor, mm_text, size_text
from bids_sr.metrics.rows import MetricRow, columns_json
from bids_sr.pipeline.artifacts import (
    Confounds,
    Facts,
    File,
    Image,
    Map,
    Mask,
    Regressors,
    Rows,
    Series,
)
from bids_sr.pipeline.step import HERE, step
from bids_sr.series import MEASURED, PAIR_BASELINES, PCA_RANKS, RAW, kind_of
from bids_sr.spatial.resampling import sample_volume
from bids_sr.sr.method import Cost
from bids_sr.steps.activation import by_smoothing
from bids_sr.steps.memory import EFFECTS

UNSPLIT = (
    "The run had too few blocks for a split-half analysis, so the reproducibility of detail was"
    " not measured. "
)
"""Methods text of a run in the place of that of `compare_halves`."""
ONE_LEVEL_DOWN = (
    "Methods that estimate variance maps were also tested without a high-resolution reference"
    " (self-test). For this test, the acquired volumes were downsampled by the super-resolution"
    " factor, super-resolved to the acquired resolution and compared with the original volumes."
    " The self-test score is the reduction in squared error relative to zero filling, with a"
    " confidence interval from segments of the run. "
)
"""Methods text of a run with a method that estimates variances."""
N_BOOT = 1000
_MOST_VOLUMES = 60
"""Evenly spaced volumes of which single images are scored, at most."""


@step(makes="effects", memory=EFFECTS, cost=Cost(always=0.1, volumes=0.008))
def measure_effects(
    series: Series,
    mask: Mask,
    regressors: Regressors,
    here: Path = HERE,
    confounds: Confounds | None = None,
    *,
    series_name: str,
    tr: float,
    n_dummy: int,
    high_pass: float,
    start_time: float,
    has_measured: bool,
    effect_confounds: Sequence[str] = MOTION,
) -> File:
    """Return the file of the effects of every block of a run in one series, whole slices.

    Steps that compare series read the files one at a time.

    `series, mask`: in BOLD signal units, dummies included; brain on its grid. `start_time`: moment
    of a volume for which its values hold (s after its start). `has_measured`: whether the run has
    a measured series, which controls of the B-spline one are held against. `effect_confounds`:
    names of confounds, besides the columns of the temporal model; head motion and its derivatives.
    """
    design = block_design(
        regressors,
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
    """Raise `TooFewBlocks` where no condition has two blocks inside a run."""
    block_design(regressors, n_volumes=n_volumes, tr=tr, high_pass=high_pass)


def widths_of(same_widths: Mapping[str, object] | None) -> dict[str, float]:
    """Smoothing (mm) by the name of a compared series; empty where there is none.

    `same_widths`: the same (FWHM, mm), with None for unknown ones, which become NaN.
    """
    return {
        name: math.nan if width is None else float(str(width))
        for name, width in (same_widths or {}).items()
    }


def run_effects(
    effects: Mapping[str, Path],
    mask: Mask,
    roi: Mask,
    same_widths: Mapping[str, object] | None,
    contrasts: Contrasts,
    factor: Factor,
    n_boot: int,
    seed: int,
    maps: Sequence[Map] = (),
) -> RunEffects:
    """Return effects of all series of a run and how they are compared, from what steps are given.

    `same_widths`: smoothing (FWHM, mm) by compared series; None in it for unknown ones.
    """
    return RunEffects(
        files=effects,
        contrasts=contrasts,
        mask=mask.data,
        affine=mask.affine,
        roi=roi.data,
        factor=factor,
        n_boot=n_boot,
        seed=seed,
        acquired_t={
            contrast: sample_volume(
                each.volume.data, each.volume.affine, mask.data.shape, mask.affine
            )
            for (contrast, _), each in by_smoothing(maps, ("t",)).get(0, {}).get(RAW, {}).items()
        },
        same_widths=widths_of(same_widths),
    )


@step(makes="halves_figures", memory=EFFECTS)
def gather_fine_effects(
    effects: dict[str, File],
    bold_mask_hr: Mask,
    roi_hr: Mask,
    here: Path = HERE,
    *,
    contrasts: Contrasts,
    factor: Factor,
) -> File:
    """Return effects beyond the acquired Nyquist limit in every series (.npz), for the figures.

    `effects`: of all series on the high-resolution grid; they are read one at a time.
    """
    run = run_effects(effects, bold_mask_hr, roi_hr, None, contrasts, factor, 0, 0)
    with threadpool_limits(1):
        return save_fine_effects(run, here / "fine_effects.npz")


def _bands_text(factor: Factor) -> str:
    """Return the spatial frequencies of a comparison in words."""
    if factor[2] == 1:
        return (
            "both for all in-plane spatial frequencies and for frequencies at or above the"
            " acquired Nyquist frequency"
        )
    return (
        "both for all spatial frequencies and for frequencies at or above the acquired Nyquist"
        " frequency, in plane (Fourier transform) or across slices (discrete cosine transform)"
    )


def describe_halves(factor: Factor, *, at_rest: bool) -> str:
    """Return methods text of `compare_halves`; `at_rest`: whether the run has no events."""
    blocks = "Segments of the run" if at_rest else "Blocks of each condition"
    return (
        f"{blocks} were split into two halves for cross-validation. The effect in one half was"
        " compared with the effect in the measured high-resolution series in the other half, and"
        f" vice versa. This comparison was performed {_bands_text(factor)}. Accuracy was"
        " expressed as explained variance, 1 - E|e - T|^2 / E|T|^2, with the true effect T and"
        " the estimated effect e. Explained variance was corrected for noise in the measured"
        " series, which was estimated from the covariance between its halves. Confidence"
        " intervals were computed by resampling blocks, with the same samples for all series. "
    )


@step(makes="split_half", memory=EFFECTS, cost=Cost(always=2.5))
def compare_halves(
    effects: dict[str, File],
    bold_mask_hr: Mask,
    roi_hr: Mask,
    maps: Sequence[Map] = (),
    same_widths: Facts | None = None,
    *,
    contrasts: Contrasts,
    factor: Factor,
    random_seed: int,
    n_boot: int = N_BOOT,
) -> Rows:
    """Return effects of one half of the blocks against the measured effects of the other half.

    `effects`: of all series on the high-resolution grid, `measured` among them; they are read one
    at a time. `same_widths`: smoothing (mm) that gives the acquired series the smoothness of those
    of other programs, by name.
    """
    run = run_effects(
        effects, bold_mask_hr, roi_hr, same_widths, contrasts, factor, n_boot, random_seed, maps
    )
    with threadpool_limits(1):
        return agreement_rows(run, measured_halves)


def describe_known_activation(factor: Factor) -> str:
    """Return methods text of a run whose activation is known, without a measured series."""
    return (
        "Unsmoothed effects of the whole run were compared with known activation,"
        f" {_bands_text(factor)}. Confidence intervals were computed by resampling blocks, with"
        " the same samples for all series. "
    )


@step(makes="truth", memory=EFFECTS, cost=Cost(always=1.2, low=29.0))
def compare_with_truth(
    maps: Sequence[Map],
    bold_mask_hr: Mask,
    roi_hr: Mask,
    effects: dict[str, File] | None = None,
    truth_maps: dict[str, Image] | None = None,
    same_widths: Facts | None = None,
    *,
    contrasts: Contrasts,
    factor: Factor,
    at_rest: bool,
    random_seed: int,
    n_boot: int = N_BOOT,
) -> Rows:
    """Compare maps of the whole run with measured ones and with known activation.

    `effects`: of all series, for figures beyond Nyquist and intervals: the finest band needs whole
    slices. `truth_maps`: known activation by contrast, on any grid in the frame of the mask.
    """
    known = {name: (each.data, each.affine) for name, each in (truth_maps or {}).items()}
    found = by_smoothing(maps, ("t", "effect", "cc") if at_rest else ("t", "effect"))
    finer = {
        width: {name: own[name] for name in own if name != RAW} for width, own in found.items()
    }
    rows = truth_rows(
        finer,
        lambda each: each.volume.data,
        contrasts,
        grid=bold_mask_hr,
        roi=roi_hr.data,
        known=known,
    )
    if not effects:
        return rows
    run = run_effects(
        effects, bold_mask_hr, roi_hr, same_widths, contrasts, factor, n_boot, random_seed, maps
    )
    with threadpool_limits(1):
        return replaced(
            rows, agreement_rows(run, measured_map, partial(known_activation, known=known))
        )


@step(makes="truth_images", memory=EFFECTS, cost=Cost(always=3.5))
def compare_images(
    series: dict[str, Series],
    bold_mask_hr: Mask,
    *,
    n_dummy: int,
    random_seed: int,
    n_boot: int = N_BOOT,
) -> Rows:
    """Compare single volumes of baselines and methods with the measured ones.

    The metrics are PSNR and SSIM inside the brain.
    """
    readers = {
        name: one for name, one in series.items() if kind_of(name) in ("baseline", "method")
    }
    scores = volume_scores(
        readers, series[MEASURED], bold_mask_hr.data, n_dummy=n_dummy, max_volumes=_MOST_VOLUMES
    )
    return image_rows(scores, seed=random_seed, n_boot=n_boot)


@step(makes=("tested_shares", "one_level_down"), small=True)
def gather_tested(
    tested: Sequence[Facts] = (),
    *,
    series_names: Sequence[str],
    network_names: Sequence[str],
    voxel: tuple[float, float, float],
    factor: Factor,
) -> tuple[Rows, Facts]:
    """Gather what the series explain of their own run one level of resolution down.

    It is also told why some series were not tried.

    Rows of the evaluation, and shares with intervals, or the reason why there is none, by series;
    zero filling is 0.
    """
    tried = {
        name: each for table in tested for name, each in table.items() if isinstance(each, dict)
    }
    names = [name for name in series_names if name != "zerofill"]
    by_name = {
        name: tried.get(name) or {"reason": _why_not(name, network_names, voxel, factor)}
        for name in names
    }
    known = {name: each for name, each in by_name.items() if "share" in each}
    facts = {
        "from_mm": [round(mm * f, 4) for mm, f in zip(voxel, factor, strict=True)],
        "to_mm": [round(mm, 4) for mm in voxel],
        "stretches": max((each["stretches"] for each in known.values()), default=0),
        "stretch_volumes": max((each["stretch_volumes"] for each in known.values()), default=0),
        "calibrated": any(each.get("calibrated", False) for each in known.values()),
        "thermal_noise": max((each.get("thermal_noise", 0) for each in known.values()), default=0),
        "series": {
            name: {
                key: value
                for key, value in each.items()
                if key not in ("stretches", "stretch_volumes", "thermal_noise")
            }
            for name, each in by_name.items()
        },
    }
    nothing = float("nan")
    rows = [
        MetricRow(
            series=name,
            statistic=TESTED,
            reference="oneLevelDown",
            value=each["share"],
            region="brain",
            lower=each.get("lower", nothing),
            upper=each.get("upper", nothing),
            n=each["stretches"] or None,
        )
        for name, each in known.items()
    ]
    return rows, facts


def _why_not(
    name: str, networks: Sequence[str], voxel: Sequence[float], factor: Sequence[float]
) -> str:
    """Why a series was not tried one level down."""
    if name in networks:
        sizes = (
            [mm * f**power for mm, f in zip(voxel, factor, strict=True)] for power in (-1, 0, 1)
        )
        fine, acquired, low = (
            mm_text(max(size[:2])) if factor[2] == 1 else size_text(size, "×", "")
            for size in sizes
        )
        trained = f"the network was trained to super-resolve {acquired} mm data to {fine} mm"
        return (
            f"{trained}; a self-test from {low} mm to {acquired} mm would require a"
            " separately trained network"
        )
    if name == "inject":
        return (
            "the added detail is constant over time, so the signal changes are the same as"
            " with zero filling"
        )
    if name in PAIR_BASELINES:
        return "a T2*-weighted image at the acquired resolution would be required"
    return "not tested: the run has too few volumes, or no variance-based method was requested"


@step(makes=("evaluation", "evaluation_columns"), small=True)
def join_evaluation(rows: list[Rows], verdict_rows: Rows) -> tuple[Rows, Facts]:
    """Join all figures of the evaluation of a run in one table.

    The verdict does not wait for figures that it does not need.

    `rows`: tables in the order of the result, flags last; the `verdict_rows` follow. Returns every
    figure with its interval, without comparisons with methods that were not applied, and a
    description of the columns.
    """
    every = compared_rows([*(row for table in rows for row in table), *verdict_rows])
    return every, columns_json(row.statistic for row in every)
