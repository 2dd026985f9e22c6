"""Quality-control flags: reasons for failure of the method in the paper, and other checks.

The paper gives four reasons for a larger overlap in 7 of 30 participants: the task was not done
(CC above .5 in the brain and below in the motor area), activation was very broad, the pair had
artifacts, or the motor area was misregistered. In runs with a linear model, the first and the last
reason are replaced by the checks in `bids_sr.evaluation.region_checks`. Distortion is added here
because it misleads methods that follow edges. A flag is a reason to inspect the data, not proof of
a problem. Flags on activation are computed from the acquired series, so that they do not depend on
a method.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Annotated

import numpy as np

from bids_sr.engine.artifacts import RecordKind
from bids_sr.engine.metric_rows import MISSING, MetricRow
from bids_sr.engine.number_text import number
from bids_sr.evaluation.acquired_activation import KeptByWidth, find_clearest, kept_text
from bids_sr.evaluation.detail_support import ContrastResult
from bids_sr.evaluation.evidence import MAPS, Evidence, is_below_zero
from bids_sr.evaluation.result_text import quote_contrast
from bids_sr.evaluation.self_test_results import SELF_TEST_SCORE
from bids_sr.evaluation.tested_detail import HALF_RESOLUTION
from bids_sr.evaluation.words import region_text
from bids_sr.glm.region_growth import ACTIVE_CC, REACH_MM, select_ring
from bids_sr.io.arrays import Float, MaskArray, Real
from bids_sr.io.frozen import frozen
from bids_sr.io.metric_flags import FLAGS

# fraction of the brain with CC of at least .5. In real data, single conditions reach 1 %, and six
# conditions together 7 %.
_MAX_BROAD_SHARE = 0.1
# fraction of the brain, used without correlation maps: active at a false discovery rate of .05
# (real data: 9 %)
_MAX_FDR_SHARE = 0.3
# CC just outside the region of interest minus CC inside it. Random differences within a run are
# smaller.
_MAX_CC_EXCESS = 0.1
# Limits of a slice residual: robust standard deviations above the median slice, ratio to the
# median slice, and fraction of the mean signal. Noise alone makes residuals of 1 to 2 % in the
# phantom, and almost 0 if one image of the pair is a copy of the other.
_MAX_SLICE_SD, _MAX_SLICE_RATIO, _MIN_SLICE_LIMIT = 5.0, 2.0, 0.03
_MAD_TO_SD = 1.4826  # of a normal distribution
# fraction of the mean signal in the head: mean signal at half a field of view from the head, minus
# the remaining background
_MAX_GHOST_SHARE = 0.1
_MIN_SLICES = 5  # slices with a known residual that are required to find outlying slices
_MIN_VOXELS = 20  # voxels of a mean or of a slice residual

LOST_ACTIVATION = "lost_activation"
"""Name of the flag of series that lost the activation of the acquired run."""


@frozen
class Flag:
    """One quality-control flag.

    `raised` is None if the flag could not be evaluated. `series` is ``run`` for flags that do not
    concern a single series.
    """

    name: str
    raised: bool | None
    text: str
    contrast: str = MISSING
    series: str = "run"

    @property
    def remedy(self) -> str:
        """Advice on what to do if the flag is raised."""
        return FLAGS[self.name].remedy.format(series=self.series)

    def row(self) -> MetricRow:
        """Return the flag as an evaluation row: 1, 0, or NaN (n/a) if it was not evaluated."""
        value = math.nan if self.raised is None else float(self.raised)
        return MetricRow(
            series=self.series, statistic=f"flag_{self.name}", value=value, contrast=self.contrast
        )


Flags = Annotated[tuple[Flag, ...], RecordKind(tuple[Flag, ...])]


def find_raised_flags(
    flags: Iterable[Flag], not_applied: Sequence[str] = ()
) -> dict[str, list[str]]:
    """Return the series that raised each flag, in the order of `FLAGS`.

    Flags that were evaluated but not raised have an empty list; flags that were not evaluated are
    omitted. `not_applied` are methods whose series are zero filled; their flags are ignored.
    """
    raised_series: dict[str, list[str]] = {}
    for flag in flags:
        if flag.raised is not None and flag.series not in not_applied:
            names = raised_series.setdefault(flag.name, [])
            if flag.raised:
                names.append(flag.series)
    return {name: raised_series[name] for name in FLAGS if name in raised_series}


def read_flags(rows: Iterable[MetricRow]) -> list[Flag]:
    """Return the flags in rows of the evaluation, which have no texts."""
    flag_names = {f"flag_{name}": name for name in FLAGS}
    return [
        Flag(
            name=flag_names[row.statistic],
            raised=row.value > 0 if math.isfinite(row.value) else None,
            text="",
            contrast=row.contrast,
            series=row.series,
        )
        for row in rows
        if row.statistic in flag_names
    ]


def artifact_flag(lowres: Real, degraded: Real, mask: MaskArray, head: MaskArray) -> Flag:
    """Flag ghosts and disagreeing slices in the images of a pair.

    Parameters
    ----------
    lowres : Real
        Low-resolution image of the pair (3D).
    degraded : Real
        High-resolution image of the pair, downsampled to the same grid (3D).
    mask : MaskArray
        Voxels to compare, on that grid (3D, boolean).
    head : MaskArray
        Voxels with signal on that grid (3D, boolean).

    Returns
    -------
    Flag
        Flag of the pair; its text lists slices and ghosts.
    """
    reasons = []
    if slices := _find_outlying_slices(_compute_slice_residuals(lowres, degraded, mask)):
        reasons.append(
            f"the images disagree in slices {', '.join(map(str, slices))} (numbered from 0)"
        )
    for name, image in (("low-resolution", lowres), ("high-resolution", degraded)):
        share = _compute_ghost_share(image, head)
        if share > _MAX_GHOST_SHARE:
            reasons.append(f"the {name} image has a ghost with {100 * share:.0f} % of the signal")
    text = (
        f"In the T2* pair, {'; '.join(reasons)}."
        if reasons
        else "The images of the T2* pair agree in all slices, and no ghosts were detected."
    )
    return Flag(name="artifact", raised=bool(reasons), text=text)


def _find_outlying_slices(residuals: Float) -> list[int]:
    """Return the slices whose residual is far above the median residual of all slices.

    `residuals` are relative to the mean signal, one value per slice; NaN if unknown. Slice numbers
    are counted from 0. The result is empty if fewer than five residuals are known.
    """
    finite = residuals[np.isfinite(residuals)]
    if len(finite) < _MIN_SLICES:
        return []
    median = float(np.median(finite))
    robust_sd = _MAD_TO_SD * float(np.median(np.abs(finite - median)))
    limit = max(median + _MAX_SLICE_SD * robust_sd, _MAX_SLICE_RATIO * median, _MIN_SLICE_LIMIT)
    return [int(k) for k in np.flatnonzero(np.nan_to_num(residuals, nan=-np.inf) > limit)]


def _compute_slice_residuals(lowres: Real, degraded: Real, mask: MaskArray) -> Float:
    """Return the RMS difference between the images of a pair, per slice, over the mean signal.

    The images are scaled by one gain for all slices (least squares); a gain per slice would hide a
    bad slice. `degraded` is the high-resolution image, downsampled to the grid of the
    low-resolution image (X, Y, Z), and `mask` selects the voxels to compare on this grid. There is
    one value per slice (Z,); NaN in slices with fewer than 20 voxels of the mask.
    """
    low, high = np.asarray(lowres, dtype=np.float64), np.asarray(degraded, dtype=np.float64)
    power = float((high[mask] ** 2).sum())
    gain = float((low[mask] * high[mask]).sum()) / power if power else 0.0
    difference = low - gain * high
    mean = float(low[mask].mean())
    residuals = np.full(low.shape[2], np.nan)
    for k in range(low.shape[2]):
        slice_mask = mask[:, :, k]
        if slice_mask.sum() >= _MIN_VOXELS and mean > 0:
            residuals[k] = np.sqrt(np.mean(difference[:, :, k][slice_mask] ** 2)) / mean
    return residuals


def _compute_ghost_share(image: Real, head: MaskArray) -> float:
    """Return the amplitude of a ghost at half a field of view, relative to the head.

    The amplitude is the mean background signal at half a field of view from the head minus the
    mean of the remaining background, over the mean signal in the head. Because the phase-encoding
    direction may be unknown, both in-plane axes are examined. The larger value of both axes is
    returned. It is below 0 if the remaining background is brighter, and NaN if there is too little
    background. The magnitude of `image` (X, Y, Z) is used, which must include background. `head`
    selects the voxels of the head.
    """
    magnitude = np.abs(np.asarray(image, dtype=np.float64))
    head_mean = float(magnitude[head].mean()) if head.any() else 0.0
    shares = []
    for axis in (0, 1):
        shifted_head = np.roll(head, head.shape[axis] // 2, axis=axis)
        ghost, background = shifted_head & ~head, ~shifted_head & ~head
        if min(int(ghost.sum()), int(background.sum())) >= _MIN_VOXELS and head_mean > 0:
            ghost_mean = float(magnitude[ghost].mean())
            background_mean = float(magnitude[background].mean())
            shares.append((ghost_mean - background_mean) / head_mean)
    return max(shares, default=math.nan)


def clipped_flag(n_clipped: int, n_voxels: int) -> Flag:
    """Flag voxels of the brain whose signal was clipped.

    `n_clipped` is their number, and `n_voxels` the number of other voxels in the brain mask.
    """
    share = n_clipped / max(n_clipped + n_voxels, 1)
    text = (
        f"{n_clipped:,} voxels of the brain ({100 * share:.2g} %) were clipped at the largest"
        " stored value in at least 5 % of the volumes."
        if n_clipped
        else "No voxel of the brain was clipped at the largest stored value."
    )
    return Flag(name="clipped", raised=n_clipped > 0, text=text)


def distortion_flag(rows: Sequence[MetricRow], acquired_mm: float) -> Flag | None:
    """Flag distortion: edges of boldref and high-resolution image are over half a voxel apart.

    The limit is half an acquired voxel. If the rows already contain the flag, its value is kept
    and only its text is regenerated. None if the distance was not measured.
    """
    values = {row.statistic: row.value for row in rows}
    distance_mm = values.get("edge_mismatch", math.nan)
    if not math.isfinite(distance_mm):
        return None
    limit_mm = acquired_mm / 2
    text = (
        f"The edges in the boldref and in the T2*-weighted image are {distance_mm:.1f} mm apart"
        f" (limit: half an acquired voxel, {limit_mm:.1f} mm)."
    )
    return Flag(
        name="distortion",
        raised=bool(values.get("flag_distortion", distance_mm > limit_mm)),
        text=text,
    )


def harm_flags(
    evidence: Evidence | None,
    scores: Mapping[str, MetricRow],
    results: Mapping[str, Mapping[str, ContrastResult]],
) -> list[Flag]:
    """Flag methods whose added detail is wrong in any contrast.

    The flag is raised if a method's explained variance of a reference, the value that decided
    about the detail of a contrast, or its self-test score is below 0. Methods without a known
    value have no flag. `evidence` is None if accuracy is unknown, `scores` are self-test scores by
    series, and `results` are by method and contrast.
    """
    if evidence is not None and evidence.reference == MAPS:
        evidence = None  # correlations of maps do not show whether detail is wrong
    flags = []
    for method, by_contrast in results.items():
        rows = [] if evidence is None else [*evidence.select_finite_rows(method).values()]
        rows += [
            row
            for result in by_contrast.values()
            for region in result.regions.values()
            if (row := region.deciding_row) is not None and row.statistic == "ev"
        ]
        rows += [scores[method]] if method in scores else []
        if not rows:
            continue
        wrong_values = dict.fromkeys(
            _describe_wrong_detail(row) for row in rows if is_below_zero(row)
        )
        text = (
            f"Some detail added by {method} is wrong ({'; '.join(wrong_values)})."
            if wrong_values
            else f"The detail added by {method} was not found to be wrong."
        )
        flags.append(Flag(name="harm", raised=bool(wrong_values), text=text, series=method))
    return flags


def _describe_wrong_detail(row: MetricRow) -> str:
    """Return the value that is below 0, with its region and contrast or the name of its test."""
    share = number(row.value, ".0%")
    if row.statistic == SELF_TEST_SCORE:
        return f"reduction in squared error in the self-test: {share}"
    origin = "tested " if row.reference == HALF_RESOLUTION else ""
    place = f"for {quote_contrast(row.contrast)}, {region_text(row.region)}"
    return f"{origin}explained variance {share} {place}"


def lost_activation_flags(kept_by_series: Mapping[str, Mapping[str, KeptByWidth]]) -> list[Flag]:
    """Flag series that lost the activation of the acquired run.

    The comparison with the acquired effect is by series, contrast and smoothing. The flag of a
    series without contrasts is not evaluated.
    """
    flags = []
    for series, by_contrast in kept_by_series.items():
        clearest = {name: find_clearest(by_width) for name, by_width in by_contrast.items()}
        losses = [
            f"contrast {name}: {kept_text(result.slope, result.r)}"
            for name, result in clearest.items()
            if result.is_lost
        ]
        if losses:
            text = f"Activation of the acquired run is lost in {series} ({'; '.join(losses)})."
        elif by_contrast:
            text = f"{series} preserves the activation of the acquired run."
        else:
            text = (
                "The acquired run has too few active voxels to determine whether its activation"
                f" is preserved in {series}."
            )
        raised = bool(losses) if by_contrast else None
        flags.append(Flag(name=LOST_ACTIVATION, raised=raised, text=text, series=series))
    return flags


def placement_flags(
    maps: Mapping[str, Real], roi: MaskArray, mask: MaskArray, affine: Float
) -> list[Flag]:
    """Return the flags of the paper on the place of activation, two per condition.

    `maps` are correlation maps of the acquired series by condition, `roi` is the region of
    interest, and `mask` the brain (X, Y, Z each). `affine` is the voxel-to-world matrix of the
    maps (4 x 4, RAS+ mm).
    """
    flags = []
    for contrast, cc in maps.items():
        flags += [
            _flag_undone_task(cc, roi, mask, contrast),
            _flag_misplaced_region(cc, roi, mask, affine, contrast),
        ]
    return flags


def broad_flags(
    maps: Mapping[str, Real], mask: MaskArray, fdr: Mapping[str, MaskArray]
) -> list[Flag]:
    """Return the flags on broad activation, one per condition.

    `maps` are correlation maps of the acquired series by condition, and `mask` is the brain (X, Y,
    Z each). Conditions without a correlation map are tested by their region in `fdr`, which is
    active at a false discovery rate of .05 (X, Y, Z).
    """
    flags = [
        _flag_broad_activation(
            contrast,
            (cc >= ACTIVE_CC)[mask],
            _MAX_BROAD_SHARE,
            f"a cross-correlation (CC) of at least {ACTIVE_CC}",
        )
        for contrast, cc in maps.items()
    ]
    return flags + [
        _flag_broad_activation(
            contrast, region[mask], _MAX_FDR_SHARE, "significant activation (FDR .05)"
        )
        for contrast, region in fdr.items()
        if contrast not in maps
    ]


def _flag_undone_task(cc: Real, roi: MaskArray, mask: MaskArray, contrast: str) -> Flag:
    """Flag a task that was not done: CC > .5 in the brain, but not in the region of interest.

    The paper calls this reason "task not done". The flag is not evaluated unless there are brain
    voxels inside and outside the region. `cc` is the map of correlation with the condition (X, Y,
    Z), -1 to 1; `roi` and `mask` are the region of interest and the brain on its grid. `contrast`
    is the contrast of the condition.
    """
    flag = Flag(
        name="task_not_done",
        raised=None,
        text=(
            "The region of interest contains the whole brain or no part of the brain, so activity"
            " inside and outside the region cannot be compared."
        ),
        contrast=contrast,
        series="acquired",
    )
    roi_in_brain, other_brain = roi & mask, mask & ~roi
    if not (roi_in_brain.any() and other_brain.any()):
        return flag
    roi_cc, other_cc = float(cc[roi_in_brain].max()), float(cc[other_brain].max())
    return replace(
        flag,
        raised=roi_cc < ACTIVE_CC < other_cc,
        text=(
            f"For the contrast {contrast}, the highest cross-correlation (CC) is {roi_cc:.2f} in"
            f" the region of interest and {other_cc:.2f} elsewhere in the brain."
        ),
    )


def _flag_broad_activation(
    contrast: str, is_active: MaskArray, limit: float, criterion: str
) -> Flag:
    """Flag activation in more of the brain than a limit.

    `is_active` states for each brain voxel whether it is active (N,), by the criterion in words.
    """
    share = float(is_active.mean())
    text = (
        f"For the contrast {contrast}, {100 * share:.1f} % of the brain has {criterion} (limit:"
        f" {100 * limit:.0f} %)."
    )
    return Flag(
        name="broad", raised=share > limit, text=text, contrast=contrast, series="acquired"
    )


def _flag_misplaced_region(
    cc: Real, roi: MaskArray, mask: MaskArray, affine: Float, contrast: str
) -> Flag:
    """Flag a misplaced region of interest.

    The flag is raised if CC within 10 mm around the region is at least .5 and exceeds CC inside
    the region by more than .1. It is not evaluated if there are no brain voxels inside or around
    the region. `cc` is the map of correlation with the condition (X, Y, Z), -1 to 1; `roi` and
    `mask` are the region of interest and the brain on its grid, and `affine` is the
    voxel-to-RAS-mm matrix (4, 4). `contrast` is the contrast of the condition.
    """
    flag = Flag(
        name="roi_misplaced",
        raised=None,
        text="The region of interest or its surroundings contain no brain voxels.",
        contrast=contrast,
        series="acquired",
    )
    roi_in_brain, surroundings = roi & mask, select_ring(roi, mask, affine)
    if not (roi_in_brain.any() and surroundings.any()):
        return flag
    roi_cc, ring_cc = float(cc[roi_in_brain].max()), float(cc[surroundings].max())
    return replace(
        flag,
        raised=ring_cc >= ACTIVE_CC and ring_cc - roi_cc > _MAX_CC_EXCESS,
        text=(
            f"For the contrast {contrast}, the highest cross-correlation (CC) is {roi_cc:.2f} in"
            f" the region of interest and {ring_cc:.2f} within {REACH_MM:g} mm around this region."
        ),
    )
