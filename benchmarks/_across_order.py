"""Super-resolution in plane and fusion across slices, in both orders.

Runs are downsampled by two in plane and across slices, and `sbl` is estimated on each run with
thick slices, as in the program.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _across_runs import ThickRun
from _people_effects import Acquired, detail
from _people_measured import FACTOR
from _table import keep
from across import Pair, Parts, explained_variance, fuse_blocks, interval, pair_of, thick_runs
from slow_fluctuations import fitted

from bids_sr.combination.slice_fusion import (
    THIN_PER_THICK,
    interpolate_thin,
    sample_at_columns,
    thin_prior_sd,
)
from bids_sr.io.arrays import Array, Float
from bids_sr.spatial.resampling import sample_volume
from bids_sr.sr.matrices import apply_along, bspline_matrix, kspace_crop
from bids_sr.sr.prior_maps.prior import Prior
from bids_sr.sr.prior_maps.temporal_components import temporal_statistics


@dataclass(frozen=True, kw_only=True)
class LowRun:
    """A run that is low-resolution in plane, with thick slices, and its variance maps."""

    thick: ThickRun
    low: Acquired
    prior: Prior

    @property
    def effects(self) -> Array:
        """Block effects (B, x, y, m)."""
        weights = self.thick.thin.design.weights.astype(np.float32)
        return np.moveaxis(self.low.low @ weights, 3, 0)

    @property
    def components(self) -> Array:
        """Slow temporal components (C, x, y, m)."""
        statistics = temporal_statistics(
            self.low.reader, self.low.mask, nuisance=self.thick.thin.nuisance
        )
        return statistics.components

    def super_resolved(self, images: Array) -> Array:
        """Return images (N, x, y, m) or (N, x, y, 2 m) at the high resolution in plane."""
        slices = torch.from_numpy(np.moveaxis(images, 3, 1).astype(np.float32).copy())
        level = self.low.level.restrict_to_plane(slices.shape[1])
        if slices.shape[1] == self.low.low.shape[2]:
            added_detail = detail(self.prior, level, slices)
        else:  # thin slices have the variance maps of their thick slice
            with torch.inference_mode():
                slices_detail = [
                    self.prior.make_slice_function(k // THIN_PER_THICK)(s)
                    for k, s in enumerate(slices.unbind(1))
                ]
                added_detail = level.select_above_nyquist(torch.stack(slices_detail, 1))
        return np.moveaxis((level.upsample(slices) + added_detail).numpy(), 1, 3)


def low_run(thick: ThickRun) -> LowRun:
    """Downsample a run with thick slices by two in plane, and estimate its variance maps."""
    volumes = []
    for volume in np.moveaxis(thick.series, 3, 0):
        low, affine = kspace_crop(
            volume.astype(np.complex64), thick.thin.thick_affine, factor=FACTOR
        )
        volumes.append(np.abs(low).astype(np.float32))
    run = Acquired(
        name=thick.thin.name,
        measured=thick.series,
        low=np.stack(volumes, 3),
        affine=affine,
        tr=thick.thin.tr,
        events=thick.thin.events,
        poses=thick.thin.poses,
    )
    _, prior = fitted(run, slow=True)
    return LowRun(thick=thick, low=run, prior=prior)


def rms(images: Array) -> Float:
    """Return the root of the sum of squares over images (N, ...)."""
    return np.sqrt(np.square(images, dtype=np.float64).sum(axis=0))


def estimates(pair: Pair, first: LowRun, second: LowRun) -> Iterator[tuple[str, Parts]]:
    """Yield methods, and the contributions of the blocks of each run."""
    thin, affine = pair.first.thin, pair.first.thin.affine
    shape = thin.series.shape[:3]
    first_effects, second_effects = first.effects, second.effects
    counts = len(first_effects), len(second_effects)
    nothing = np.zeros((counts[1], *shape))
    columns = pair.first.columns
    low_columns = columns[0::2, 0::2] | columns[1::2, 1::2]

    def moved(images: Array, grid: Array) -> Array:
        sampled = [sample_volume(i, grid, shape, affine, pair.first_to_second) for i in images]
        return np.stack(sampled) / counts[1]

    def in_plane_spline(images: Array) -> Array:
        for axis, size in ((1, shape[0]), (2, shape[1])):
            images = apply_along(bspline_matrix(images.shape[axis], size), images, axis)
        return images

    plain = in_plane_spline(interpolate_thin(first_effects)) / counts[0]
    yield "splines, first run", (plain, nothing)
    yield "splines, mean of both runs", (plain / 2, moved(second_effects, second.low.affine) / 2)
    fine_own, fine_other = (
        first.super_resolved(first_effects),
        second.super_resolved(second_effects),
    )
    splined = interpolate_thin(fine_own) / counts[0]
    yield "sbl in plane, spline across, first run", (splined, nothing)
    thick_affine = second.thick.thin.thick_affine
    both = splined / 2, moved(fine_other, thick_affine) / 2
    yield "sbl in plane, spline across, mean of both runs", both
    resampled, positions = sample_at_columns(
        second_effects,
        second.low.affine,
        first_effects.shape[1:3],
        first.low.affine,
        pair.first_to_second,
    )
    prior = thin_prior_sd(rms(first.components))
    coarse = fuse_blocks(first_effects, resampled, positions, prior, low_columns)
    yield (
        "fusion across, splines in plane",
        (in_plane_spline(coarse[0]), in_plane_spline(coarse[1])),
    )
    yield (
        "fusion across, then sbl in plane",
        (
            first.super_resolved(coarse[0]),
            first.super_resolved(coarse[1]),
        ),
    )
    resampled, positions = sample_at_columns(
        fine_other, thick_affine, shape[:2], pair.first.thin.thick_affine, pair.first_to_second
    )
    prior = thin_prior_sd(rms(first.super_resolved(first.components)))
    fused = fuse_blocks(fine_own, resampled, positions, prior, columns)
    yield "sbl in plane, then fusion across", fused


def order(data: Path) -> None:
    """Compute the explained variance of both orders."""
    thick = thick_runs(data)
    low = [low_run(run) for run in thick]
    rows: list[dict[str, Any]] = []
    for first, second in ((0, 1), (1, 0)):
        pair = pair_of(thick[first], thick[second])
        best: dict[str, Float] = {}
        for method, parts in estimates(pair, low[first], low[second]):
            row: dict[str, Any] = {"runs": pair.name, "method": method}
            for name, shares in (("first run", (1.0, 0.0)), ("both", (0.5, 0.5))):
                values = explained_variance(parts, pair.thin_effects, shares, pair.first.active)
                row[name] = round(float(values[0]), 3)
                if "fusion" not in method:
                    row[f"gain, {name}"] = ""
                    if name not in best or values[0] > best[name][0]:
                        best[name] = values
                else:
                    gain = values - best[name]
                    row[f"gain, {name}"] = f"{gain[0]:+.3f} ± {interval(gain):.3f}"
            rows.append(row)
            print(rows[-1], flush=True)
    keep(
        "across_order",
        "Super-resolution in plane and fusion across slices, in both orders",
        rows,
        remarks=[
            "Runs of 6 x 6 x 7 mm made of measured runs of 3 x 3 x 3.5 mm; `sbl` without a"
            " calibration run. Explained variance of the noise-free measured thin effect,"
            " unsmoothed, mean of all blocks, in voxels with |t| > 4 in the splined thick series"
            " of the first run (3 x 3 x 7 mm). `gain`: over the best of the first four methods,"
            " 95 % by a jackknife over blocks. After a fusion across slices, thin slices have the"
            " variance maps of their thick slice.",
        ],
    )
