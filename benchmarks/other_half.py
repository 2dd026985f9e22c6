"""Judge intervals of clusters by the other half of the blocks, and masks by measured signs.

python benchmarks/other_half.py DATA OUT [RUN ...]

DATA is the folder of `people.py`, RUN a name such as B2. The output of each call stays in
OUT/RUN/halves; existing results are reused.

Clusters are from the acquired map with |t| > 4 of each condition and contrast, increases and
decreases. The effect of the mean time series in one half of the blocks of `sbl` is compared with
the effect of the other half of the measured series, because series of the same blocks share their
noise. The variance of the difference is the variance of the contrast between both halves (mean of
both series) and the squared SD of the reconstruction error. *few*: clusters whose noise has fewer
than 5 degrees of freedom if it is not pooled.

Signs are of significant voxels whose measured effect has the other sign, in masks of the program
and in masks in the order of |t|, in the whole run, and in half of the blocks with the measured
effect of the other half.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from _people_data import TESTED, Tested, make_tested
from _posterior_maps import CONTRASTS, Array, Stored, call, rounded
from _table import keep
from region_coverage import CONDITIONS, RunErrors
from scipy import ndimage, stats

from bids_sr.glm.activation_regions import fdr_region, sign_reliable_region
from bids_sr.glm.design import build_design, contrast_vector
from bids_sr.glm.linear_model import ContrastModel
from bids_sr.glm.noise import estimate_mean_noise
from bids_sr.sr.prior_maps.posterior import N_SAMPLES, mean_error_sd, wrong_sign_probability

FEW = 5.0  # degrees of freedom
N_RESAMPLES = 2000
SEED = 117
PROBABILITIES = (0.02, 0.05, 0.1, 0.15, 0.2)  # limits of bins


def measure_clusters(run: RunErrors) -> Iterator[dict[str, Any]]:
    """Yield the comparison of both halves in each cluster and half."""
    names, regions, sds = [], [], []
    for contrast in run.stored.contrasts:
        scale = run.scale(contrast)
        for region in run.clusters(contrast):
            voxels = np.flatnonzero(region.ravel())
            weights = scale[voxels][None] / len(voxels)
            names.append(contrast)
            regions.append(voxels)
            sds.append(float(mean_error_sd(run.samples[:, voxels], weights)[0]))
    sizes = [len(voxels) for voxels in regions]
    sbl, difference = (
        np.stack([series[voxels].mean(axis=0, dtype=np.float64) for voxels in regions], axis=1)
        for series in (run.series, run.difference)
    )
    design, vectors = run.stored.half_design()
    halves = list(vectors)
    weights = [vectors[key] for key in halves]
    weights += [vectors[name, half] - vectors[name, 1 - half] for name, half in halves]
    fits = []
    for series in (sbl, sbl - difference):
        noise = estimate_mean_noise(series, design.matrix, design.tr, sizes)
        fits.append(ContrastModel(design.matrix, weights, noise, rank=design.rank).fit(series))
    whole = build_design(run.stored.events, **run.stored.design_options)
    dofs = [find_dofs(run.stored, whole, sbl, pooled) for pooled in (sizes, None)]
    for column, (name, sd) in enumerate(zip(names, sds, strict=True)):
        for half in (0, 1):
            own, other = halves.index((name, half)), halves.index((name, 1 - half))
            between = len(halves) + own
            noise, dof = (
                np.mean([fit[stat][between, column] for fit in fits])
                for stat in ("variance", "effective")
            )
            error = fits[0]["effect"][own, column] - fits[1]["effect"][other, column]
            total = noise + sd**2
            total_dof = total**2 / (noise**2 / dof + sd**4 / N_SAMPLES)
            yield {
                "contrast": name,
                "voxels": sizes[column],
                "inside": bool(error**2 <= total * stats.t.ppf(0.975, total_dof) ** 2),
                "squared error / variance": float(error**2 / total),
                "dof": float(dofs[0][name][column]),
                "dof, not pooled": float(dofs[1][name][column]),
            }


def find_dofs(stored: Stored, design: Any, series: Array, sizes: Any) -> dict[str, Array]:
    """Return the degrees of freedom of the whole run by contrast, one per cluster."""
    vectors = [contrast_vector(design, *contrast) for contrast in stored.contrasts.items()]
    noise = estimate_mean_noise(series, design.matrix, design.tr, sizes)
    fit = ContrastModel(design.matrix, vectors, noise, rank=design.rank).fit(series)
    return dict(zip(stored.contrasts, fit["effective"], strict=True))


def measure_signs(stored: Stored) -> Iterator[dict[str, Any]]:
    """Yield voxels and wrong signs of each cluster of the masks, by contrast, sign and order.

    `run` are masks of the whole run, with the measured effect of the same run as truth, and
    `other blocks` masks of one half of the blocks, with the measured effect of the other half.
    """
    brain = stored.mask()
    sbl, measured, acquired = (
        stored.halves(name, (0.0,))[0.0] for name in ("sbl", "measured", "acquired")
    )
    for contrast in stored.contrasts:
        ending = f"space-boldref_res-hr_label-{contrast}_desc-sblSignReliable_mask"
        if not stored.file(f"{ending}.nii.gz").exists():
            continue
        maps = {
            stat: stored.map(contrast, stat, "sbl") for stat in ("effect", "variance", "t", "z")
        }
        error = np.square(stored.map(contrast, "sd", "sbl"))
        true = stored.map(contrast, "effect", "measured")
        yield from list_signs(maps, error, true, brain, {"contrast": contrast, "truth": "run"})
        for half in (0, 1):
            maps = {
                stat: sbl.map(contrast, half, stat) for stat in ("effect", "variance", "t", "z")
            }
            error = stored.error_variance(acquired, contrast, half, 0.0)
            true, _ = measured.other_half(contrast, half)
            about = {"contrast": contrast, "truth": "other blocks"}
            yield from list_signs(maps, error, true, brain, about)


def list_signs(
    maps: Mapping[str, Array],
    error: Array,
    true: Array,
    brain: Array,
    about: Mapping[str, str],
) -> Iterator[dict[str, Any]]:
    """Yield voxels, expected and actual wrong signs, by cluster of significant voxels.

    `maps` are by statistic, and `error` is the variance of the reconstruction error (X, Y, Z).
    """
    effect, t = maps["effect"], maps["t"]
    wrong_sign = np.where(brain, wrong_sign_probability(effect, maps["variance"] + error), 0)
    active = fdr_region(maps["z"], brain)[0]
    regions = {
        "all": active,
        "t": rank_by_t(t, wrong_sign, active),
        "probability": sign_reliable_region(t, wrong_sign, active),
    }
    is_wrong = effect * true < 0
    for sign, name in ((1, "increases"), (-1, "decreases")):
        labels, count = ndimage.label(active & (sign * effect > 0), np.ones((3, 3, 3)))
        bins = np.digitize(wrong_sign, PROBABILITIES)
        for order, region in regions.items():
            groups = [(order, region)]
            if order == "all":
                groups = [
                    (f"bin {k}", region & (bins == k)) for k in range(len(PROBABILITIES) + 1)
                ]
            for title, selected in groups:
                inside = labels * selected
                sizes, wrong, expected = (
                    np.bincount(inside.ravel(), weights, count + 1)[1:]
                    for weights in (None, is_wrong.ravel(), wrong_sign.ravel())
                )
                for k in np.flatnonzero(sizes):
                    yield {
                        **about,
                        "sign": name,
                        "order": title,
                        "voxels": int(sizes[k]),
                        "wrong": int(wrong[k]),
                        "expected": float(expected[k]),
                    }


def rank_by_t(t: Array, wrong_sign: Array, region: Array) -> Array:
    """Return the voxels with the highest |t| whose mean probability of the wrong sign is ≤ .05.

    This was the rule of versions before 0.3.
    """
    selected = np.zeros(region.shape, bool)
    for tail_t in (t, -t):
        voxels = np.flatnonzero(region & (tail_t > 0))
        order = voxels[np.argsort(-tail_t.ravel()[voxels], kind="stable")]
        means = np.cumsum(wrong_sign.ravel()[order]) / np.arange(1, len(order) + 1)
        last = np.flatnonzero(means <= 0.05)
        selected.ravel()[order[: last[-1] + 1 if len(last) else 0]] = True
    return selected


def measure(tested: Tested, data: Path, out: Path) -> None:
    """Store the results of one run, unless they exist."""
    file = out / tested.name / "other_half.json"
    if file.exists():
        return
    low, truth = make_tested(tested, data, out)
    contrasts = [*CONTRASTS[tested.name], *CONDITIONS[tested.name]]
    options = ("--truth", str(truth), "--calibration", "none")
    stored = call(low, out / tested.name / "halves", contrasts, *options)
    results = {
        "clusters": list(measure_clusters(RunErrors(stored))),
        "signs": list(measure_signs(stored)),
    }
    file.write_text(json.dumps(results))


def read_rows(people: Sequence[Tested], out: Path, name: str) -> pd.DataFrame:
    """Return the stored results of all measured runs."""
    frames = []
    for tested in people:
        file = out / tested.name / "other_half.json"
        if file.exists():
            rows = pd.DataFrame(json.loads(file.read_text())[name])
            frames.append(rows.assign(run=tested.title, person=tested.person))
    return pd.concat(frames)


def summarize_clusters(rows: pd.DataFrame) -> dict[str, Any]:
    """Return coverage and degrees of freedom of some clusters, with one row per half."""
    few = rows[rows["dof, not pooled"] < FEW]
    return {
        "clusters": len(rows) // 2,
        "coverage": float(rows["inside"].mean()),
        "rms error / SD": float(np.sqrt(rows["squared error / variance"].mean())),
        "few": len(few) // 2,
        "coverage of few": float(few["inside"].mean()) if len(few) else "",
        "least dof": float(rows["dof"].min()),
        "median dof": float(rows["dof"].median()),
        "least dof, not pooled": float(rows["dof, not pooled"].min()),
    }


def summarize_signs(rows: pd.DataFrame, rng: np.random.Generator) -> dict[str, Any]:
    """Return claimed and actual shares of wrong signs, with the interval of resampled clusters."""
    clusters = rows[["voxels", "wrong", "expected"]].to_numpy()
    drawn = clusters[rng.integers(len(clusters), size=(N_RESAMPLES, len(clusters)))].sum(axis=1)
    lower, upper = np.quantile(drawn[:, 1] / drawn[:, 0], (0.025, 0.975))
    voxels, wrong, expected = clusters.sum(axis=0)
    return {
        "voxels": int(voxels),
        "claimed": float(expected / voxels),
        "wrong": float(wrong / voxels),
        "interval": f"{lower:.3f} to {upper:.3f}",
    }


def list_sign_rows(signs: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Yield the rows of the table of signs: by mask, by probability, and by contrast."""
    rng = np.random.default_rng(SEED)
    masks = signs[signs["order"].isin(["t", "probability"])]
    by_probability = masks[(masks["order"] == "probability") & (masks["truth"] == "run")]
    edges = [0, *PROBABILITIES, 0.5]
    bins = signs[signs["order"].str.startswith("bin") & (signs["truth"] == "run")]
    names = {
        f"bin {k}": f"probability {edges[k]:g} to {edges[k + 1]:g}" for k in range(len(edges) - 1)
    }
    for of, rows, keys in (
        ("masks", masks, ["truth", "person", "sign", "order"]),
        ("significant voxels", bins.assign(order=bins["order"].map(names)), ["order"]),
        ("masks by contrast", by_probability, ["person", "contrast"]),
    ):
        for key, group in rows.groupby(keys, sort=False):
            yield rounded({"of": of, "rows": ", ".join(key)} | summarize_signs(group, rng))


def main(arguments: Sequence[str]) -> int:
    """Measure the selected runs, and make tables of all results."""
    if len(arguments) < 2:
        sys.exit(__doc__)
    data, out = Path(arguments[0]), Path(arguments[1])
    people = [replace(tested, one_type=False) for tested in TESTED.values()]
    for tested in people:
        if tested.name in CONDITIONS and (not arguments[2:] or tested.name in arguments[2:]):
            measure(tested, data, out)
    clusters = read_rows(people, out, "clusters")
    groups = [*clusters.groupby("run", sort=False), ("all", clusters)]
    keep(
        "other_half",
        "Coverage of 95 % intervals of clusters, by the measured other half of the blocks",
        [rounded({"run": run} | summarize_clusters(rows)) for run, rows in groups],
    )
    keep(
        "signs_in_masks",
        "Claimed and actual wrong signs in masks of sign reliable voxels",
        list(list_sign_rows(read_rows(people, out, "signs"))),
        remarks=[
            "*t*: the order of versions before 0.3; *probability*: the order of the program."
            " *run*: the measured effect of the same run; *other blocks*: mask of half of the"
            " blocks, measured effect of the other half. The 95 % interval resamples clusters of"
            " significant voxels of one sign."
        ],
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
