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
from pathlib import Path
from typing import Any

import numpy as np

from bids_sr.io import atomic_files
from bids_sr.io.array_types import Float, Mask
from bids_sr.metrics.long_tables import MetricRow
from bids_sr.series import MEASURED, PCA, SMOOTH, kind_of
from bids_sr.spatial.nyquist import beyond_nyquist
from bids_sr.stats.evaluation.split_half import Key, Score, Scores, gain_rows, score_rows, seeded
from bids_sr.stats.evaluation.split_half_shared import Frame, PathLike, make_frame, named_files, on_grid, series_of_run
from bids_sr.stats.glm.block_effects import Effects, load_effects
from bids_sr.stats.glm.time_series import smooth

LOGGER = logging.getLogger(__name__)

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
        maps = [smooth(m, bspline.zooms, width) for m in np.moveaxis(bspline.betas, -1, 0)]
        tried[width] = frame.scores(np.stack(maps, axis=-1), ("split",))
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
        metric = f"control_best_{stem.removeprefix('split_')}_{band}"
        yield MetricRow(measure=metric, value=best[stem, band, contrast, region], **place)


def split_half_rows(
    paths: Sequence[PathLike], mask: Mask, affine: Float, roi: Mask, contrasts: Mapping[str, Mapping[str, float]], *,
    factor: Sequence[float], n_boot: int = 1000, seed: int = 0,
) -> list[MetricRow]:  # fmt: skip
    """All rows of a run's split halves; holds the maps of the measured series, of one baseline and of one more series.

    Parameters
    ----------
    paths : effects files of all series; `measured` is the truth, without it rows are `self_r_*` only
    mask, affine, roi : (X, Y, Z) of the high-resolution grid; voxel to RAS mm
    factor : acquired over high-resolution voxel by axis
    n_boot, seed : resamples of blocks

    Raises
    ------
    ValueError : series of different runs or grids
    """
    files = named_files(paths)
    measured = load_effects(files[MEASURED]) if MEASURED in files else None
    selecting = measured or load_effects(files.get("bspline", next(iter(files.values()))))
    if measured is not None:
        on_grid(measured, mask.shape, affine)
    frame = make_frame(measured, selecting, contrasts, mask=mask, roi=roi, factor=factor, n_boot=n_boot, seed=seed)
    if selecting.betas.shape[:3] != mask.shape:
        raise ValueError(f"effects of {selecting.series} lie on another grid than the high-resolution mask")
    scores: dict[str, Scores] = {}
    controls: list[MetricRow] = []
    for name, betas, effects in series_of_run(files, selecting, mask.shape, affine):
        scores[name] = frame.scores(betas)
        if name == "bspline" and measured is not None:
            for control, tried in control_trials(frame, effects):
                scores[control], chosen, best = choose(tried)
                controls += _control_rows(control, chosen, best)
    seeded(scores, seed)
    rows = [*score_rows(scores, frame.units), *controls]
    if not any(math.isfinite(row.value) for row in rows):
        LOGGER.warning("no figure of the split halves is defined: %s", ", ".join(contrasts))
    return [*rows, *gain_rows(scores, "split_" if frame.targets else "self_", frame.units)]


def main_contrast(contrasts: Mapping[str, Mapping[str, float]], effects: Effects) -> str | None:
    """``all`` where there is one, else the first contrast that can be split; None where none can."""
    able = [name for name, weights in contrasts.items() if effects.halves(weights) is not None]
    return "all" if "all" in able else next(iter(able), None)


def save_effect_maps(
    paths: Sequence[PathLike], mask: Mask, affine: Float, contrasts: Mapping[str, Mapping[str, float]], *,
    factor: Sequence[float], path: PathLike,
) -> Path:  # fmt: skip
    """Write the effect of the main contrast in every series, within the box around the mask; whole or not at all.

    Keys: ``contrast``, ``series`` (names, without ensemble members), ``affine`` (of the box), ``mask``, ``mean`` (the
    measured one, else the first series'), and ``effect_NAME`` and ``beyond_NAME`` (X, Y, Z): mean of both halves in
    signal units, whole and beyond the acquired Nyquist limit. Without a contrast that can be split, ``series`` is
    empty.
    """
    files = {name: file for name, file in named_files(paths).items() if kind_of(name) != "member"}
    contrast = main_contrast(contrasts, load_effects(files.get(MEASURED, next(iter(files.values())))))
    where = np.argwhere(mask)
    low, high = (where.min(axis=0), where.max(axis=0) + 1) if len(where) else (np.zeros(3, int), np.array(mask.shape))
    box = tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    moved = np.array(affine, dtype=np.float64)
    moved[:3, 3] += moved[:3, :3] @ low
    arrays: dict[str, Any] = {"contrast": np.array(contrast or ""), "affine": moved, "mask": mask[box]}
    names = []
    for file in files.values() if contrast else ():
        effects = load_effects(file)
        name, betas = on_grid(effects, mask.shape, affine)
        weights = effects.whole(contrasts[str(contrast)])
        if weights is None:
            continue
        effect = betas @ weights.astype(np.float32)
        names.append(name)
        arrays[f"effect_{name}"] = effect[box]
        if max(factor) > 1:
            arrays[f"beyond_{name}"] = beyond_nyquist(effect, factor)[box]
        if effects.mean.shape == mask.shape and ("mean" not in arrays or name == MEASURED):
            arrays["mean"] = effects.mean[box]
    target = Path(path)
    with atomic_files.whole_file(target) as part, open(part, "wb") as stream:
        np.savez(stream, **arrays, series=np.array(names, dtype=str))
    return target
