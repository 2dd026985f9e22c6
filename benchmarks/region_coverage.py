"""Test the error of a region's mean: coverage of its 95 % interval in random regions and clusters.

python benchmarks/region_coverage.py DATA OUT [RUN ...]

DATA is the folder of `people.py`, RUN a name such as B2. The output of each call stays in
OUT/RUN/blind, as for `posterior.py`, and its values in OUT/RUN/regions.json, clusters.json and
small_sd.json; existing results are reused.

Truth is the same run as measured. Both mean series contain the same noise up to the acquired
Nyquist frequency, so that the noise of their difference is the measured noise above it, with the
part of it that `sbl` reconstructs. It is estimated as for every region, by the linear model of the
mean time series, here of the difference. Coverage: mean difference within the interval of
reconstruction error and this noise. The half-widths are of the interval that users get, with the
noise of the mean series of `sbl`.

Regions are connected. They grow from a random voxel by random neighbors, within the brain or
within voxels that are active in the acquired run. Their sizes are uniform on a logarithmic scale.

Clusters are from the acquired map with |t| > 4, as the program lists them, for each condition and
contrast. Their voxels on the high-resolution grid are a region.

The third table has voxels with the smallest SD: voxels whose local excess of acquired power over
noise is not above 0, and the tenth of the brain with the smallest SD.
"""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from _people_data import TESTED, Tested, make_tested
from _posterior_maps import CONTRASTS, Array, Stored, call, rounded
from _table import keep
from scipy import ndimage

from bids_sr.glm.clusters import largest_clusters
from bids_sr.glm.design import build_design, contrast_vector
from bids_sr.glm.region_means import MeanEffect, fit_mean_series, weigh_smoothed_mean
from bids_sr.sr.prior_maps.posterior import (
    N_SAMPLES,
    effect_scale,
    mean_error_sd,
)
from bids_sr.sr.steps.error_samples import interpolate_to_shape

SIZES = (20, 58, 171, 500)  # voxels, limits of the thirds on a logarithmic scale
REGIONS = 100  # per third, contrast, and kind of voxels
WIDTHS = (0.0, 5.0)
SEED = 85
ACTIVE_T = 4.0
CONDITIONS = {
    "A": ("body", "house", "scene", "object", "scramble"),
    "B1": ("living", "non_living", "gaussian"),
    "B2": ("living", "non_living", "gaussian"),
    "C": (),
}
"""Conditions whose clusters are tested, in addition to the contrasts of `posterior.py`."""
LOCAL_SD = 0.75  # acquired voxels, standard deviation of the average of the local excess


def grow(allowed: Array, size: int, rng: np.random.Generator) -> Array | None:
    """Return a connected region of a number of allowed voxels (X, Y, Z); None if there is no room.

    Each voxel is a random neighbor of the voxels before it.
    """
    region = np.zeros_like(allowed)
    start = tuple(rng.choice(np.argwhere(allowed)))
    known, border = {start}, [start]
    for _ in range(size):
        if not border:
            return None
        chosen = int(rng.integers(len(border)))
        border[chosen], border[-1] = border[-1], border[chosen]
        voxel = border.pop()
        region[voxel] = True
        for axis in range(3):
            for step in (-1, 1):
                near = (*voxel[:axis], voxel[axis] + step, *voxel[axis + 1 :])
                is_inside = 0 <= near[axis] < allowed.shape[axis]
                if is_inside and allowed[near] and near not in known:
                    known.add(near)
                    border.append(near)
    return region


def draw_regions(allowed: Array, rng: np.random.Generator) -> Iterator[tuple[int, Array]]:
    """Yield regions with their third, at most `REGIONS` per third."""
    for third, (least, most) in enumerate(itertools.pairwise(SIZES)):
        for _ in range(REGIONS if allowed.any() else 0):
            size = round(float(np.exp(rng.uniform(np.log(least), np.log(most)))))
            region = grow(allowed, size, rng)
            if region is not None:
                yield third, region


class RunErrors:
    """Mean series and errors of regions of one run.

    `series` and `difference` are `sbl`, and `sbl` minus the measured series, (voxels, T).
    """

    def __init__(self, stored: Stored) -> None:
        self.stored, self.mask = stored, stored.mask()
        self.series, measured = (
            np.asarray(stored.image(f"space-boldref_res-hr_desc-{name}_bold").dataobj, np.float32)[
                ..., stored.n_dummy :
            ].reshape(self.mask.size, -1)
            for name in ("sbl", "measured")
        )
        self.percent = 100 / float(measured[self.mask.ravel()].mean())
        self.difference = self.series - measured
        self.design = build_design(stored.events, **stored.design_options)
        self.samples = stored.draws[0].reshape(N_SAMPLES, -1)

    def scale(self, contrast: str) -> Array:
        """Return the square root of the local scale of a contrast, per voxel."""
        scale = effect_scale(
            self.acquired[contrast, "effect"],
            self.acquired[contrast, "variance"],
            self.stored.draws[1],
            self.stored.mask("acquired"),
            self.stored.zooms[0],
        )
        return np.sqrt(interpolate_to_shape(scale, self.mask.shape)).ravel()

    def has_excess(self, contrast: str) -> Array:
        """Return the voxels whose local acquired power exceeds noise (X, Y, Z)."""
        square = np.square(self.acquired[contrast, "effect"])
        excess = np.where(
            self.stored.mask("acquired"), square - self.acquired[contrast, "variance"], 0
        )
        zooms = self.stored.zooms[0]
        local_excess = ndimage.gaussian_filter(excess, LOCAL_SD * zooms[0] / zooms)
        return interpolate_to_shape(np.maximum(local_excess, 0), self.mask.shape) > 0

    @cached_property
    def acquired(self) -> Mapping[tuple[str, str], Array]:
        """Maps of the acquired series by contrast and statistic (x, y, z)."""
        return self.stored.fit_unsmoothed("acquired").maps

    @cached_property
    def errors(self) -> Mapping[tuple[str, str], Array]:
        """Maps of `sbl` minus the measured series by contrast and statistic (X, Y, Z)."""
        return self.stored.difference((0.0,))[0.0].maps

    def active(self, contrast: str) -> Array:
        """Return the voxels that are active in the acquired run, on the high-resolution grid."""
        t = interpolate_to_shape(self.acquired[contrast, "t"], self.mask.shape)
        return np.asarray(self.mask & (np.abs(t) > ACTIVE_T))

    def clusters(self, contrast: str) -> Iterator[Array]:
        """Yield the clusters of the acquired map on the high-resolution grid (X, Y, Z)."""
        acquired_mask = self.stored.mask("acquired")
        factor = [n // m for n, m in zip(self.mask.shape, acquired_mask.shape, strict=True)]
        t = self.acquired[contrast, "t"]
        affine = np.diag([*self.stored.zooms[0], 1.0])
        for cluster in largest_clusters(t, acquired_mask & (np.abs(t) > ACTIVE_T), affine):
            region = np.zeros(acquired_mask.shape, bool)
            region[tuple(cluster.voxels.T)] = True
            region = np.kron(region, np.ones(factor, bool)) & self.mask
            if region.any():
                yield region

    def measure_small_sds(self, contrast: str, scale: Array) -> dict[str, dict[str, float]]:
        """Return sums over voxels with the smallest SD and over other voxels of the brain."""
        variance = (np.square(scale) * np.square(self.samples).mean(axis=0)).reshape(
            self.mask.shape
        )
        error, noise = (self.errors[contrast, stat] for stat in ("effect", "variance"))
        is_inside = np.square(error) < 1.96**2 * (variance + noise)
        is_small = variance <= np.quantile(variance[self.mask], 0.1)
        has_excess = self.has_excess(contrast)
        regions = {
            "no local excess": self.mask & ~has_excess,
            "smallest tenth": self.mask & is_small,
            "all others": self.mask & has_excess & ~is_small,
            "brain": self.mask,
        }
        return {
            name: {
                "voxels": int(region.sum()),
                "inside": int(is_inside[region].sum()),
                "error": float((np.square(error) - noise)[region].sum()),
                "SD": float(variance[region].sum()),
                "zero": int((variance[region] <= 0).sum()),
            }
            for name, region in regions.items()
        }

    def measure(self, contrast: str, scale: Array, region: Array, width: float) -> dict[str, Any]:
        """Return errors of the mean of one region at one smoothing width."""
        weights = weigh_smoothed_mean(region, self.stored.zooms[1].tolist(), width).ravel()
        used = np.flatnonzero(weights)
        weights = weights[used]
        vectors = contrast_vector(self.design, contrast, self.stored.contrasts[contrast])[None]
        errors = self.samples[:, used]
        scaled = scale[used] * weights
        (sd,) = mean_error_sd(errors, scaled[None])
        own, difference = (
            fit_mean_series((weights @ series[used])[:, None], self.design, vectors, [contrast])[
                0
            ][contrast]
            for series in (self.series, self.difference)
        )
        return {
            "voxels": int(region.sum()),
            "mm": width,
            "inside": is_inside(difference, float(sd)),
            "inside, noise alone": is_inside(difference, 0.0),
            "error": difference.effect * self.percent,
            "noise": difference.noise_sd * self.percent,
            "SD": float(sd) * self.percent,
            "independent": float(
                np.sqrt(np.square(scaled) @ np.square(errors).mean(0)) * self.percent
            ),
            "same": float(scaled @ np.sqrt(np.square(errors).mean(0)) * self.percent),
            "half-width": half_width(own, float(sd)) * self.percent,
            "half-width, noise alone": half_width(own, 0.0) * self.percent,
            "effect": abs(own.effect) * self.percent,
        }


def half_width(effect: MeanEffect, sd: float) -> float:
    """Return half the width of the 95 % interval."""
    lower, upper = effect.add_error(sd, N_SAMPLES).compute_interval()
    return (upper - lower) / 2


def is_inside(difference: MeanEffect, sd: float) -> bool:
    """Return whether the interval of a difference contains 0."""
    return abs(difference.effect) < half_width(difference, sd)


def open_run(tested: Tested, data: Path, out: Path) -> Stored:
    """Run the program on one run, unless its output exists."""
    low, truth = make_tested(tested, data, out)
    more = ("--truth", str(truth), "--calibration", "none")
    return call(low, out / tested.name / "blind", CONTRASTS[tested.name], *more)


def measure_regions(stored: Stored) -> list[dict[str, Any]]:
    """Return the errors of random regions of one run."""
    run, rng = RunErrors(stored), np.random.default_rng(SEED)
    rows: list[dict[str, Any]] = []
    for contrast in stored.contrasts:
        scale = run.scale(contrast)
        for kind, allowed in (("active", run.active(contrast)), ("brain", run.mask)):
            about = {"contrast": contrast, "kind": kind}
            rows += [
                about | {"third": third} | run.measure(contrast, scale, region, width)
                for third, region in draw_regions(allowed, rng)
                for width in WIDTHS
            ]
    return rows


def measure_clusters(stored: Stored) -> list[dict[str, Any]]:
    """Return the errors of clusters of the acquired maps."""
    conditions = CONDITIONS[stored.place.parent.name]
    run = RunErrors(replace(stored, expressions=(*stored.expressions, *conditions)))
    return [
        {"contrast": contrast} | run.measure(contrast, run.scale(contrast), region, 0.0)
        for contrast in run.stored.contrasts
        for region in run.clusters(contrast)
    ]


def measure_small_sds(stored: Stored) -> list[dict[str, Any]]:
    """Return sums over the voxels with the smallest SD of one run."""
    run = RunErrors(stored)
    return [
        {"contrast": contrast, "voxels of": name} | sums
        for contrast in stored.contrasts
        for name, sums in run.measure_small_sds(contrast, run.scale(contrast)).items()
    ]


MEASURES = {
    "regions": measure_regions,
    "clusters": measure_clusters,
    "small_sd": measure_small_sds,
}


def measure(tested: Tested, data: Path, out: Path, name: str) -> None:
    """Store the results of one of `MEASURES` for one run, unless they exist."""
    file = out / tested.name / f"{name}.json"
    if file.exists():
        return
    stored = open_run(tested, data, out)
    file.write_text(json.dumps(MEASURES[name](stored) if stored.applied else [], default=float))
    print(tested.name, name, "measured", flush=True)


def read_rows(tested: Tested, out: Path, name: str) -> pd.DataFrame:
    """Return the stored results of one run, empty if there are none."""
    file = out / tested.name / f"{name}.json"
    rows = pd.DataFrame(json.loads(file.read_text())) if file.exists() else pd.DataFrame()
    return rows.assign(run=tested.title) if len(rows) else rows


def interval_of_fraction(n_inside: float, n: int) -> str:
    """Return the 95 % interval of a fraction by Wilson."""
    center = (n_inside + 1.96**2 / 2) / (n + 1.96**2)
    half = 1.96 / (n + 1.96**2) * np.sqrt(n_inside * (n - n_inside) / n + 1.96**2 / 4)
    return f"{center - half:.3f} to {center + half:.3f}"


def summarize_clusters(rows: pd.DataFrame) -> dict[str, Any]:
    """Return one row of the table of clusters."""
    squares = {name: (rows[name] ** 2).mean() for name in ("error", "noise", "SD")}
    return {
        "number": len(rows),
        "voxels": float(rows["voxels"].median()) if rows["voxels"].notna().all() else "",
        "coverage": float(rows["inside"].mean()),
        "interval": interval_of_fraction(rows["inside"].sum(), len(rows)),
        "noise alone": float(rows["inside, noise alone"].mean())
        if rows["inside, noise alone"].notna().all()
        else "",
        "rms error / SD": float(
            np.sqrt(max(0.0, squares["error"] - squares["noise"]) / squares["SD"])
        ),
        "rms error / total SD": float(
            np.sqrt(squares["error"] / (squares["noise"] + squares["SD"]))
        ),
    }


def keep_clusters(people: Sequence[Tested], out: Path) -> None:
    """Keep the tables of clusters, and of voxels with the smallest SD."""
    clusters = pd.concat([read_rows(tested, out, "clusters") for tested in people])
    table = [
        {"run": run} | summarize_clusters(rows)
        for run, rows in [*clusters.groupby("run", sort=False), ("all", clusters)]
    ]
    keep(
        "cluster_coverage",
        "Coverage of 95 % intervals in clusters of acquired maps",
        [rounded(row) for row in table],
        remarks=["`interval` is the 95 % interval of the coverage if clusters are independent."],
    )
    small = pd.concat([read_rows(tested, out, "small_sd") for tested in people])
    table = []
    for (run, name), rows in small.groupby(["run", "voxels of"], sort=False):
        sums = rows[["voxels", "inside", "error", "SD", "zero"]].sum()
        table.append(
            {
                "run": run,
                "voxels of": name,
                "voxels": int(sums["voxels"]),
                "coverage": float(sums["inside"] / sums["voxels"]),
                "by contrast": ", ".join(f"{x:.3f}" for x in rows["inside"] / rows["voxels"]),
                "rms error / SD": float(np.sqrt(max(0.0, sums["error"]) / sums["SD"])),
                "SD 0": int(sums["zero"]),
            }
        )
    keep(
        "small_sd_coverage",
        "Coverage of 95 % intervals in voxels with the smallest SD",
        [rounded(row) for row in table],
        remarks=[
            "Sums over contrasts. *no local excess*: the local average (SD .75 acquired voxels) of"
            " the acquired power does not exceed noise."
        ],
    )


def summarize(rows: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Yield one row per third of sizes and smoothing."""
    for (mm, third), group in rows.groupby(["mm", "third"]):
        kinds = {
            f"{name} voxels": group[group["kind"] == kind]["inside"]
            for name, kind in (("active", "active"), ("all", "brain"))
        }
        error, noise, sd = (group[name] for name in ("error", "noise", "SD"))
        yield {
            "mm": mm,
            "voxels": f"{SIZES[third]} to {SIZES[third + 1]}",
            "regions": len(group),
            "coverage": float(group["inside"].mean()),
            **{
                name: float(inside.mean()) if len(inside) else "" for name, inside in kinds.items()
            },
            "noise alone": float(group["inside, noise alone"].mean()),
            "rms error / SD": float(
                np.sqrt(max(0.0, (error**2 - noise**2).mean()) / (sd**2).mean())
            ),
            "SD / independent": float((sd / group["independent"]).median()),
            "SD / same error": float((sd / group["same"]).median()),
            "effect, %": float(group["effect"].median()),
            "half-width, %": float(group["half-width"].median()),
            "half-width of noise, %": float(group["half-width, noise alone"].median()),
        }


def main(arguments: Sequence[str]) -> int:
    """Measure the selected runs, and make a table of all results."""
    if len(arguments) < 2:
        sys.exit(__doc__)
    data, out = Path(arguments[0]), Path(arguments[1])
    people = [replace(tested_run, one_type=False) for tested_run in TESTED.values()]
    for tested in people:
        if not arguments[2:] or tested.name in arguments[2:]:
            for name in MEASURES:
                measure(tested, data, out, name)
    keep_clusters(people, out)
    table, frames = [], []
    for tested in people:
        rows = read_rows(tested, out, "regions")
        if len(rows):
            frames.append(rows)
            table += [{"run": tested.title} | row for row in summarize(rows)]
    table += [{"run": "all"} | row for row in summarize(pd.concat(frames))]
    keep(
        "region_coverage",
        "Coverage of 95 % intervals of a region's mean effect of `sbl`",
        [rounded(row) for row in table],
        remarks=[
            "Medians of SDs and half-widths. In % of the mean signal of the brain. SD /"
            " independent: relative to the SD if the errors of voxels were independent; SD / same"
            " error: if they were fully correlated."
        ],
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
