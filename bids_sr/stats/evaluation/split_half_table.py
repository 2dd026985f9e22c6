"""Rows of the evaluation from split halves: every series, the denoising controls, and the gains of the methods.

Controls are made of the B-spline series: `bsplineSmooth`, smoothed in space, and `bsplinePca`, reduced to few temporal
components. Width and number are chosen for each region, scale and contrast by what scores best the *other* way round
(halves of both series exchanged), which gives a control more freedom than a user has: for the correlation by the
correlation, for all that counts amplitude by the explained variance. What they reach is not resolution.
`control_best_*` is the best that any width or number reaches in hindsight.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from bids_sr.metrics.long_tables import MetricRow
from bids_sr.series import MEASURED, PCA, SMOOTH
from bids_sr.stats.evaluation.split_half import Score, gain_pairs, seeded
from bids_sr.stats.evaluation.split_half_shared import Frame, Key, make_frame, on_grid
from bids_sr.stats.glm.block_effects import Effects, load_effects, series_of
from bids_sr.stats.glm.blocks import Block
from bids_sr.stats.glm.time_series import smooth

Array = npt.NDArray[np.float32]
Float = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Scores = dict[Key, Score]
PathLike = str | os.PathLike[str]
LOGGER = logging.getLogger(__name__)

CONTROL_FWHM_MM = (0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0)


def _signature(block: Block) -> tuple[object, ...]:
    """What makes a block the same in two files; times to the millisecond."""
    return block.condition, block.half, block.used, tuple((round(a, 3), round(b, 3)) for a, b in block.events)


def check_same_run(effects: Sequence[Effects], reference: Effects) -> None:
    """Refuse effects whose blocks are not those of the reference.

    Raises
    ------
    ValueError : blocks differ; names both series
    """
    wanted = [_signature(block) for block in reference.blocks]
    for one in effects:
        if [_signature(block) for block in one.blocks] != wanted:
            raise ValueError(
                f"effects of {one.series} and of {reference.series} have different blocks: they are not of one run, or "
                "were made with other events or another model"
            )


def choose(tried: Mapping[float, Scores]) -> tuple[Scores, dict[Key, tuple[float, float]], dict[Key, float]]:
    """The control at the setting that scores best the other way round.

    Parameters
    ----------
    tried : scores by setting (width in mm, or number of components)

    Returns
    -------
    scores; for r and explained variance the chosen setting with half 0 and with half 1 as source, and the best mean
    score of any setting
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


def _control_rows(name: str, chosen: Mapping[Key, tuple[float, float]], best: Mapping[Key, float]) -> list[MetricRow]:
    """What a control was given, mean of both ways, for r beyond Nyquist; and what it reaches in hindsight."""
    measure = "control_fwhm" if name == SMOOTH else "control_rank"
    rows = []
    for (stem, band, contrast, region), pair in chosen.items():
        given = {"series": name, "against": MEASURED, "contrast": contrast, "region": region}
        if (stem, band) == ("split_r", "beyond"):
            rows.append(MetricRow(measure=measure, value=sum(pair) / 2, **given))  # type: ignore[arg-type]
        figure = f"control_best_{stem.removeprefix('split_')}_{band}"
        value = best[stem, band, contrast, region]
        rows.append(MetricRow(measure=figure, value=value, **given))  # type: ignore[arg-type]
    return rows


def _score_rows(series: str, scores: Scores, frame: Frame) -> list[MetricRow]:
    rows = []
    for (stem, band, contrast, region), found in scores.items():
        low, high = found.interval
        rows.append(
            MetricRow(
                series=series, against="self" if stem == "self_r" else MEASURED, measure=f"{stem}_{band}",
                value=found.value, lower=low, upper=high, contrast=contrast, region=region, n=_units(frame, contrast),
            )
        )  # fmt: skip
    return rows


def _units(frame: Frame, contrast: str) -> int:
    return int(np.count_nonzero(frame.halves[contrast]))


def _gain_rows(scores: Mapping[str, Scores], frame: Frame) -> list[MetricRow]:
    """Each method against baselines, controls, other methods and its placebos; against the truth where there is one."""
    kind = "split_" if frame.targets else "self_"
    names = [name for name in scores if name != MEASURED]
    rows = []
    for method, other in gain_pairs(names):
        for key, found in scores[method].items():
            if not key[0].startswith(kind) or key not in scores[other]:
                continue
            value, low, high = found.less(scores[other][key])
            stem, band, contrast, region = key
            rows.append(
                MetricRow(
                    series=method, against=other, measure=f"gain_{stem}_{band}", value=value, lower=low, upper=high,
                    contrast=contrast, region=region, n=_units(frame, contrast),
                )
            )  # fmt: skip
    return rows


def named_files(paths: Sequence[PathLike]) -> dict[str, PathLike]:
    """Effects files by series.

    Raises
    ------
    ValueError : two files of one series
    """
    out: dict[str, PathLike] = {}
    for path in paths:
        name = series_of(path)
        if name in out:
            raise ValueError(f"{path} and {out[name]} are both effects of {name}")
        out[name] = path
    return out


def split_half_rows(
    paths: Sequence[PathLike],
    mask: Mask,
    affine: Float,
    roi: Mask,
    contrasts: Mapping[str, Mapping[str, float]],
    *,
    factor: Sequence[float],
    n_boot: int = 1000,
    seed: int = 0,
) -> list[MetricRow]:
    """All rows of a run's split halves; holds the maps of the measured series, of one baseline and of one more series.

    Parameters
    ----------
    paths : effects files of all series; `measured` is the truth, without it rows are `self_r_*` only
    mask, affine, roi : (X, Y, Z) of the high-resolution grid; voxel to RAS mm
    contrasts : name to weights of conditions
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
    frame = make_frame(
        measured, selecting, contrasts, mask=mask, roi=roi, factor=factor, n_boot=n_boot, seed=seed
    )  # fmt: skip
    if selecting.betas.shape[:3] != mask.shape:
        raise ValueError(f"effects of {selecting.series} lie on another grid than the high-resolution mask")
    scores: dict[str, Scores] = {}
    rows: list[MetricRow] = []
    for path in files.values():
        effects = load_effects(path)
        check_same_run([effects], selecting)
        name, betas = on_grid(effects, mask.shape, affine)
        scores[name] = frame.scores(betas)
        if name == "bspline" and measured is not None:
            for control, tried in control_trials(frame, effects):
                scores[control], chosen, best = choose(tried)
                rows += _control_rows(control, chosen, best)
    seeded(scores, seed)
    rows = [*(row for name, found in scores.items() for row in _score_rows(name, found, frame)), *rows]
    if not any(math.isfinite(row.value) for row in rows):
        LOGGER.warning("no figure of the split halves is defined: %s", ", ".join(contrasts))
    return rows + _gain_rows(scores, frame)
