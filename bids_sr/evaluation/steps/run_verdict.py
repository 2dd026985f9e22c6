"""Summary of the metrics of a run: quality-control flags, and the verdict."""

from collections.abc import Sequence

import numpy as np

from bids_sr.engine.artifacts import Confounds, Derivative, Facts, Map, Mask, Rows, Verdict, Volume
from bids_sr.engine.metric_rows import MetricRow
from bids_sr.engine.step import Stage, step
from bids_sr.evaluation.acquired_activation import (
    KeptActivation,
    active_voxels,
    compare_with_acquired,
    kept_rows,
)
from bids_sr.evaluation.large_effects_results import collect_large_effects
from bids_sr.evaluation.qc_flags import (
    Flag,
    Flags,
    artifact_flag,
    broad_flags,
    clipped_flag,
    distortion_flag,
    lost_activation_flags,
    placement_flags,
)
from bids_sr.evaluation.run_evidence import StoredEvidence, gather_evidence
from bids_sr.evaluation.verdict import make_verdict
from bids_sr.glm.contrasts import Contrasts
from bids_sr.glm.steps.map_comparison import SortedMaps, sort_maps_of_run
from bids_sr.glm.steps.region_growth import select_contrasts
from bids_sr.io.arrays import Array
from bids_sr.io.grids import Factor
from bids_sr.io.series import ACQUIRED, MEASURED
from bids_sr.preproc.steps.clipped_voxels import N_CLIPPED_KEY
from bids_sr.preproc.steps.registration import TrainingPair
from bids_sr.spatial.masks import head_mask
from bids_sr.spatial.matrices import acquire
from bids_sr.spatial.resampling import sample_volume
from bids_sr.sr.models.card import explain_stopped, was_applied


@step(Stage.EVALUATION, makes=("flags", "activation_rows"), small=True)
def raise_flags(
    rows: list[Rows],
    maps: Sequence[Map],
    bold_mask: Mask,
    roi_bold: Mask,
    pair: TrainingPair | None = None,
    registration: Facts | None = None,
    region_flags: Flags | None = None,
    *,
    contrasts: Contrasts,
    factor: Factor,
    at_rest: bool,
) -> tuple[Flags, Rows]:
    """Check for known reasons of failure of the paper's method, and gather other checks.

    `rows` are the tables of metrics that flags are based on. `bold_mask` and `roi_bold`, the
    registered region of interest, are on the acquired grid. `pair` is the T2* pair in one frame;
    None if there is none. `registration` has the number of clipped voxels, which `bold_mask`
    excludes; None if they were not searched. `region_flags` are checks of the response of run and
    region; if they are None, the run has no linear model, and the rules of the paper are applied.
    `contrasts` are weights of conditions, or of seeds,
    by contrast. `at_rest` states whether the run has no events.

    Returns all flags except those on wrong detail, which depend on the evidence; and rows of the
    activation that is kept in each series.
    """
    condition_names = select_contrasts({} if at_rest else contrasts)
    all_rows = [row for table in rows for row in table]
    acquired_mm = float(np.sqrt(np.prod(bold_mask.zooms[:2])))
    stats, regions = sort_maps_of_run(maps)
    significant_regions = _select_acquired_maps(regions, "Fdr", condition_names)
    kept_activation = _compare_activation(stats, bold_mask, select_contrasts(contrasts), factor)
    correlation_maps = _select_acquired_maps(stats, "cc", condition_names)
    flags = [*(region_flags or ())]
    if region_flags is None:
        flags += placement_flags(correlation_maps, roi_bold.data, bold_mask.data, bold_mask.affine)
    flags += broad_flags(
        correlation_maps,
        bold_mask.data,
        {name: region > 0.5 for name, region in significant_regions.items()},
    )
    n_clipped = (registration or {}).get(N_CLIPPED_KEY)
    if isinstance(n_clipped, int):
        flags.append(clipped_flag(n_clipped, int(np.count_nonzero(bold_mask.data))))
    if pair is not None:
        lowres, pair_mask = pair.train_lowres, pair.pair_mask.data
        degraded = _downsample_to_acquired(pair.train_highres, lowres, factor)
        head = head_mask(lowres.data, lowres.affine) | pair_mask
        flags.append(artifact_flag(lowres.data, degraded, pair_mask, head))
    if distortion := distortion_flag(all_rows, acquired_mm):
        flags.append(distortion)
    flags += lost_activation_flags(kept_activation)
    activation_rows: list[MetricRow] = []
    for series, kept_by_contrast in kept_activation.items():
        activation_rows += kept_rows(series, kept_by_contrast)
    return tuple(flags), activation_rows


def _select_acquired_maps(maps: SortedMaps, stat: str, names: Sequence[str]) -> dict[str, Array]:
    """Return maps or regions of the acquired series at the largest smoothing, by contrast.

    `maps` are by contrast, statistic or region kind, and smoothing, then by series.
    """
    selected: dict[str, Derivative] = {}
    for contrast, kind, fwhm_mm in sorted(maps, key=lambda key: key[2]):
        maps_by_series = maps[contrast, kind, fwhm_mm]
        if kind == stat and contrast in names and ACQUIRED in maps_by_series:
            selected[contrast] = maps_by_series[ACQUIRED]
    return {contrast: statmap.volume.data for contrast, statmap in selected.items()}


def _compare_activation(
    stats: SortedMaps,
    bold_mask: Volume,
    contrasts: Sequence[str],
    factor: Factor,
) -> dict[str, dict[str, dict[float, KeptActivation]]]:
    """Compare the effect of each series with the acquired effect.

    `stats` are by contrast, statistic and smoothing, and by series. `bold_mask` is on the acquired
    grid.

    Returns results by series, contrast and smoothing (FWHM, mm). A series without active voxels
    has no contrasts. Empty if there is no linear model.
    """
    kept_by_series: dict[str, dict[str, dict[float, KeptActivation]]] = {}
    for (contrast, stat, fwhm_mm), effects in stats.items():
        if stat != "effect" or contrast not in contrasts:
            continue
        variance, t = (
            stats.get((contrast, name, fwhm_mm), {}).get(ACQUIRED) for name in ("variance", "t")
        )
        if ACQUIRED not in effects or variance is None or t is None:
            continue
        acquired = effects[ACQUIRED].volume
        acquired_variance = variance.volume.data
        active = active_voxels(t.volume.data, bold_mask.data)
        for series, statmap in effects.items():
            if series in (ACQUIRED, MEASURED):
                continue
            kept_by_contrast = kept_by_series.setdefault(series, {})
            if active is not None:
                effect = _downsample_to_acquired(statmap.volume, acquired, factor)
                kept_by_contrast.setdefault(contrast, {})[fwhm_mm] = compare_with_acquired(
                    effect, acquired.data, acquired_variance, active
                )
    return kept_by_series


def _downsample_to_acquired(highres: Volume, acquired: Volume, factor: Factor) -> Array:
    """Return an image on the high-resolution grid as it would have been acquired.

    The result is on the grid of the image `acquired`.
    """
    degraded, affine = acquire(highres.data, highres.affine, factor=factor)
    if degraded.shape == acquired.data.shape:
        return degraded
    return sample_volume(degraded, affine, acquired.data.shape, acquired.affine)


@step(Stage.EVALUATION, makes=("verdict", "verdict_rows", "evidence"), small=True, awaited=True)
def decide_verdict(
    rows: list[Rows],
    self_test_facts: Facts,
    confounds: Confounds,
    flags: Flags | None = None,
    card_file: dict[str, Facts] | None = None,
    *,
    method_names: Sequence[str],
    series_names: Sequence[str],
    margin: float | None,
) -> tuple[Verdict, Rows, StoredEvidence]:
    """Gather the evidence of a run, and return the verdict: headline, sentences and limitations.

    `rows` are the tables that the verdict requires. `confounds` are used for framewise
    displacement. `flags` are flags that do not depend on the evidence; None if they were not
    raised. `card_file` has model cards by method; methods whose card records zero filling were not
    applied. `method_names` are the evaluated methods, and `series_names` all
    series of the plan; a method must exceed all others. Differences within ± `margin` count as
    equivalent; None to derive the margin from the measured series.

    Returns headline, sentences and limitations; flags and decisions as rows of the evaluation; and
    the evidence.
    """
    table_rows = [row for table in rows for row in table]
    all_rows = [*table_rows, *_list_flag_rows(flags or (), table_rows)]
    cards = card_file or {}
    evidence = gather_evidence(
        all_rows,
        methods=method_names,
        baselines=[name for name in series_names if name not in method_names],
        margin=margin,
        not_applied=[
            name for name in method_names if name in cards and not was_applied(cards[name])
        ],
        stopped={
            name: reason
            for name in method_names
            if name in cards and (reason := explain_stopped(cards[name]))
        },
        self_test_facts=self_test_facts,
        flags=flags or (),
    )
    verdict = make_verdict(
        evidence, displacement=[float(mm) for mm in confounds["framewise_displacement"]]
    )
    verdict_facts = verdict.to_json()
    verdict_rows = [*_list_flag_rows(evidence.flags, table_rows), *verdict.rows]
    return verdict_facts, verdict_rows, evidence


@step(Stage.EVALUATION, makes="verdict", small=True)
def add_large_effects(verdict: Verdict, rows: Rows) -> Verdict:
    """Add the large effects of recovered contrasts to a verdict.

    `rows` are the evaluation of the run. Large effects are known after the verdict, which does not
    depend on them.
    """
    contrasts = []
    for facts in verdict.get("contrasts", ()):
        names = facts["contrast"], facts["map"]
        is_recovered = facts["active"]["state"] == "recovered"
        collected = collect_large_effects(rows, verdict["best"], *names) if is_recovered else None
        large = {} if collected is None else {"large_effects": collected.to_json()}
        contrasts.append({**facts, **large})
    stored_verdict = verdict.copy()
    if contrasts:
        stored_verdict["contrasts"] = contrasts
    return stored_verdict


def _list_flag_rows(flags: Sequence[Flag], rows: Sequence[MetricRow]) -> list[MetricRow]:
    """Return rows of flags that the tables (`rows`) lack: 1, 0, or n/a if not evaluated."""
    reported_flags = {(row.series, row.statistic, row.contrast) for row in rows}
    return [
        row
        for row in (flag.row() for flag in flags)
        if (row.series, row.statistic, row.contrast) not in reported_flags
    ]
