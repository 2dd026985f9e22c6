"""Evaluation of finer series: effects of blocks, split halves, measured and known truth."""

import math
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from threadpoolctl import threadpool_limits

from bids_sr.config.memory_model import EFFECTS
from bids_sr.io.grids import mm_text
from bids_sr.metrics.long_tables import MetricRow
from bids_sr.pipeline.artifacts import (
    Confounds,
    Effects,
    Facts,
    File,
    Image,
    Map,
    Mask,
    Regressors,
    Rows,
    Series,
)
from bids_sr.pipeline.step import Lookup, Part, step
from bids_sr.series import MEASURED, PAIR_BASELINES, PCA_RANKS, RAW, kind_of
from bids_sr.spatial.resampling import sample_volume
from bids_sr.sr.method import Cost
from bids_sr.stats.evaluation.agreement import agreement_rows
from bids_sr.stats.evaluation.effects_of_run import RunEffects, save_fine_effects
from bids_sr.stats.evaluation.reference_images import image_rows, volume_scores
from bids_sr.stats.evaluation.reference_maps import replaced, truth_rows
from bids_sr.stats.evaluation.references import known_activation, measured_halves, measured_map
from bids_sr.stats.evaluation.tested_share import TESTED
from bids_sr.stats.glm.block_effects import block_effects
from bids_sr.stats.glm.blocks import block_design
from bids_sr.stats.glm.design import MOTION
from bids_sr.steps.activation import Contrasts, Factor, by_smoothing

UNSPLIT = "The run had too few blocks for split halves, so reproducible detail was not measured. "
"""Methods text of a run in the place of that of `compare_halves`."""
ONE_LEVEL_DOWN = (
    "Methods that estimate variances were also tested one level of resolution down, without a"
    " reference: the volumes of the run were downsampled by the super-resolution factor,"
    " super-resolved and compared with those acquired; the share of zero filling's squared error"
    " that each series explains was computed, with an interval over stretches of volumes. "
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
    here: Path,
    confounds: Confounds | None = None,
    *,
    series_name: str,
    tr: float,
    n_dummy: int,
    high_pass: float,
    slice_time_ref: float,
    has_stc: bool,
    has_measured: bool,
    effect_confounds: Sequence[str] = MOTION,
) -> Effects:
    """Effect of every block of a run in one series, whole slices.

    Parameters
    ----------
    series, mask : Series
        In BOLD signal units, dummies included; brain on its grid.
    regressors : Regressors
        Events of the task, or time series of seeds at rest.
    here : Path
        Folder in which the step writes.
    confounds : Confounds | None, optional
        One row a volume, of which `effect_confounds` enter the model.
    series_name : str
        Name of the series, such as ``raw`` or that of a method.
    tr : float
        Repetition time, TR (s).
    n_dummy : int
        Number of volumes at the start that are not in the steady state.
    high_pass : float
        Hz, drift of the linear model; 0 is a straight line.
    slice_time_ref : float
        Moment within a TR (0 to 1) to which slice timing was corrected.
    has_stc : bool
        Whether slice timing was corrected.
    has_measured : bool
        Whether the run has a measured series, which controls of the B-spline one are held against.
    effect_confounds : Sequence[str], optional
        Names of confounds; head motion and its derivatives.

    Returns
    -------
    Effects
        Effects by block on the grid of the series.
    """
    design = block_design(
        regressors,
        n_volumes=series.shape[3],
        tr=tr,
        n_dummy=n_dummy,
        high_pass=high_pass,
        slice_time_ref=slice_time_ref,
        has_stc=has_stc,
        confounds=confounds,
        confound_names=effect_confounds,
    )
    with threadpool_limits(1):
        return block_effects(
            series,
            mask.data,
            design,
            series=series_name,
            with_t=series_name == MEASURED,
            pca_ranks=PCA_RANKS if has_measured and series_name == "bspline" else (),
            scratch=here,
        )


def check_blocks(regressors: Regressors, n_volumes: int, tr: float, high_pass: float) -> None:
    """Raise `TooFewBlocks` where no condition has two blocks inside a run.

    Parameters
    ----------
    regressors : Regressors
        Events of the task, or time series of seeds at rest.
    n_volumes : int
        Number of all volumes of the series, dummies included.
    tr : float
        Repetition time, TR (s).
    high_pass : float
        Cut-off of the drift model (Hz); 0 for a straight line.
    """
    block_design(regressors, n_volumes=n_volumes, tr=tr, high_pass=high_pass)


def widths_of(same_widths: Mapping[str, object] | None) -> dict[str, float]:
    """Smoothing (mm) by the name of a compared series; empty where there is none.

    Parameters
    ----------
    same_widths : Mapping[str, object] | None
        Smoothing (FWHM, mm) by compared series; None in it for unknown ones.

    Returns
    -------
    dict[str, float]
        Smoothing by compared series (FWHM, mm); NaN for unknown ones.
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

    Parameters
    ----------
    effects : Mapping[str, Path]
        Files of block effects by the name of the series.
    mask : Mask
        Voxels of the brain on the high-resolution grid (3D, boolean).
    roi : Mask
        Voxels of the region of interest on the high-resolution grid (3D, boolean).
    same_widths : Mapping[str, object] | None
        Smoothing (FWHM, mm) by compared series; None in it for unknown ones.
    contrasts : Contrasts
        Weights of conditions (at rest: seeds) by contrast.
    factor : Factor
        Acquired over high-resolution voxel size along each axis.
    n_boot : int
        Number of resamples of blocks.
    seed : int
        Seed of the resampling.
    maps : Sequence[Map], optional
        Maps of the run, of which the unsmoothed t of raw tells where the acquired run is active.

    Returns
    -------
    RunEffects
        Files of effects with what their comparison needs.
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
    here: Path,
    *,
    contrasts: Contrasts,
    factor: Factor,
) -> File:
    """Return effects beyond the acquired Nyquist limit in every series (.npz), for the figures.

    Parameters
    ----------
    effects : dict[str, File]
        Of all series on the high-resolution grid; they are read one at a time.
    bold_mask_hr : Mask
        Voxels of the brain on the high-resolution grid (3D, boolean).
    roi_hr : Mask
        Voxels of the region of interest on the high-resolution grid (3D, boolean).
    here : Path
        Folder in which the step writes.
    contrasts : Contrasts
        Weights of conditions (at rest: seeds) by contrast.
    factor : Factor
        Acquired over high-resolution voxel size along each axis.

    Returns
    -------
    File
        File with one contrast of each series, in the box around the brain.
    """
    run = run_effects(effects, bold_mask_hr, roi_hr, None, contrasts, factor, 0, 0)
    with threadpool_limits(1):
        return save_fine_effects(run, here / "fine_effects.npz")


def _halves_text(setting: Lookup) -> str:
    blocks = "Segments of the run" if setting("at_rest") else "Blocks of each condition"
    return (
        f"{blocks} were split into two halves; the effect in one half was compared with that of"
        " the measured high-resolution series in the other half, both ways, over all in-plane"
        " spatial frequencies and over those at or beyond the Nyquist limit of the acquisition."
        " The explained variance of the true effect T by an estimate e, 1 - E|e - T|^2 / E|T|^2,"
        " was corrected for noise in the measured series by the covariance of its halves."
        " Confidence intervals come from resampling blocks, with the same draws for all series. "
    )


@step(
    makes="split_half",
    part=Part.EVALUATION,
    text=_halves_text,
    memory=EFFECTS,
    cost=Cost(always=2.5),
)
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

    Parameters
    ----------
    effects : dict[str, File]
        Of all series on the high-resolution grid, `measured` among them; they are read one at a
        time.
    bold_mask_hr : Mask
        Voxels of the brain on the high-resolution grid (3D, boolean).
    roi_hr : Mask
        Voxels of the region of interest on the high-resolution grid (3D, boolean).
    maps : Sequence[Map], optional
        As of `run_effects`.
    same_widths : Facts | None, optional
        Smoothing (mm) that gives the acquired series the smoothness of those of other programs, by
        name.
    contrasts : Contrasts
        Weights of conditions (at rest: seeds) by contrast.
    factor : Factor
        Acquired over high-resolution voxel size along each axis.
    random_seed : int
        Seed of the resampling.
    n_boot : int, optional
        Resamples of blocks.

    Returns
    -------
    Rows
        Rows of agreement between independent halves.
    """
    run = run_effects(
        effects, bold_mask_hr, roi_hr, same_widths, contrasts, factor, n_boot, random_seed, maps
    )
    with threadpool_limits(1):
        return agreement_rows(run, measured_halves)


KNOWN_TEXT = (
    "Effects of the whole run were compared with known activation, over all in-plane spatial"
    " frequencies and over those at or beyond the Nyquist limit of the acquisition, with"
    " confidence intervals from resampled blocks, the same for all series. "
)
"""Methods text of a run whose activation is known, without a measured series."""


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

    Parameters
    ----------
    maps : Sequence[Map]
        Of all series; raw is passed over.
    bold_mask_hr : Mask
        Voxels of the brain on the high-resolution grid (3D, boolean).
    roi_hr : Mask
        Voxels of the region of interest on the high-resolution grid (3D, boolean).
    effects : dict[str, File] | None, optional
        Of all series, for figures beyond Nyquist and intervals: the finest band needs whole
        slices.
    truth_maps : dict[str, Image] | None, optional
        Known activation by contrast, on any grid in the frame of the mask.
    same_widths : Facts | None, optional
        See `compare_halves`.
    contrasts : Contrasts
        Weights of conditions (at rest: seeds) by contrast.
    factor : Factor
        Acquired over high-resolution voxel size along each axis.
    at_rest : bool
        Maps are of seeds, whose correlation is compared too.
    random_seed : int
        Seed of the resampling.
    n_boot : int, optional
        Resamples of blocks.

    Returns
    -------
    Rows
        Rows of agreement with the measured maps and the known activation.
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

    Parameters
    ----------
    series : dict[str, Series]
        All of the run, `measured` among them.
    bold_mask_hr : Mask
        Voxels of the brain on the high-resolution grid (3D, boolean).
    n_dummy : int
        Number of volumes at the start that are not in the steady state.
    random_seed : int
        Seed of the resampling.
    n_boot : int, optional
        Resamples of stretches of volumes.

    Returns
    -------
    Rows
        Rows of PSNR and SSIM with their intervals.
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

    Parameters
    ----------
    tested : Sequence[Facts], optional
        What was tried, by series.
    series_names, network_names : Sequence[str]
        Those of the plan in the order of the tables, and those that a network makes.
    voxel : tuple[float, float, float]
        Acquired (mm).
    factor : Factor
        Acquired over high-resolution voxel size along each axis.

    Returns
    -------
    tuple[Rows, Facts]
        Rows of the evaluation, and shares with intervals, or the reason why there is none, by
        series; zero filling is 0.
    """
    tried = {
        name: each for table in tested for name, each in table.items() if isinstance(each, dict)
    }
    names = [name for name in series_names if name != "zerofill"]
    found = {
        name: tried.get(name) or {"reason": _why_not(name, network_names, voxel, factor)}
        for name in names
    }
    known = {name: each for name, each in found.items() if "share" in each}
    told = {
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
            for name, each in found.items()
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
    return rows, told


def _why_not(
    name: str, networks: Sequence[str], voxel: Sequence[float], factor: Sequence[float]
) -> str:
    """Why a series was not tried one level down."""
    if name in networks:
        sizes = (
            [mm * f**power for mm, f in zip(voxel, factor, strict=True)] for power in (-1, 0, 1)
        )
        fine, acquired, low = (mm_text(max(size[:2])) for size in sizes)
        trained = f"it was trained for {acquired} → {fine} mm"
        return f"{trained}; testing it at {low} → {acquired} mm would need a separate network"
    if name == "inject":
        return (
            "the detail that it adds is constant over time, so its signal change is that of zero"
            " filling"
        )
    if name in PAIR_BASELINES:
        return "it would need a T2*-weighted image at the acquired resolution"
    return "nothing was tested: too few volumes, or no variance-based method"
