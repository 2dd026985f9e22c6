"""Test the error of a region's mean: coverage of its 95 % interval in random regions.

python benchmarks/region_coverage.py DATA OUT [RUN ...]

DATA is the folder of `people.py`, RUN a name such as B2. The output of each call stays in
OUT/RUN/blind, as for `posterior.py`, and its values in OUT/RUN/regions.json; existing results are
reused.

Truth is the same run as measured. Both mean series contain the same noise up to the acquired
Nyquist frequency, so that the noise of their difference is the measured noise above it, with the
part of it that `sbl` reconstructs. It is estimated as for every region, by the linear model of the
mean time series, here of the difference. Coverage: mean difference within the interval of
reconstruction error and this noise. The half-widths are of the interval that users get, with the
noise of the mean series of `sbl`.

Regions are connected. They grow from a random voxel by random neighbors, within the brain or
within voxels that are active in the acquired run. Their sizes are uniform on a logarithmic scale.
"""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from _people_data import TESTED, Tested, make_tested
from _posterior_maps import CONTRASTS, Array, Stored, call, rounded
from _table import keep

from bids_sr.glm.design import build_design, contrast_vector
from bids_sr.glm.region_means import MeanEffect, fit_mean_series, weigh_smoothed_mean
from bids_sr.sr.prior_maps.posterior import (
    N_SAMPLES,
    effect_scale,
    mean_error_sd,
)
from bids_sr.steps.error_samples import interpolate_to_shape

SIZES = (20, 58, 171, 500)  # voxels, limits of the thirds on a logarithmic scale
REGIONS = 100  # per third, contrast, and kind of voxels
WIDTHS = (0.0, 5.0)
SEED = 85
ACTIVE_T = 4.0


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
        settings = stored.settings((0.0,))
        self.series, measured = (
            np.asarray(stored.image(f"res-hr_desc-{name}_bold").dataobj, np.float32)[
                ..., settings.n_dummy :
            ].reshape(self.mask.size, -1)
            for name in ("sbl", "measured")
        )
        self.percent = 100 / float(measured[self.mask.ravel()].mean())
        self.difference = self.series - measured
        self.design = build_design(
            stored.events,
            settings.design,
            n_volumes=len(stored.confounds),
            tr=stored.tr,
            n_dummy=settings.n_dummy,
            confounds=stored.confounds,
            confound_names=settings.confound_names,
        )
        self.samples = stored.draws[0].reshape(N_SAMPLES, -1)

    def scale(self, contrast: str) -> Array:
        """Return the square root of the local scale of a contrast, per voxel."""
        effect, variance = (
            self.stored.map(contrast, s, "acquired") for s in ("effect", "variance")
        )
        scale = effect_scale(
            effect,
            variance,
            self.stored.draws[1],
            self.stored.mask("acquired"),
            self.stored.zooms[0],
        )
        return np.sqrt(interpolate_to_shape(scale, self.mask.shape)).ravel()

    def active(self, contrast: str) -> Array:
        """Return the voxels that are active in the acquired run, on the high-resolution grid."""
        t = interpolate_to_shape(self.stored.map(contrast, "t", "acquired"), self.mask.shape)
        return np.asarray(self.mask & (np.abs(t) > ACTIVE_T))

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
            fit_mean_series(weights @ series[used], self.design, vectors, [contrast])[contrast]
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
    lower, upper = effect.compute_interval(sd, N_SAMPLES)
    return (upper - lower) / 2


def is_inside(difference: MeanEffect, sd: float) -> bool:
    """Return whether the interval of a difference contains 0."""
    return abs(difference.effect) < half_width(difference, sd)


def measure(tested: Tested, data: Path, out: Path) -> None:
    """Measure the regions of one run."""
    file = out / tested.name / "regions.json"
    if file.exists():
        return
    low, truth = make_tested(tested, data, out)
    more = ("--truth", str(truth), "--calibration", "none")
    stored = call(low, out / tested.name / "blind", CONTRASTS[tested.name], *more)
    rows: list[dict[str, Any]] = []
    if stored.applied:
        run, rng = RunErrors(stored), np.random.default_rng(SEED)
        for contrast in stored.contrasts:
            scale = run.scale(contrast)
            for kind, allowed in (("active", run.active(contrast)), ("brain", run.mask)):
                about = {"contrast": contrast, "kind": kind}
                rows += [
                    about | {"third": third} | run.measure(contrast, scale, region, width)
                    for third, region in draw_regions(allowed, rng)
                    for width in WIDTHS
                ]
    file.write_text(json.dumps(rows))
    print(tested.name, "measured", flush=True)


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
            measure(tested, data, out)
    table, frames = [], []
    for tested in people:
        file = out / tested.name / "regions.json"
        rows = pd.DataFrame(json.loads(file.read_text())) if file.exists() else pd.DataFrame()
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
