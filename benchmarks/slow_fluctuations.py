"""Explained variance of variance maps from slow fluctuations and from all fluctuations.

python benchmarks/slow_fluctuations.py maps DATA SCRATCH
    the four runs of participants, whole and their first volumes, without and with calibration
python benchmarks/slow_fluctuations.py likelihood DATA SCRATCH
    the likelihood that W maximizes: seeds, starting points, and sparsity

DATA contains studyforrest-localizer, -lowres-truth, pydecnef and opennft; SCRATCH stores head
motion and rows, which are computed once. "All" is a series whose TR is unknown, so that it has no
slow part.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _people_data import TESTED
from _people_effects import Acquired, acquired
from _people_measured import FACTOR, FIRST
from _table import keep
from torch import Tensor

from bids_sr.glm.drift import drift_basis
from bids_sr.spatial.hmc import estimate_motion
from bids_sr.sr.method import get_method
from bids_sr.sr.models.request import TrainingRequest
from bids_sr.sr.operators import interpolate, level_above, to_slices, to_volume
from bids_sr.sr.prior_maps.calibration_components import calibration_components
from bids_sr.sr.prior_maps.calibration_prior import FWHM, CalibrationPatterns
from bids_sr.sr.prior_maps.estimation import (
    _apply_floor,
    _compare_with_samples,
    _update_map,
    compute_filled_sd,
)
from bids_sr.sr.prior_maps.fit_variance import fit_variance
from bids_sr.sr.prior_maps.prior import Prior, Tile
from bids_sr.sr.prior_maps.run_data import run_data

RUNS = {"studyforrest": "A", "pydecnef 1": "B1", "pydecnef 2": "B2", "opennft": "C"}
METHOD = get_method("sbl")
assert METHOD.variance is not None
RECIPE = METHOD.variance


def tested_run(data: Path, name: str, scratch: Path) -> Acquired:
    """Return a run as in `people.py runs`, without the volumes that calibrate it."""
    run = acquired(data, name, scratch)
    first = max(0, TESTED[RUNS[name]].run.first - FIRST)
    return run.part(first, run.low.shape[3])


def exemplars_of(data: Path, run: Acquired) -> CalibrationPatterns:
    """Return the right calibration of a run, registered to the mean of its low-resolution copy."""
    image, series = TESTED[RUNS[run.name]].calibration.series(data)
    mean = series.mean(3)
    mask = mean > 0.25 * np.percentile(mean, 98)
    drift = drift_basis(series.shape[3], float(image.header.get_zooms()[3]))
    patterns, _ = calibration_components(series, mask, drift=drift)
    level = level_above(run.low.shape[:3], FACTOR)
    mean_low = to_volume(interpolate("bspline", to_slices(run.low.mean(3)), level.highres_shape))
    low_grid_mean = mean[: level.highres_shape[0], : level.highres_shape[1]]
    motion = estimate_motion([low_grid_mean], mean_low, run.fine_mask, image.affine)
    return CalibrationPatterns(
        patterns=patterns, affine=image.affine, from_boldref=motion.matrices[0]
    )


def fitted(
    run: Acquired, *, slow: bool, exemplars: CalibrationPatterns | None = None
) -> tuple[dict[str, Any], Prior]:
    """Return the results of the program on a run: the self-test score and the prior."""
    reader = run.reader
    reader.tr = run.tr if slow else 0.0
    data = run_data(reader, run.mask, RECIPE, FACTOR, poses=run.poses, calibration=exemplars)
    always_applied = replace(RECIPE, least_explained=None)
    request = TrainingRequest(method=METHOD.name, replacement_recipe=always_applied, factor=FACTOR)
    model = fit_variance(request, data)
    weight = model.state["weight"].float()
    fwhm = (*RECIPE.fwhm, *[FWHM] * (len(weight) - len(RECIPE.fwhm)))
    prior = Prior(
        region=Tile.from_mask(run.level.restrict_to_plane(), run.mask),
        weight=weight,
        fwhm=fwhm,
        noise=float(model.state["noise"]),
    )
    held_out: Any = model.card["held_out"]
    scores = {
        "components": model.card["components"],
        "tested": held_out.get("explained_over_zerofill", ""),
    }
    return scores, prior


def maps(data: Path, scratch: Path) -> None:
    """Tabulate one row per run, length, calibration and choice of components."""
    rows: list[dict[str, Any]] = []
    for name in RUNS:
        run = tested_run(data, name, scratch)
        regions = {"brain": run.fine_mask, "active": run.active}
        n_volumes = run.low.shape[3]
        tried = [(count, None) for count in (30, 60, n_volumes)]
        for count, exemplars in [*tried, (n_volumes, exemplars_of(data, run))]:
            for slow in (False, True):
                row: dict[str, Any] = {
                    "run": name,
                    "volumes of W": count,
                    "prior": "blind" if exemplars is None else "calibrated",
                    "from": "slow" if slow else "all",
                }
                file = scratch / f"{'-'.join(map(str, row.values())).replace(' ', '-')}.json"
                if not file.exists():
                    scores, prior = fitted(run.part(0, count), slow=slow, exemplars=exemplars)
                    values = run.explained(prior, regions, n_boot=0)
                    row |= scores | {f"ev, {r}": round(v[0], 4) for r, v in values.items()}
                    row["single volumes"] = round(run.explained_volumes(prior, 4), 4)
                    file.write_text(json.dumps(row))
                rows.append(json.loads(file.read_text()))
                print(rows[-1], flush=True)
    keep(
        "slow_fluctuations",
        "W from fluctuations below .1 Hz, and from all",
        rows,
        remarks=[
            "`volumes of W`: W was found from the first so many volumes and is applied to the"
            " effects of the whole run. `tested`: share of zero filling's error that is explained"
            " one level of resolution down, of components of the same kind. `ev`: explained"
            " variance of the effect of all conditions, halves against measured halves, `active`:"
            " |t| > 4 in the low-resolution copy. `single volumes`: share of the change of every"
            " fourth volume, thermal noise included. Motion is not undone.",
        ],
    )


_LIKE = slice(14, 20)  # slices, to save time
_PLAIN = {"smooth": 1e-3, "across": 1e-3, "pull": 0.0}  # only the likelihood, without priors
_ROUNDS = 60


def log_likelihood(prior: Prior, data: Tensor) -> float:
    """Return the log-likelihood of components (C, z, x, y), nats per sample."""
    total, count = 0.0, 0
    for z in range(data.shape[1]):
        y = data[:, z, *prior.region.data_range].flatten(1).T
        root = torch.from_numpy(prior.factor_covariance(z, prior.region))
        solved = torch.linalg.solve_triangular(root, y, upper=False)
        total -= float(solved.square().sum()) / 2 + y.shape[1] * float(root.diagonal().log().sum())
        count += y.numel()
    return total / count


def climbed(
    start: Tensor, data: Tensor, tile: Tile, changed: dict[str, Any], rounds: int, seed: int
) -> Prior:
    """Iterate the update of `estimate_prior` from maps (Q, Z, X, Y), with other settings."""
    recipe = replace(RECIPE, draws=256, **changed)
    variance = float(data[:, :, *tile.data_range].square().mean())
    prior = Prior(
        region=tile, weight=start, fwhm=recipe.fwhm, noise=recipe.noise * variance
    ).scale(variance)
    generator, inner = torch.Generator().manual_seed(seed), (slice(None), *tile.highres_range)
    for _ in range(rounds):
        observed, drawn = _compare_with_samples(
            prior, data, prior.make_tiles(), recipe.draws, generator
        )
        weight = torch.zeros_like(prior.weight)
        for new, old, value, expected in zip(weight, prior.weight, observed, drawn, strict=True):
            new[inner] = _update_map(old[inner], value[inner], expected[inner], recipe)
        prior = replace(prior, weight=weight)
    return prior


def likelihood(data: Path, scratch: Path) -> None:
    """Tabulate the likelihood that W maximizes, from several starting points."""
    rows: list[dict[str, Any]] = []
    for name in ("pydecnef 2", "opennft"):
        run = acquired(data, name, scratch)
        statistics = run_data(run.reader, run.mask, RECIPE, FACTOR, poses=run.poses).statistics
        images = torch.stack([to_slices(start_map) for start_map in statistics.components])[
            :, _LIKE
        ]
        mask = run.mask[:, :, _LIKE]
        tile = Tile.from_mask(run.level.restrict_to_plane(len(mask[0, 0])), mask)
        sizes = images[:, :, *tile.data_range].square().mean((1, 2, 3)).sqrt()
        images = images * ((sizes / sizes.max()) ** -RECIPE.equalize)[:, None, None, None]
        filled = _apply_floor(compute_filled_sd(images, tile), tile).expand(
            len(RECIPE.fwhm), -1, -1, -1
        )
        flat = torch.zeros_like(filled)
        flat[:, *_inner(tile)] = 1.0
        noise = torch.randn(filled.shape, generator=torch.Generator().manual_seed(1))
        starts = {
            "zero-filled SD": filled,
            "zero-filled SD times exp(N(0, 1))": filled * noise.exp(),
            "flat": flat,
        }
        inside = torch.from_numpy(np.moveaxis(run.fine_mask[:, :, _LIKE], 2, 0).copy())
        reference: dict[str, Tensor] = {}
        with torch.inference_mode():
            for kind, changed, rounds in (
                ("as the program", {}, RECIPE.rounds),
                ("likelihood alone", _PLAIN, RECIPE.rounds),
                ("likelihood alone", _PLAIN, _ROUNDS),
            ):
                for (start, maps_), seed in [(start_map, 0) for start_map in starts.items()] + [
                    (("zero-filled SD", filled), 1)
                ]:
                    prior = climbed(maps_, images, tile, changed, rounds, seed)
                    sd = prior.weight.square().sum(0).sqrt()[inside]
                    first = reference.setdefault(f"{kind} {rounds}", sd)
                    rows.append(
                        {
                            "run": name,
                            "update": kind,
                            "rounds": rounds,
                            "start": start,
                            "seed": seed,
                            "log likelihood": round(log_likelihood(prior, images), 4),
                            "r of log W": round(
                                float(torch.corrcoef(torch.stack([sd.log(), first.log()]))[0, 1]),
                                3,
                            ),
                            "below .02 of the median": round(
                                float((sd < 0.02 * sd.median()).float().mean()), 4
                            ),
                            "below .2": round(float((sd < 0.2 * sd.median()).float().mean()), 4),
                            "variance in 5 %": round(
                                float(
                                    sd.square().sort(descending=True)[0][: len(sd) // 20].sum()
                                    / sd.square().sum()
                                ),
                                3,
                            ),
                        }
                    )
                    print(rows[-1], flush=True)
    keep(
        "likelihood",
        "The likelihood that W maximizes: starting points, seeds, sparsity",
        rows,
        remarks=[
            "Six slices, 256 draws. `log likelihood`: nats a sample of the components that W is"
            " estimated from. `r of log W`: with the first row of its kind, over the brain; W is"
            " the root of the sum over both correlations. `below`: share of the voxels of the"
            " brain whose W is so small beside the median. `variance in 5 %`: share of W² in"
            " the strongest 5 % of voxels.",
        ],
    )


def _inner(tile: Tile) -> tuple[slice, slice, slice]:
    return (slice(None), *tile.highres_range)


def main() -> int:
    """Run one subcommand."""
    commands = {"maps": maps, "likelihood": likelihood}
    if len(sys.argv) != 4 or sys.argv[1] not in commands:
        sys.exit(__doc__)
    torch.set_num_threads(1)
    commands[sys.argv[1]](Path(sys.argv[2]), Path(sys.argv[3]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
