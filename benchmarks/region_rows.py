"""Recompute rows of the table of regions, and compare acquired with measured means.

python benchmarks/region_rows.py OUT WORK DATA

OUT is the output of one run, and WORK its working directory, which contains the samples of the
reconstruction error and the atlas on the grids of the run: `bids-sr DATA OUT participant
--sr-method sbl -w WORK`. DATA has a high-resolution reference.

Ten rows are recomputed without the code of the table. The region is taken from the atlas, or from
connected voxels of the stored acquired t map. The effect, its noise and degrees of freedom are
computed from the stored series, one region at a time, with the noise model of a single voxel. The
table pools the noise of regions of like size, so that its noise and, less, its effects differ. The
mean of the stored map of effects is listed beside. The SD of the reconstruction error is the root
mean square of the means of all samples, each multiplied by the root of the scale of the effect.

In the second table, the voxels of clusters are on the high-resolution grid.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
from _posterior_maps import Array, Stored, rounded
from _table import keep
from scipy import stats

from bids_sr.glm.clusters import largest_clusters
from bids_sr.glm.design import Design, build_design, contrast_vector
from bids_sr.glm.linear_model import ContrastModel
from bids_sr.glm.noise import estimate_noise
from bids_sr.io.region_names import find_atlas
from bids_sr.sr.prior_maps.posterior import effect_scale
from bids_sr.sr.steps.error_samples import interpolate_to_shape

N_ROWS = 10
_ACTIVE_T = 4.0
_ONE_VOXEL = np.ones((1, 1, 1), dtype=bool)


class RunRows:
    """Stored files of one run, from which rows are recomputed."""

    def __init__(self, out: Path, work: Path, data: Path) -> None:
        self.stored, self.work = Stored(out, data, ()), work
        table = self.stored.file("desc-regions_metrics.tsv")
        self.table = pd.read_csv(table, sep="\t", na_values="n/a")
        self.masks = {name: self.stored.mask(name) for name in ("acquired", "")}

    def load_work(self, name: str) -> Array:
        """Return the voxels of an image in the working directory."""
        (path,) = self.work.glob(f"**/{name}")
        return np.asarray(nib.load(path).dataobj)  # type: ignore[attr-defined]

    @cached_property
    def atlas(self) -> Array:
        """Labels of the atlas on the high-resolution grid."""
        return np.asarray(self.load_work("atlas_bold_hr.nii*").round().astype(int))

    @cached_property
    def samples(self) -> tuple[Array, Array]:
        """Samples of the error (X, Y, Z, N), and mean square of their acquired part (x, y, z)."""
        acquired = self.load_work("acquired_draws.nii*").astype(np.float64)
        return self.load_work("error_draws.nii*"), np.square(acquired).mean(axis=-1)

    @cached_property
    def design(self) -> Design:
        """Design of the run, without dummy volumes."""
        return build_design(self.stored.events, **self.stored.design_options)

    @cached_property
    def acquired(self) -> Mapping[tuple[str, str], Array]:
        """Maps of the stored acquired series by contrast and statistic (x, y, z)."""
        return self.stored.fit_unsmoothed("acquired").maps

    def find_region(self, row: Any) -> Array:
        """Return the voxels of a region on the high-resolution grid (X, Y, Z)."""
        if row.origin == "atlas":
            return (self.atlas == find_atlas().labels[row.region]) & self.masks[""]
        mask = self.masks["acquired"]
        t = self.stored.map(row.contrast, "t", "acquired")
        affine = np.diag([*self.stored.zooms[0], 1])
        clusters = largest_clusters(t, mask & (np.abs(t) > _ACTIVE_T), affine)
        rank = int(row.region.split(",")[0].split()[1])
        region = np.zeros(mask.shape, bool)
        region[tuple(clusters[rank - 1].voxels.T)] = True
        factor = [n // m for n, m in zip(self.masks[""].shape, mask.shape, strict=True)]
        return np.kron(region, np.ones(factor, bool)) & self.masks[""]

    @cached_property
    def series(self) -> Array:
        """Volumes of the stored series without dummy volumes (X, Y, Z, T)."""
        image = self.stored.image("space-boldref_res-hr_desc-sbl_bold")
        return np.asarray(image.dataobj, np.float32)[..., self.stored.n_dummy :]

    @cached_property
    def percent(self) -> float:
        """Factor from signal units to percent."""
        sidecar = self.stored.file("space-boldref_res-hr_desc-sbl_statmap.json")
        return 100 / float(json.loads(sidecar.read_text())["MeanSignal"])

    def recompute(self, row: Any) -> dict[str, Any]:
        """Return the values of a row by hand, beside the values of the table."""
        region = self.find_region(row)
        column = self.series[region].mean(axis=0, dtype=np.float64)[:, None]
        design = self.design
        weights = self.stored.contrasts[row.contrast]
        vector = contrast_vector(design, row.contrast, weights)[None]
        slices = [(slice(0, 1), column)]
        noise = estimate_noise(slices, design.matrix, _ONE_VOXEL, (1.0, 1.0, 1.0), design.tr)
        fit = ContrastModel(design.matrix, vector, noise, rank=design.rank).fit(column)
        effect, variance, dof = (
            float(fit[key][0, 0]) for key in ("effect", "variance", "effective")
        )
        se = variance**0.5 * self.percent
        sd = self.compute_error_sd(row.contrast, region)
        total_dof = (se**2 + sd**2) ** 2 / (se**4 / dof + sd**4 / self.samples[0].shape[-1])
        half_width = stats.t.ppf(0.975, total_dof) * np.hypot(se, sd)
        stored_map = self.stored.map(row.contrast, "effect", "sbl")[region].mean() * self.percent
        return {
            "region": row.region,
            "contrast": row.contrast,
            "voxels": f"{row.voxels}, {int(region.sum())}",
            "effect": pair(row.effect, effect * self.percent),
            "mean of the map": f"{stored_map:.4f}",
            "noise SE": pair(row.noise_se, se),
            "dof": pair(row.noise_dof, dof, 2),
            "error SD": pair(row.error_sd, sd),
            "lower": pair(row.lower, effect * self.percent - half_width),
            "upper": pair(row.upper, effect * self.percent + half_width),
        }

    def compute_error_sd(self, contrast: str, region: Array) -> float:
        """Return the standard deviation of the error of a mean, in percent."""
        errors, power = self.samples
        effect, variance = (self.acquired[contrast, stat] for stat in ("effect", "variance"))
        scale = effect_scale(
            effect, variance, power, self.masks["acquired"], self.stored.zooms[0].tolist()
        )
        root = np.sqrt(interpolate_to_shape(scale, region.shape))[region].astype(np.float64)
        means = (root[:, None] * errors[region]).mean(axis=0)
        return float(np.sqrt(np.square(means).mean()) * self.percent)


def pair(listed: float, recomputed: float, digits: int = 4) -> str:
    """Return the value of the table and the recomputed value as text."""
    return f"{listed:.{digits}f}, {recomputed:.{digits}f}"


def compare_means(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return differences from measured means, in percentage points, by kind and size."""
    clusters = table[table["origin"] == "cluster"]
    labels = table[table["origin"] == "atlas"]
    groups = {
        "clusters": clusters,
        "clusters, fewer than 20 voxels": clusters[clusters["voxels"] < 20],
        "clusters, 20 to 100 voxels": clusters[clusters["voxels"].between(20, 100)],
        "clusters, more than 100 voxels": clusters[clusters["voxels"] > 100],
        "atlas labels, q at most .05": labels[labels["q"] <= 0.05],
    }
    return [
        {
            "regions": name,
            "number": len(rows),
            "voxels": f"{rows['voxels'].min()} to {rows['voxels'].max()}",
            "measured, median": float(rows["measured"].median()),
            **{
                f"{series}: {statistic}": float(function((rows[column] - rows["measured"]).abs()))
                for series, column in (("acquired", "acquired"), ("sbl", "effect"))
                for statistic, function in (("median", np.median), ("largest", np.max))
            },
            "without interval": int(rows["lower"].isna().sum()),
        }
        for name, rows in groups.items()
    ]


def main(arguments: Sequence[str]) -> int:
    """Recompute ten rows that are evenly spaced in the table, and compare means."""
    if len(arguments) != 3:
        sys.exit(__doc__)
    run = RunRows(*map(Path, arguments))
    rows = run.table[run.table["origin"].isin(["cluster", "atlas"])]
    chosen = rows.iloc[np.linspace(0, len(rows) - 1, N_ROWS).round().astype(int)]
    keep(
        "region_rows",
        "Rows of the table of regions, and the same values recomputed from stored files",
        [run.recompute(row) for row in chosen.itertuples()],
        remarks=["In percent: value of the table, recomputed value."],
    )
    keep(
        "region_acquired",
        "Difference of mean effects of regions from the measured mean, in percentage points",
        [rounded(row) for row in compare_means(run.table)],
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
