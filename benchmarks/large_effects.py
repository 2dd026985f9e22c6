"""Voxels with a large acquired effect in measured runs: added detail, noise, and darkness.

python benchmarks/large_effects.py OUT

OUT contains the results of `people.py effects DATA OUT` with the working directories of its calls.
The first table has a row per run and threshold of a large effect (percent of the mean brain
signal), for the contrast of all conditions. Explained variance of the detail is from the test at
half the resolution, and measured with the whole run at the final resolution (without a correction
for noise). `noise SNR` is the ratio of mean signal to the standard error of the effect, relative
to the other active voxels; the effect itself does not count as noise.

The second table has a row per limit of darkness (signal relative to the surroundings). The limit
is fixed with participants A and C, and checked with participant B: the limit with the largest
difference between the shares of dark voxels with and without a large effect, among limits that
hold for at most `MAX_OTHERS` of the other active voxels.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from _people_data import TESTED, TYPES, Tested
from _people_effects import PLACE, StoredEffects
from _table import keep

from bids_sr.evaluation.large_effects import (
    OTHERS,
    describe_large_effects,
    select_large_effects,
)
from bids_sr.evaluation.reference_maps import TRUE_T
from bids_sr.evaluation.tested_detail import iterate_tested_detail
from bids_sr.glm.block_effects import Effects
from bids_sr.glm.vein_signs import DARK_RATIO, LARGE_PERCENT, measure_darkness
from bids_sr.spatial.nyquist import beyond_nyquist

PERCENTS = (2.0, 3.0, 4.0, 5.0, 6.0)
LIMITS = (0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
MAX_OTHERS = 0.15
CONTRAST = "all"
Row = dict[str, Any]


class Images:
    """Images of one run on the high-resolution grid; effects in percent."""

    def __init__(self, folder: Path) -> None:
        self.stored = StoredEffects(folder / PLACE)
        series, measured = (
            Effects.load(self.stored.folder / f"{name}.npz") for name in ("sbl", "measured")
        )
        weights = series.run_weights(self.stored.contrasts[CONTRAST])
        assert weights is not None
        self.scale = 100 / float(series.mean[series.mask].mean())
        self.effect = series.effect(weights) * self.scale
        self.measured = beyond_nyquist(measured.effect(weights) * self.scale, self.stored.factor)
        with np.load(self.stored.folder / "t_maps.npz") as maps:
            self.t = maps[f"acquired/{CONTRAST}"]
        self.active = series.mask & (np.abs(self.t) > TRUE_T)
        self.darkness = measure_darkness(series.mean, series.mask, series.zooms)
        self.mean = series.mean

    def split(self, percent: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return active voxels with and without a large effect, and the added detail."""
        is_large, detail = select_large_effects(self.effect, self.stored.factor, percent)
        return self.active & is_large, self.active & ~is_large, detail

    def explain(self, voxels: np.ndarray, detail: np.ndarray) -> float:
        """Return the explained variance of the measured detail in a region; NaN if empty."""
        truth = self.measured[voxels]
        error = np.square(detail[voxels] - truth).sum()
        return float(1 - error / np.square(truth).sum()) if truth.size else np.nan

    def compare_noise(self, large: np.ndarray, others: np.ndarray) -> float:
        """Return the median of mean signal over standard error, relative to other voxels."""
        medians = [
            np.median(self.mean[voxels] * np.abs(self.t[voxels] / self.effect[voxels]))
            for voxels in (large, others)
        ]
        return float(medians[0] / medians[1]) if large.any() else np.nan


def tabulate_percents(title: str, images: Images) -> Iterator[Row]:
    """Yield a row per threshold of a large effect."""
    half = images.stored.half
    for percent in PERCENTS:
        effects = describe_large_effects(
            images.effect,
            images.active,
            images.darkness < DARK_RATIO,
            images.stored.factor,
            percent,
        )
        assert effects is not None
        large, others, detail = images.split(percent)
        tested = {
            row.region: f"{row.value:.2f} [{row.lower:.2f}, {row.upper:.2f}]"
            for row in iterate_tested_detail(
                half.reconstructed,
                half.acquired,
                {0.0: half.active_t[0.0]},
                {CONTRAST: images.stored.contrasts[CONTRAST]},
                (*images.stored.factor[:2], 1.0),
                percent,
            )
            if row.statistic == "ev"
        }
        yield {
            "run": title,
            "above (%)": percent,
            "median, 95th percentile (%)": f"{effects.median:.1f}, {effects.p95:.1f}",
            "voxels": effects.n,
            "active": effects.n_active,
            "share of detail": round(effects.detail_share, 2),
            "noise SNR": round(images.compare_noise(large, others), 2),
            "dark": f"{effects.dark_share:.2f}, others {effects.other_dark_share:.2f}",
            "tested": tested["acquired40"],
            "tested without": tested.get(OTHERS, "n/a"),
            "measured": round(images.explain(images.active, detail), 2),
            "measured without": round(images.explain(others, detail), 2),
        }


def tabulate_limits(runs: dict[Tested, Images]) -> list[Row]:
    """Return a row per limit of darkness, with the chosen limit marked."""
    rows: list[Row] = []
    gains = []
    for limit in LIMITS:
        row: Row = {"limit": limit}
        shares = []
        for run, images in runs.items():
            large, others, _ = images.split(LARGE_PERCENT)
            if not large.any():
                row[run.title] = "no large effect"
                continue
            dark = [float((images.darkness[voxels] < limit).mean()) for voxels in (large, others)]
            row[run.title] = f"{dark[0]:.2f}, others {dark[1]:.2f}"
            if run.person != "B":
                shares.append(dark)
        mean_large, mean_others = np.mean(shares, axis=0)
        gains.append(mean_large - mean_others if mean_others <= MAX_OTHERS else -np.inf)
        rows.append(row)
    for row, gain in zip(rows, gains, strict=True):
        row["chosen"] = "yes" if gain == max(gains) else ""
    return rows


def main(out: Path) -> None:
    """Write both tables."""
    runs = {
        run: Images(out / run.name)
        for run in (TYPES.get(f"{name}-types", run) for name, run in TESTED.items())
        if (out / run.name / PLACE / "about.json").exists()
    }
    rows = [row for run, images in runs.items() for row in tabulate_percents(run.title, images)]
    keep("large_effects", "Voxels with a large acquired effect, by threshold", rows)
    title = f"Share of dark voxels with and without an acquired effect above {LARGE_PERCENT:g} %"
    keep("large_effects_dark", title, tabulate_limits(runs))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
