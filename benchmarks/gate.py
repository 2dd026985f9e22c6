"""Runs that pass the gate, and the variance that their maps explain, at levels of thermal noise.

python benchmarks/gate.py table DATA SCRATCH [RUN ...]

The four runs of participants (or the named runs) are downsampled by two in plane. Their thermal
noise is as after cropping, as in a measured voxel (`--retrospective noisy`), or half and one and a
half times as much; the first 15 to all volumes are used. Measures that might replace the
self-test score only use the run itself. The variance explained by the map is evaluated with the
measured run: W of the first volumes is applied to the effects of the whole run with the same
noise. Rows are stored in SCRATCH and not computed again.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _people_effects import FILES, Acquired, acquired, detail
from _people_measured import FACTOR
from _table import keep
from scipy.ndimage import gaussian_filter
from torch import Tensor

from bids_sr.sr.method import get_method
from bids_sr.sr.operators import to_slices
from bids_sr.sr.prior_maps.estimation import estimate_prior
from bids_sr.sr.prior_maps.prior import Prior, Tile, gaussian_correlation
from bids_sr.sr.prior_maps.run_data import RunData, run_data
from bids_sr.sr.prior_maps.self_test import SelfTest, _make_detail_function, estimate_map
from bids_sr.sr.prior_maps.temporal_components import SeriesError

METHOD = get_method("sbl")
assert METHOD.variance is not None
RECIPE = METHOD.variance
NOISE = (0.0, 0.5, 1.0, 1.5)
LENGTHS = (15, 30, 45, 60, 100, 1000)


def drawn(prior: Prior, count: int) -> Tensor:
    """Draw fluctuations from the prior (count, Z, X, Y)."""
    generator = torch.Generator().manual_seed(0)
    out = torch.zeros(count, *prior.weight.shape[1:])
    for width, weight in zip(prior.fwhm, prior.weight, strict=True):
        roots = []
        for size in weight.shape[1:]:
            values, vectors = torch.linalg.eigh(gaussian_correlation(size, width).double())
            roots.append(((vectors * values.clamp_min(0).sqrt()) @ vectors.T).float())
        white = torch.randn(out.shape, generator=generator)
        out += weight * (roots[0] @ white @ roots[1].T)
    return out


def thermal(run: Acquired) -> tuple[float, float]:
    """Return the SD of thermal noise over the mean of the brain, and its fraction of the variance.

    The variance of the noise is the median eigenvalue over time.
    """
    inside = run.low[run.mask].astype(np.float64)
    change = inside - inside.mean(1, keepdims=True)
    values = np.linalg.eigvalsh(change.T @ change)[1:]
    noise = float(np.median(values)) / len(change)
    return noise**0.5 / float(inside.mean()), float(np.median(values) / values.mean())


def features(run: Acquired, data: RunData) -> dict[str, float]:
    """Return features of a run at half the resolution."""
    run_test: SelfTest = data.make_self_test()
    tile, level = run_test.region, run_test.level
    assert tile is not None
    with torch.inference_mode():
        maps = [
            estimate_map(level.upsample_slices(level.downsample(half)), tile, RECIPE, 0)
            for half in run_test.halves[::-1]
        ]
        assert all(isinstance(prior_map, Prior) for prior_map in maps)
        tested = run_test.score([_make_detail_function(prior_map, level) for prior_map in maps])
        images, by_energy, by_volume, expected = [], [], [], []
        for number, prior in enumerate(maps):
            assert isinstance(prior, Prior)
            half = run_test.halves[number]
            volumes = _volumes(run, run_test, number)
            for shares, images_of_half in ((by_energy, half), (by_volume, volumes)):
                shares.append(_by_energy(prior, run_test, images_of_half))
            x = drawn(prior, 16)
            expected.append(_by_energy(prior, run_test, x))
            images.append(prior.weight.square().sum(0).sqrt().numpy()[:, *tile.highres_range])
        inside = run_test.mask.numpy()[:, *tile.highres_range]
        log = [np.log(np.maximum(image, 1e-6 * image.max())) for image in images]
        fine = [image - gaussian_filter(image, (0, 2, 2)) for image in log]
    tsd, share = thermal(run)
    return {
        "tested": tested.mean,
        "lower": tested.interval[0],
        "least half": min(tested.half_scores),
        "by energy": float(np.mean(by_energy)),
        "single volumes": float(np.mean(by_volume)),
        "expected": float(np.mean(expected)),
        "r of W": float(np.corrcoef(log[0][inside], log[1][inside])[0, 1]),
        "r of fine W": float(np.corrcoef(fine[0][inside], fine[1][inside])[0, 1]),
        "components": len(data.statistics.components),
        "noise / mean": tsd,
        "thermal share": share,
    }


def _volumes(run: Acquired, run_test: SelfTest, half: int) -> Tensor:
    """Return changes of 20 volumes of a half on the high-resolution grid of the trial (N, Z, X,
    Y).
    """
    count = run.low.shape[3]
    part = np.arange(count)[slice(count // 2) if half == 0 else slice(count // 2, None)]
    volumes = run.low[..., part]
    volumes = volumes - volumes.mean(3, keepdims=True)
    chosen = np.unique(np.linspace(0, len(part) - 1, 20).astype(int))
    return run_test._crop_to_slices([volumes[..., t] for t in chosen])


def _by_energy(prior: Prior, run_test: SelfTest, images: Tensor) -> float:
    """Return the explained fraction of the energy of all images together."""
    level, mask = run_test.level, run_test.mask
    missed = (images - level.upsample(level.downsample(images)))[:, mask]
    left = (
        missed
        - torch.stack(list(_make_detail_function(prior, level)(level.downsample(images))))[:, mask]
    )
    return 1 - float(left.square().sum() / missed.square().sum())


def rows_of(data: Path, name: str, scratch: Path) -> list[dict[str, Any]]:
    """Return one row per noise level and length."""
    rows: list[dict[str, Any]] = []
    for noise in NOISE:
        run = acquired(data, name, scratch, noise=noise)
        regions = {"brain": run.fine_mask, "active": run.active}
        for length in LENGTHS:
            count = min(length, run.low.shape[3])
            file = scratch / f"gate-{name.replace(' ', '-')}-{noise:g}-{count}.json"
            if file.exists():
                rows.append(json.loads(file.read_text()))
                continue
            part = run.part(0, count)
            data_of_run = run_data(part.reader, run.mask, RECIPE, FACTOR, poses=part.poses)
            row: dict[str, Any] = {"run": name, "noise": noise, "volumes": count}
            try:
                measures = features(part, data_of_run)
            except SeriesError:
                measures = {}
            row |= {key: round(value, 4) for key, value in measures.items()}
            if measures:
                images = torch.stack(
                    [to_slices(component) for component in data_of_run.statistics.components]
                )
                tile = Tile.from_mask(run.level.restrict_to_plane(), run.mask)
                prior = estimate_prior(images, tile, RECIPE, seed=0)
                row |= _noise_of(run, prior)
                for region, values in run.explained(prior, regions).items():
                    row |= {
                        f"{region}{end}": round(value, 4)
                        for end, value in zip(("", " low", " high"), values, strict=True)
                    }
            row["active voxels"] = int(regions["active"].sum())
            rows.append(row)
            file.write_text(json.dumps(row))
            print(row, flush=True)
    return rows


def _noise_of(run: Acquired, prior: Prior) -> dict[str, float]:
    """Return the fraction of thermal noise in the energy of the detail of single volumes."""
    tsd, _ = thermal(run)
    sd = tsd * float(run.low[run.mask].mean())
    at = np.linspace(0, run.low.shape[3] - 1, 16).astype(int)
    change = run.low - run.low.mean(3, keepdims=True)
    volumes = torch.stack([to_slices(change[..., t]) for t in at])
    white = sd * torch.randn(volumes.shape, generator=torch.Generator().manual_seed(0))
    inside = torch.from_numpy(np.moveaxis(run.fine_mask, 2, 0).copy())
    energy = [
        float(detail(prior, run.level, images)[:, inside].square().sum())
        for images in (white, volumes)
    ]
    return {"noise in detail": round(energy[0] / energy[1], 4)}


def table(data: Path, scratch: Path, names: list[str]) -> None:
    """Make all rows."""
    rows = [row for name in names or FILES for row in rows_of(data, name, scratch)]
    keys = list(dict.fromkeys(key for row in rows for key in row))
    keep("gate", "What passes the gate", [{k: r.get(k, "") for k in keys} for r in rows])


def main() -> int:
    """Run one subcommand."""
    if len(sys.argv) < 4 or sys.argv[1] != "table":
        sys.exit(__doc__)
    torch.set_num_threads(1)
    table(Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4:])
    return 0


if __name__ == "__main__":
    sys.exit(main())
