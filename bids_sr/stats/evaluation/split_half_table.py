"""Rows of the evaluation from split halves: every series, denoised B-spline, and the gains of the methods.

Controls are made of the B-spline series: `bsplineSmooth`, smoothed in space, and `bsplinePca`, reduced to few temporal
components. Width and number are chosen for each region, scale and contrast by what scores best the *other* way round
(halves of both series exchanged), which gives a control more freedom than a user has: for the correlation by the
correlation, for all that counts amplitude by the explained variance. What they reach is not resolution.
`control_best_*` is the best that any width or number reaches in hindsight.
"""

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from bids_sr.io import atomic_files
from bids_sr.io.array_types import Float, Float32, Mask
from bids_sr.metrics.long_tables import MetricRow
from bids_sr.metrics.measure_names import BANDS, parts_of
from bids_sr.series import MEASURED, PCA, SMOOTH, kind_of
from bids_sr.spatial.nyquist import beyond_nyquist
from bids_sr.stats.evaluation.effects_of_run import EffectFiles, on_grid, series_of_run, smoothed
from bids_sr.stats.evaluation.split_half import (
    METRICS,
    Inner,
    Key,
    Score,
    Scores,
    enough,
    gain_rows,
    halves_of,
    inner_products,
    score,
    score_rows,
    seeded,
)
from bids_sr.stats.glm.block_effects import Effects, load_effects
from bids_sr.stats.glm.blocks import missing_conditions

ACTIVE_T = (3.0, 4.0, 5.0, 6.0)
LOGGER = logging.getLogger(__name__)
_LEAST_MEAN = 0.05  # of the brain's median: percent of less than this is no percent of signal


@dataclass(kw_only=True)
class Frame:
    """What all series share, and how one series is scored in it.

    Bands: the unit of the signal; percent of *one* mean image, the measured one's (in percent of each series' own mean
    sharper static images alone look like better function); and the band beyond the acquired Nyquist limit, which the
    acquisition did not contain: in-plane Fourier coefficients of whole slices at or beyond it, taken before masking;
    where series of other programs are judged, also the band within that limit.
    """

    mask: Mask  # (X, Y, Z) brain
    factor: tuple[float, ...]  # acquired over high-resolution voxel by axis
    bands: tuple[str, ...]  # scales that are scored
    halves: Mapping[str, Float]  # by contrast, weights (2, B)
    draws: Mapping[str, Float | None]  # by contrast, resampled weights (2, n_boot, B) or None
    # by contrast, then by name, the voxels for source half 0 and for source half 1
    regions: Mapping[str, Mapping[str, tuple[Mask, Mask]]]
    mean: Float32 | None = None  # (X, Y, Z) the common mean image, or None without a measured series
    # by band, the measured block maps in the N voxels of the mask (N, B); empty without a measured series
    targets: dict[str, Float32] = field(default_factory=dict)
    _own: dict[tuple[str, str, str, int], Float] = field(default_factory=dict)

    def units(self, contrast: str, _: float = 0.0) -> int:
        """Blocks that count in a contrast."""
        return int(np.count_nonzero(self.halves[contrast]))

    def banded(self, betas: Float32, band: str) -> Float32:
        """Block maps (X, Y, Z, B) on one of the scales, then in the voxels of the mask, (N, B)."""
        if band == "beyond":
            return beyond_nyquist(betas, self.factor)[self.mask]
        if band == "within":
            return betas[self.mask] - beyond_nyquist(betas, self.factor)[self.mask]
        if band == "percent":
            assert self.mean is not None
            floor = _LEAST_MEAN * float(np.median(self.mean[self.mask]))
            scale = np.divide(100, self.mean, out=np.zeros_like(self.mean), where=self.mean > floor)
            return betas[self.mask] * scale[self.mask][:, None]
        return betas[self.mask]

    def scores(self, betas: Float32, kinds: Sequence[str] = ("split", "self")) -> Scores:
        """Scores of one series by kind and metric (`split_ev`), band, contrast and region.

        Parameters
        ----------
        betas : (X, Y, Z, B) block maps on the high-resolution grid
        kinds : "split" (against the other half of the measured series) and "self" (of the series itself)
        """
        out: Scores = {}
        for band in self.bands:
            maps = self.banded(betas, band)
            # percent of one mean image differs from signal by a fixed map: amplitudes are compared once
            metrics = METRICS if band != "percent" else METRICS[:1]
            for region, contrast, inners in self._inners(maps, band):
                weights = self.halves[contrast], self.draws[contrast]
                if "split" in kinds and self.targets:
                    found = score(inners, *weights, metrics)
                    out |= {(f"split_{name}", band, contrast, region): one for name, one in found.items()}
                if "self" in kinds and band != "percent":
                    own = [None if i is None else Inner(own=i.own, cross=i.own, target=i.own) for i in inners]
                    out["self_r", band, contrast, region] = score(own, *weights, METRICS[:1])["r"]
        return out

    def _inners(self, maps: Float32, band: str) -> Iterator[tuple[str, str, list[Inner | None]]]:
        """Inner products for every region of every contrast; brain and roi, the same for all, are made once."""
        made: dict[str, list[Inner | None]] = {}
        for contrast, regions in self.regions.items():
            for region, voxels in regions.items():
                shared = voxels[0] is voxels[1]
                inners = made.get(region) if shared else None
                if inners is None:
                    where = "" if shared else contrast
                    first = self._inner(maps, band, voxels[0], (band, region, where, 0))
                    inners = [first, first if shared else self._inner(maps, band, voxels[1], (band, region, where, 1))]
                    made[region] = inners
                yield region, contrast, inners

    def _inner(self, maps: Float32, band: str, voxels: Mask, key: tuple[str, str, str, int]) -> Inner | None:
        if not enough(voxels):
            return None
        inside = voxels[self.mask]
        series = maps[inside].T
        own = inner_products(series, series)
        if not self.targets:
            return Inner(own=own, cross=own, target=own)
        target = self.targets[band][inside].T
        if key not in self._own:
            self._own[key] = inner_products(target, target)
        return Inner(own=own, cross=inner_products(series, target), target=self._own[key])


def _active_regions(selecting: Effects, halves: Float, mask: Mask) -> dict[str, tuple[Mask, Mask]]:
    """Voxels of the mask with |t| above each threshold in half 0 and in half 1, by name of the region."""
    if selecting.smooth_variance is None:
        return {}
    first, second = (np.abs(selecting.smooth_t(half)) for half in halves)
    return {f"active{round(10 * t)}": (mask & (first > t), mask & (second > t)) for t in ACTIVE_T}


def make_frame(
    measured: Effects | None, selecting: Effects, contrasts: Mapping[str, Mapping[str, float]], *, mask: Mask,
    roi: Mask, factor: Sequence[float], n_boot: int, seed: int, within: bool = False,
) -> Frame:  # fmt: skip
    """The frame of a run.

    Parameters
    ----------
    measured : the high-resolution series of the same run, if there is one; on the grid of the mask
    selecting : the series whose t maps make the active regions, if it has any: measured, or else a baseline
    within : whether the acquired band is scored by itself, too
    """
    halves: dict[str, Float] = {}
    without: dict[str, list[str]] = {}
    for name, weights in contrasts.items():
        found, lost = selecting.halves(weights), missing_conditions(selecting.blocks, weights)
        if found is None:
            # the plan has told of runs of which none can be split
            LOGGER.info("contrast %s cannot be split in halves (%s)", name, ", ".join(lost) or "not estimable")
            continue
        if lost:
            without.setdefault(", ".join(lost), []).append(name)
        halves[name] = found
    for lacking, names in without.items():
        LOGGER.warning("%s excluded from split halves of %s: too few blocks", lacking, ", ".join(names))
    mask, roi = np.asarray(mask, dtype=bool), np.asarray(roi, dtype=bool) & mask
    if not enough(roi):
        LOGGER.warning("region of interest: %d voxels inside the brain; its figures are n/a", int(roi.sum()))
    there = {"percent": measured is not None, "beyond": max(factor) > 1, "within": within and max(factor) > 1}
    bands = tuple(band for band in BANDS if there.get(band, True))
    frame = Frame(
        mask=mask, factor=tuple(factor), bands=bands, halves=halves,
        draws=halves_of(selecting.blocks, halves, n_boot, seed), mean=None if measured is None else measured.mean,
        regions={
            name: {"brain": (mask, mask), "roi": (roi, roi)} | _active_regions(selecting, both, mask)
            for name, both in halves.items()
        },
    )  # fmt: skip
    if measured is not None:
        frame.targets = {band: frame.banded(measured.betas, band) for band in bands}
    return frame


CONTROL_FWHM_MM = (0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0)


def choose(tried: Mapping[float, Scores]) -> tuple[Scores, dict[Key, tuple[float, float]], dict[Key, float]]:
    """The control at the setting (width in mm, or number of components) that scores best the other way round.

    Returns scores; for r and explained variance the chosen setting with half 0 and with half 1 as source, and the best
    mean score of any setting.
    """
    scores: Scores = {}
    chosen: dict[Key, tuple[float, float]] = {}
    best: dict[Key, float] = {}
    settings = list(tried)
    for key in tried[settings[0]]:
        led = key if key[0] == "split_r" else ("split_ev", *key[1:])
        ways = np.array([tried[s][led].ways for s in settings])
        if not np.isfinite(ways).all():
            continue
        at = [int(ways[:, 1].argmax()), int(ways[:, 0].argmax())]
        own = [tried[settings[k]][key] for k in at]
        scores[key] = Score(
            ways=np.array([one.ways[way] for way, one in enumerate(own)]),
            draws=np.array([one.draws[way] for way, one in enumerate(own)]), limit=own[0].limit,
        )  # fmt: skip
        if led == key:
            chosen[key] = (settings[at[0]], settings[at[1]])
            best[key] = float(ways.mean(axis=1).max())
    return scores, chosen, best


def control_trials(frame: Frame, bspline: Effects) -> Iterator[tuple[str, dict[float, Scores]]]:
    """Name of each control and its scores by setting."""
    tried = {}
    for width in CONTROL_FWHM_MM:
        tried[width] = frame.scores(smoothed(bspline.betas, bspline.zooms, width), ("split",))
    yield SMOOTH, tried
    if bspline.ranks:
        yield PCA, {float(rank): frame.scores(bspline.reduced(rank), ("split",)) for rank in bspline.ranks}


def _control_rows(
    name: str, chosen: Mapping[Key, tuple[float, float]], best: Mapping[Key, float]
) -> Iterator[MetricRow]:
    """The setting of a control for r beyond Nyquist, mean of both ways; and what it reaches in hindsight."""
    for (stem, band, contrast, region), pair in chosen.items():
        place: dict[str, Any] = {"series": name, "against": MEASURED, "contrast": contrast, "region": region}
        if (stem, band) == ("split_r", "beyond"):
            measure = "control_fwhm" if name == SMOOTH else "control_rank"
            yield MetricRow(measure=measure, value=sum(pair) / 2, **place)
        metric = f"control_best_{parts_of(stem).figure}_{band}"
        yield MetricRow(measure=metric, value=best[stem, band, contrast, region], **place)


def split_half_rows(
    files: EffectFiles, mask: Mask, affine: Float, roi: Mask, contrasts: Mapping[str, Mapping[str, float]], *,
    factor: Sequence[float], n_boot: int = 1000, seed: int = 0,
    same_widths: Mapping[str, float] = MappingProxyType({}),
) -> list[MetricRow]:  # fmt: skip
    """All rows of a run's split halves; holds the maps of the measured series, of one baseline and of one more series.

    Parameters
    ----------
    files : of all series; `measured` is the truth, without it rows are `self_r_*` only, which compare nothing
    mask, affine, roi : (X, Y, Z) of the high-resolution grid; voxel to RAS mm
    factor : acquired over high-resolution voxel by axis
    n_boot, seed : resamples of blocks
    same_widths : of series of other programs, see `series_of_run`; with them the acquired band is scored by itself

    Raises
    ------
    ValueError : series of different runs or grids
    """
    measured = load_effects(files[MEASURED]) if MEASURED in files else None
    selecting = measured or load_effects(files.get("bspline", next(iter(files.values()))))
    if measured is not None:
        on_grid(measured, mask.shape, affine)
    frame = make_frame(
        measured, selecting, contrasts, mask=mask, roi=roi, factor=factor, n_boot=n_boot, seed=seed,
        within=bool(same_widths),
    )  # fmt: skip
    if selecting.betas.shape[:3] != mask.shape:
        raise ValueError(f"effects of {selecting.series} lie on another grid than the high-resolution mask")
    scores: dict[str, Scores] = {}
    controls: list[MetricRow] = []
    for name, betas, effects in series_of_run(files, selecting, mask.shape, affine, same_widths):
        scores[name] = frame.scores(betas)
        if name == "bspline" and measured is not None:
            for control, tried in control_trials(frame, effects):
                scores[control], chosen, best = choose(tried)
                controls += _control_rows(control, chosen, best)
    seeded(scores, seed)
    rows = [*map(_without_bound, score_rows(scores, frame.units)), *controls]
    if not any(math.isfinite(row.value) for row in rows):
        LOGGER.warning("no figure of the split halves is defined: %s", ", ".join(contrasts))
    return [*rows, *gain_rows(scores, "split", frame.units)]


def _without_bound(row: MetricRow) -> MetricRow:
    """A row, but n/a for what a measured half explains of the other, 2 - 1/r, where that is below 0.

    Its own noise is then larger than the detail that repeats. As a level beside other series it would read as if these
    were more accurate than the measurement.
    """
    if row.series != MEASURED or row.parts[:3] != (False, "split", "ev") or not row.value < 0:
        return row
    return replace(row, value=math.nan, lower=math.nan, upper=math.nan)


def save_effect_maps(
    files: EffectFiles, mask: Mask, affine: Float, contrasts: Mapping[str, Mapping[str, float]], *,
    factor: Sequence[float], path: Path,
) -> Path:  # fmt: skip
    """Write the effect of the main contrast in every series, within the box around the mask; whole or not at all.

    It is ``all`` where there is one, else the first contrast that can be split.

    Keys: ``contrast``, ``series`` (names, without ensemble members), ``affine`` (of the box), ``mask``, ``mean`` (the
    measured one, else the first series'), and ``effect_NAME`` and ``beyond_NAME`` (X, Y, Z): mean of both halves in
    signal units, whole and beyond the acquired Nyquist limit. Without a contrast that can be split, ``series`` is
    empty.
    """
    files = {name: file for name, file in files.items() if kind_of(name) != "member"}
    first = load_effects(files.get(MEASURED, next(iter(files.values()))))
    able = [name for name, weights in contrasts.items() if first.halves(weights) is not None]
    contrast = "all" if "all" in able else next(iter(able), "")
    where = np.argwhere(mask)
    low, high = (where.min(axis=0), where.max(axis=0) + 1) if len(where) else (np.zeros(3, int), np.array(mask.shape))
    box = tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    moved = np.array(affine, dtype=np.float64)
    moved[:3, 3] += moved[:3, :3] @ low
    arrays: dict[str, Any] = {"contrast": np.array(contrast), "affine": moved, "mask": mask[box]}
    names = []
    for file in files.values() if contrast else ():
        effects = load_effects(file)
        name, betas = on_grid(effects, mask.shape, affine)
        weights = effects.whole(contrasts[contrast])
        if weights is None:
            continue
        effect = betas @ weights.astype(np.float32)
        names.append(name)
        arrays[f"effect_{name}"] = effect[box]
        if max(factor) > 1:
            arrays[f"beyond_{name}"] = beyond_nyquist(effect, factor)[box]
        if effects.mean.shape == mask.shape and ("mean" not in arrays or name == MEASURED):
            arrays["mean"] = effects.mean[box]
    with atomic_files.whole_file(path) as part, open(part, "wb") as stream:
        np.savez(stream, **arrays, series=np.array(names, dtype=str))
    return path
