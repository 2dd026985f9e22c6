"""Quality-control flags: reasons why the method failed in the paper, checked in every run.

The paper names four reasons why the overlap rose in 7 of 30 subjects: the task was not done (CC
above .5 in the brain and below in the motor area), activation very broad, artifacts in the pair,
motor area misregistered. To these comes distortion, which misleads methods that follow edges. A
flag asks for a look at the data; it proves nothing. Flags on activation are evaluated on the
acquired series, so that none depends on a method.
"""

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from bids_sr.evaluation.evidence import MAPS, accuracy, below_zero
from bids_sr.evaluation.self_test import TESTED
from bids_sr.evaluation.words import region_text
from bids_sr.frozen import frozen
from bids_sr.glm.region_growth import ACTIVE_CC, REACH_MM, ring
from bids_sr.io.arrays import Float, Mask, Real
from bids_sr.metrics.flags import FLAGS
from bids_sr.metrics.number_text import number
from bids_sr.metrics.rows import MISSING, MetricRow

# Share of the brain with CC of at least .5. One condition of real data reaches 1 %, all six of
# them together 7 %.
_BROAD_SHARE = 0.1
# Without correlation maps: share of the brain that is active at a false discovery rate of .05
# (real data: 9 %).
_BROAD_FDR_SHARE = 0.3
# How much higher CC is just outside the region of interest than inside it; maps of one run differ
# by less at random.
_MISPLACED_CC = 0.1
# A slice's residual beyond this many robust standard deviations above the median slice, this ratio
# to it, and this share of the mean signal: noise alone makes 1 to 2 % in the phantom, nearly
# nothing where one member is a copy.
SLICE_SD, SLICE_RATIO, SLICE_LEAST = 5.0, 2.0, 0.03
# Mean signal outside the head at half a field of view from it, over that in the head, above the
# rest of the background
_GHOST_SHARE = 0.1
_MIN_SLICES = 5
_MIN_VOXELS = 20


@frozen
class Flag:
    """One flag of quality control.

    `raised`: None where it could not be evaluated. `series`: series that it is about; ``run`` for
    no single one.
    """

    name: str
    raised: bool | None
    text: str
    contrast: str = MISSING
    series: str = "run"

    @property
    def remedy(self) -> str:
        """What to do where it is raised."""
        return FLAGS[self.name].remedy.format(series=self.series)

    def row(self) -> MetricRow:
        """Return it as a row of the evaluation: 1, 0, or n/a.

        Row of the statistic of the flag; NaN where it is not known.
        """
        value = math.nan if self.raised is None else float(self.raised)
        return MetricRow(
            series=self.series, statistic=f"flag_{self.name}", value=value, contrast=self.contrast
        )


def raised_flags(rows: Iterable[MetricRow]) -> dict[str, list[str]]:
    """Return the series for which each flag is raised, of the flags that could be evaluated.

    The flags are in the order of `FLAGS`; one that is not raised has no series.
    """
    names = {f"flag_{name}": name for name in FLAGS}
    known = [row for row in rows if row.statistic in names and math.isfinite(row.value)]
    flagged = {names[row.statistic]: list[str]() for row in known}
    for row in known:
        if row.value > 0:
            flagged[names[row.statistic]].append(row.series)
    return {name: flagged[name] for name in FLAGS if name in flagged}


_PAIR_IMAGES = {"lowres": "low-resolution", "highres": "high-resolution"}


def _task_flag(cc: Real, roi: Mask, mask: Mask, contrast: str) -> Flag:
    """Flag a task that was not done: CC > .5 in the brain, but nowhere in the ROI.

    "Task not done" are the paper's words.

    `cc`: map of correlation with the condition (3D, -1 to 1). The flag is unknown without voxels
    inside and outside.
    """
    inside = roi & mask
    outside = mask & ~roi
    raised = None
    text = (
        "The region of interest contains the whole brain or no part of the brain, so activity"
        " inside and outside the region cannot be compared."
    )
    if inside.any() and outside.any():
        here, elsewhere = float(cc[inside].max()), float(cc[outside].max())
        text = (
            f"For the contrast {contrast}, the highest cross-correlation (CC) is {here:.2f} in"
            f" the region of interest and {elsewhere:.2f} elsewhere in the brain."
        )
        raised = here < ACTIVE_CC < elsewhere
    return Flag(name="task_not_done", raised=raised, text=text, contrast=contrast, series="raw")


def _broad_flag(
    contrast: str, mask: Mask, *, cc: Real | None = None, fdr: Mask | None = None
) -> Flag:
    """Flag very broad activation: CC ≥ .5 in a tenth of the brain.

    Without CC, it is 30 % of the brain active at FDR .05.

    `cc`: map of correlation with the condition (3D, -1 to 1), or None. `fdr`: voxels active at FDR
    .05 (3D, boolean), used without correlation; or None.
    """
    if cc is not None:
        share = float((cc[mask] >= ACTIVE_CC).mean())
        limit = _BROAD_SHARE
        what = f"a cross-correlation (CC) of at least {ACTIVE_CC}"
    elif fdr is not None:
        share = float(fdr[mask].mean())
        limit = _BROAD_FDR_SHARE
        what = "significant activation (FDR .05)"
    else:
        raise ValueError(
            "test of broad activation: expected a correlation map or an FDR region; neither was"
            " specified"
        )
    text = (
        f"For the contrast {contrast}, {100 * share:.1f} % of the brain has {what} (limit:"
        f" {100 * limit:.0f} %)."
    )
    return Flag(name="broad", raised=share > limit, text=text, contrast=contrast, series="raw")


def _misplaced_flag(cc: Real, roi: Mask, mask: Mask, affine: Float, contrast: str) -> Flag:
    """Flag a misplaced region of interest.

    CC just outside it, up to 10 mm, is .5 or more and clearly higher than inside.

    `cc`: map of correlation with the condition (3D, -1 to 1). The flag is unknown where brain is
    lacking in or around the region.
    """
    inside = roi & mask
    around = ring(roi, mask, affine)
    raised = None
    text = "The region of interest or its surroundings contain no brain voxels."
    if inside.any() and around.any():
        here, near = float(cc[inside].max()), float(cc[around].max())
        text = (
            f"For the contrast {contrast}, the highest cross-correlation (CC) is {here:.2f} in"
            f" the region of interest and {near:.2f} within {REACH_MM:g} mm around this region."
        )
        raised = near >= ACTIVE_CC and near - here > _MISPLACED_CC
    return Flag(name="roi_misplaced", raised=raised, text=text, contrast=contrast, series="raw")


def _slice_residuals(lowres: Real, degraded: Real, mask: Mask) -> Float:
    """Return rms residual of lowres and degraded highres over the mean in the mask, by slice.

    One gain for the whole image (least squares) makes the two comparable; a gain a slice would
    hide a bad slice. NaN for slices with few voxels of the mask.

    `degraded`: high-resolution image of the pair, downsampled to the same grid (3D).
    """
    low, other = np.asarray(lowres, dtype=np.float64), np.asarray(degraded, dtype=np.float64)
    power = float((other[mask] ** 2).sum())
    gain = float((low[mask] * other[mask]).sum()) / power if power else 0.0
    rest = low - gain * other
    scale = float(low[mask].mean())
    out = np.full(low.shape[2], np.nan)
    for k in range(low.shape[2]):
        if mask[:, :, k].sum() >= _MIN_VOXELS and scale > 0:
            out[k] = np.sqrt(np.mean(rest[:, :, k][mask[:, :, k]] ** 2)) / scale
    return out


def _outlying_slices(residuals: Float) -> list[int]:
    """Return slices with a residual far above the others', by median and MAD.

    MAD is the median absolute deviation.

    `residuals`: over mean signal, one value a slice; NaN where unknown. Returns numbers of slices,
    counted from 0; none with fewer than five known.
    """
    known = residuals[np.isfinite(residuals)]
    if len(known) < _MIN_SLICES:
        return []
    middle = float(np.median(known))
    spread = 1.4826 * float(np.median(np.abs(known - middle)))
    limit = max(middle + SLICE_SD * spread, SLICE_RATIO * middle, SLICE_LEAST)
    return [int(k) for k in np.flatnonzero(np.nan_to_num(residuals, nan=-np.inf) > limit)]


def _ghost_share(image: Real, head: Mask) -> float:
    """Return the share of the ghost at half a field of view.

    It is the mean background signal there above the other background, over the mean signal in the
    head.

    The larger one of the two in-plane axes, as the direction of phase encoding may be unknown; NaN
    where the head fills the image. It is below 0 where the rest is brighter.

    `image`: image with its background (3D, real), of which magnitudes are taken. `head`: voxels of
    the head on the same grid (3D, boolean).
    """
    values = np.abs(np.asarray(image, dtype=np.float64))
    inside = float(values[head].mean()) if head.any() else 0.0
    shares = []
    for axis in (0, 1):
        shifted = np.roll(head, head.shape[axis] // 2, axis=axis)
        ghost, rest = shifted & ~head, ~shifted & ~head
        if min(int(ghost.sum()), int(rest.sum())) >= _MIN_VOXELS and inside > 0:
            shares.append((float(values[ghost].mean()) - float(values[rest].mean())) / inside)
    return max(shares, default=math.nan)


def artifact_flag(lowres: Real, degraded: Real, mask: Mask, head: Mask) -> Flag:
    """Flag slices in which the pair disagrees far more than in others, or a ghost in either.

    `degraded` is highres downsampled to the resolution of lowres; `head` is everything that gives
    signal.

    Parameters
    ----------
    lowres : Real
        Low-resolution image of the pair (3D).
    degraded : Real
        High-resolution image of the pair, downsampled to the same grid (3D).
    mask : Mask
        Voxels to compare, on that grid (3D, boolean).
    head : Mask
        Voxels with signal on that grid (3D, boolean).

    Returns
    -------
    Flag
        Flag of the pair, with slices and ghosts that were found.
    """
    bad = _outlying_slices(_slice_residuals(lowres, degraded, mask))
    ghosts = {"lowres": _ghost_share(lowres, head), "highres": _ghost_share(degraded, head)}
    worst = [
        f"the {_PAIR_IMAGES[name]} image has a ghost with {100 * share:.0f} % of the signal"
        for name, share in ghosts.items()
        if share > _GHOST_SHARE
    ]
    reasons = [
        f"the images disagree in slices {', '.join(map(str, bad))} (numbered from 0)"
    ] * bool(bad) + worst
    text = (
        f"In the T2* pair, {'; '.join(reasons)}."
        if reasons
        else "The images of the T2* pair agree in all slices, and no ghosts were detected."
    )
    return Flag(name="artifact", raised=bool(reasons), text=text)


def distortion_flag(rows: Sequence[MetricRow], acquired_mm: float) -> Flag | None:
    """Flag edges of boldref and highres over half a voxel apart; None where not measured.

    The voxel is an acquired one.

    Where the rows have the flag already, it gets its text and is not evaluated again.
    """
    values = {row.statistic: row.value for row in rows}
    apart = values.get("edge_mismatch", math.nan)
    if not math.isfinite(apart):
        return None
    limit = acquired_mm / 2
    text = (
        f"The edges in the boldref and in the T2*-weighted image are {apart:.1f} mm apart (limit:"
        f" half an acquired voxel, {limit:.1f} mm)."
    )
    return Flag(
        name="distortion", raised=bool(values.get("flag_distortion", apart > limit)), text=text
    )


def harm_flags(rows: Sequence[MetricRow], methods: Sequence[str]) -> list[Flag]:
    """Flag methods whose fine detail is worse than none.

    Their explained variance of a reference, or their tested share, is below 0.

    A method of which neither is known has no flag, not even one that is down.
    """
    evidence = accuracy(rows, methods)
    flags = []
    by_share = evidence is not None and evidence.reference is not MAPS
    for method in methods:
        levels = (
            [evidence.row(method, region) for region in evidence.regions]
            if evidence and by_share
            else []
        )
        tested = (row for row in rows if row.statistic == TESTED and row.series == method)
        known = [row for row in (*levels, *tested) if row is not None and math.isfinite(row.value)]
        below = [row for row in known if below_zero(row)]
        if known:
            worst = "; ".join(_harm_text(row) for row in below)
            text = (
                f"The detail added by {method} is wrong ({worst})."
                if below
                else f"The detail added by {method} was not found to be wrong."
            )
            flags.append(Flag(name="harm", raised=bool(below), text=text, series=method))
    return flags


def _harm_text(row: MetricRow) -> str:
    """Return the value that is below 0, with its region and contrast or the name of its test."""
    share = number(row.value, ".0%")
    if row.statistic == TESTED:
        return f"reduction in squared error in the self-test: {share}"
    where = region_text(row.region)
    return f"explained variance {share} in the contrast {row.contrast}, {where}"


def activation_flags(
    maps: Mapping[str, Real],
    roi: Mask,
    mask: Mask,
    affine: Float,
    fdr: Mapping[str, Mask] | None = None,
) -> list[Flag]:
    """Return the flags on the acquired series' CC maps, three for each condition.

    Without CC, there is breadth alone, by FDR regions.

    Parameters
    ----------
    maps : Mapping[str, Real]
        Correlation maps of the acquired series by condition (3D each).
    roi : Mask
        Voxels of the region of interest on the grid of the maps (3D, boolean).
    mask : Mask
        Voxels of the brain on the grid of the maps (3D, boolean).
    affine : Float
        Voxel-to-world matrix of the maps (4 x 4, RAS+ mm).
    fdr : Mapping[str, Mask] | None, optional
        Regions active at FDR .05 by condition (3D each); None for none.

    Returns
    -------
    list[Flag]
        Flags by condition, raised or not.
    """
    flags = []
    for contrast, cc in maps.items():
        flags += [
            _task_flag(cc, roi, mask, contrast),
            _broad_flag(contrast, mask, cc=cc),
            _misplaced_flag(cc, roi, mask, affine, contrast),
        ]
    for contrast, region in (fdr or {}).items():
        if contrast not in maps:
            flags.append(_broad_flag(contrast, mask, fdr=region))
    return flags
