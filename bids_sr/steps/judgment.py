"""Summary of a run's metrics: quality-control flags, the verdict, and all metrics in one table."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict

import numpy as np

from bids_sr.evaluation.advice import ADVICE, Audience
from bids_sr.evaluation.compared_verdict import compared_verdict
from bids_sr.evaluation.evidence import was_applied
from bids_sr.evaluation.qc_flags import (
    Flag,
    activation_flags,
    artifact_flag,
    distortion_flag,
    harm_flags,
)
from bids_sr.evaluation.verdict import make_verdict
from bids_sr.glm.contrasts import Contrasts
from bids_sr.io.arrays import Array
from bids_sr.io.grids import Factor
from bids_sr.pipeline.artifacts import (
    Confounds,
    Derivative,
    Facts,
    Image,
    Map,
    Mask,
    Rows,
    Verdict,
)
from bids_sr.pipeline.step import step
from bids_sr.series import RAW
from bids_sr.spatial.masks import head_mask
from bids_sr.spatial.resampling import sample_volume
from bids_sr.sr.matrices import acquire
from bids_sr.steps.activation import sorted_maps
from bids_sr.steps.evaluation import widths_of
from bids_sr.steps.region_growth import judged_contrasts


def _applied(methods: Sequence[str], card_file: Mapping[str, Facts] | None) -> list[str]:
    """Methods but those whose card says that zero filling was used in their place."""
    cards = card_file or {}
    return [name for name in methods if name not in cards or was_applied(cards[name])]


@step(makes=("flags", "flag_rows"), small=True)
def raise_flags(
    rows: list[Rows],
    maps: Sequence[Map],
    bold_mask: Mask,
    roi_bold: Mask,
    train_highres: Image | None = None,
    train_lowres: Image | None = None,
    pair_mask: Mask | None = None,
    card_file: dict[str, Facts] | None = None,
    *,
    contrasts: Contrasts,
    factor: Factor,
    method_names: Sequence[str],
    at_rest: bool,
) -> tuple[Facts, Rows]:
    """Look for what was wrong where the paper's method failed.

    `bold_mask, roi_bold`: brain, and region of interest as registration placed it, on the acquired
    grid. `train_highres, train_lowres, pair_mask`: the pair in one frame, and its brain on the
    grid of lowres. Returns flags in words (name, raised, text, remedy, contrast, series) under
    "flags", and rows flag_* that the tables lack: 1 or 0, n/a where it is not known.
    """
    names = judged_contrasts({} if at_rest else contrasts)
    all_rows = [row for table in rows for row in table]
    acquired = float(np.sqrt(np.prod(bold_mask.zooms[:2])))
    stats, regions = sorted_maps(maps)
    distortion = distortion_flag(all_rows, acquired)
    flags = [
        *activation_flags(
            _of_raw(stats, "cc", names),
            roi_bold.data,
            bold_mask.data,
            bold_mask.affine,
            {name: each > 0.5 for name, each in _of_raw(regions, "Fdr", names).items()},
        ),
        *_pair_flags(train_highres, train_lowres, pair_mask, factor),
        *([distortion] if distortion else []),
        *harm_flags(all_rows, _applied(method_names, card_file)),
    ]
    known = {(row.series, row.statistic, row.contrast) for row in all_rows}
    flag_rows = [
        row
        for flag in flags
        if ((row := flag.row()).series, row.statistic, row.contrast) not in known
    ]
    return {"flags": [{**asdict(flag), "remedy": flag.remedy} for flag in flags]}, flag_rows


def _of_raw(
    maps: Mapping[tuple[str, str, float], Mapping[str, Derivative]],
    stat: str,
    names: Sequence[str],
) -> dict[str, Array]:
    """One kind of maps or regions of raw at its widest smoothing, by contrast of those named."""
    return {
        contrast: own[RAW].volume.data
        for (contrast, kind, _), own in sorted(maps.items(), key=lambda each: each[0][2])
        if kind == stat and contrast in names and RAW in own
    }


def _pair_flags(
    highres: Image | None, lowres: Image | None, pair_mask: Mask | None, factor: Factor
) -> list[Flag]:
    """The pair's flag, where there is a pair."""
    if highres is None or lowres is None or pair_mask is None:
        return []
    degraded, made = acquire(highres.data, highres.affine, factor=factor)
    if degraded.shape != lowres.data.shape:
        degraded = sample_volume(degraded, made, lowres.data.shape, lowres.affine)
    head = head_mask(lowres.data, lowres.affine) | pair_mask.data
    return [artifact_flag(lowres.data, degraded, pair_mask.data, head)]


@step(makes=("verdict", "verdict_rows"), small=True, awaited=True)
def judge(
    rows: list[Rows],
    one_level_down: Facts,
    confounds: Confounds,
    card_file: dict[str, Facts] | None = None,
    compared_facts: Sequence[Facts] = (),
    same_widths: Facts | None = None,
    *,
    method_names: Sequence[str],
    series_names: Sequence[str],
    margin: float | None,
    compared_names: Sequence[str] = (),
    audience: Audience = "program",
) -> tuple[Verdict, Rows]:
    """Say in plain words what the evaluation of a run allows to say.

    `rows`: tables that the verdict needs, flags among them. `method_names, series_names`:
    series under judgment, and all of the plan, of which the others must be beaten. `audience`:
    whom the limits tell how to get what is missing. `margin`: differences within it count as none;
    None: told from the measured series. Returns headline, sentences and limits in words, and the
    decisions as rows of the evaluation.
    """
    all_rows = [row for table in rows for row in table]
    applied = _applied(method_names, card_file)
    verdict = make_verdict(
        all_rows,
        methods=method_names,
        baselines=[name for name in series_names if name not in method_names],
        margin=margin,
        advice=ADVICE[audience],
        not_applied=[name for name in method_names if name not in applied],
        displacement=[float(mm) for mm in confounds["framewise_displacement"]],
        one_level=one_level_down,
    )
    known = {
        name: each
        for table in compared_facts
        for name, each in table.items()
        if isinstance(each, Mapping)
    }
    widths = widths_of(same_widths)
    others = [
        compared_verdict(
            name,
            all_rows,
            fwhm_mm=widths.get(name, math.nan),
            facts=known.get(name, {}),
            advice=ADVICE[audience],
            margin=margin,
        )
        for name in compared_names
    ]
    told = verdict.to_json()
    if others:
        told["compared"] = [each.to_json() for each in others]
    return told, [*verdict.rows, *(row for each in others for row in each.rows)]
