"""Test at half the resolution in simulated worlds: real fluctuations with known activity.

python benchmarks/tested_worlds.py DATA OUT [ONLY ...]

The task is regressed out of measured runs of DATA (studyforrest-lowres-truth, and run 2 of
pydecnef), so that their fluctuations and noise remain, and known activity is added. Each run is
downsampled by two in plane, super-resolved by `sbl`, and tested as the program does. The true
explained variance compares the effect at the final resolution with the known activity. ONLY are
names of worlds. Results of each world are stored in OUT, and no world is computed twice.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import torch
from _table import keep
from numpy.typing import NDArray
from scipy import ndimage

from bids_sr.evaluation.detail_support import ContrastSupport, classify_detail
from bids_sr.evaluation.tested_detail import FINENESS
from bids_sr.glm.block_effects import block_effects
from bids_sr.glm.blocks import BlockDesign, block_design
from bids_sr.glm.design import DesignSettings, build_design
from bids_sr.glm.regressors import Events
from bids_sr.io.nifti import SeriesReader, save_image
from bids_sr.io.volume import Volume
from bids_sr.metrics.rows import MetricRow
from bids_sr.spatial.nyquist import beyond_nyquist
from bids_sr.spatial.resampling import sample_volume
from bids_sr.sr.method import get_method
from bids_sr.sr.models.model_store import save_model
from bids_sr.sr.prior_maps.lower_resolution_errors import reconstruct_at_lower_resolution
from bids_sr.sr.prior_maps.prior import PriorMaps
from bids_sr.sr.prior_maps.run_data import run_data
from bids_sr.sr.prior_maps.self_test import score_maps
from bids_sr.steps.activation import map_contrasts
from bids_sr.steps.linear_models import DesignInputs, LinearModel
from bids_sr.steps.reconstruction_error import check_intervals

Array = NDArray[Any]
FACTOR = (2.0, 2.0, 1.0)
CHANGE = 0.03  # signal change of the strongest activity, relative to the mean of the brain
SLICES = 16  # slices of each run that are used
CONTRASTS = {"stimulus": {"stimulus": 1.0}}
SHARED = {
    "A": ("studyforrest", "studyforrest-lowres-truth/sub-01/func/sub-01_task-localizer", 0),
    "B2": ("pydecnef, run 2", "pydecnef/sub-01/func/sub-01_task-perception_run-02", 6),
}
SEED = 74


@dataclass(frozen=True)
class Person:
    """Measured run without its task: fluctuations (X, Y, Z, T), brain, voxel size and events."""

    name: str
    series: Array
    mean: Array
    mask: Array
    affine: Array
    tr: float
    events: Events

    @property
    def zooms(self) -> Array:
        """Voxel size (mm)."""
        return nib.affines.voxel_sizes(self.affine)

    @property
    def sd(self) -> Array:
        """Standard deviation of the fluctuations over time, 0 outside of the brain."""
        return np.where(self.mask, self.series.std(-1), 0)

    def field(self, rng: np.random.Generator, fwhm_mm: float) -> Array:
        """Return a random field of unit standard deviation with a given smoothness."""
        noise = rng.standard_normal(self.mask.shape)
        if fwhm_mm:
            noise = ndimage.gaussian_filter(noise, fwhm_mm / 2.3548 / self.zooms)
        return noise / noise[self.mask].std()

    def blobs(self, rng: np.random.Generator, fwhm_mm: float, count: int = 40) -> Array:
        """Return Gaussian foci of a given width at random places of the brain, highest value 1."""
        places = np.argwhere(ndimage.binary_erosion(self.mask, iterations=2))
        points = np.zeros(self.mask.shape)
        points[tuple(places[rng.choice(len(places), count, replace=False)].T)] = 1
        out = ndimage.gaussian_filter(points, fwhm_mm / 2.3548 / self.zooms)
        return out / out.max()

    def area(self, rng: np.random.Generator) -> Array:
        """Return a smooth area that covers a part of the brain, 0 to 1."""
        return np.clip(self.field(rng, 40.0), 0, None) ** 1.5


_Activity = Callable[[Person, np.random.Generator], Array]
WORLDS: dict[str, tuple[str, _Activity]] = {
    "fluctuations": (
        "as finely distributed as the fluctuations: their SD times a smooth area",
        lambda p, rng: p.sd * p.area(rng),
    ),
    "mixed": (
        "SD of the fluctuations times a texture of 6 mm",
        lambda p, rng: p.sd * p.field(rng, 6.0) * p.area(rng),
    ),
    "vessels": (
        "in voxels that fluctuate most: third power of the SD times a smooth area",
        lambda p, rng: p.sd**3 * p.area(rng),
    ),
    "smooth": ("smoother than the fluctuations: areas of 40 mm", lambda p, rng: p.area(rng)),
    "foci of 4 mm": ("foci of 4 mm FWHM", lambda p, rng: p.blobs(rng, 4.0, 120)),
    "foci of 8 mm": ("foci of 8 mm FWHM", lambda p, rng: p.blobs(rng, 8.0)),
    "foci of 12 mm": ("foci of 12 mm FWHM", lambda p, rng: p.blobs(rng, 12.0)),
    "texture of 3 mm": (
        "texture of single voxels in an area",
        lambda p, rng: p.field(rng, 0.0) * p.area(rng),
    ),
    "texture of 6 mm": (
        "texture of 6 mm in an area",
        lambda p, rng: p.field(rng, 6.0) * p.area(rng),
    ),
    "texture of 9 mm": (
        "texture of 9 mm in an area",
        lambda p, rng: p.field(rng, 9.0) * p.area(rng),
    ),
    "mirrored": (
        "SD of the fluctuations of the other hemisphere times a smooth area",
        lambda p, rng: p.sd[::-1] * p.area(rng),
    ),
    "quiet": (
        "in voxels that fluctuate least: inverse of the SD times a smooth area",
        lambda p, rng: (
            np.where(p.sd > 0, 1 / np.maximum(p.sd, np.median(p.sd[p.mask]) / 3), 0) * p.area(rng)
        ),
    ),
    "white noise": (
        "smooth areas; fluctuations replaced by thermal noise and smooth fields of 9 mm",
        lambda p, rng: p.area(rng),
    ),
}


def read_people(data: Path) -> Iterator[Person]:
    """Yield the measured runs without the response to their task."""
    for name, (_, stem, first) in SHARED.items():
        image: Any = nib.load(data / f"{stem}_bold.nii.gz")
        series = np.asarray(image.dataobj, dtype=np.float32)[..., first:]
        x, y = (n // 4 * 4 for n in series.shape[:2])
        start = (series.shape[2] - SLICES) // 2
        series = series[:x, :y, start : start + SLICES]
        affine = image.affine @ nib.affines.from_matvec(np.eye(3), (0, 0, start))
        tr = float(image.header["pixdim"][4])
        table = pd.read_csv(data / f"{stem}_events.tsv", sep="\t")[["onset", "duration"]]
        table["onset"] -= first * tr
        events = Events(table[table["onset"] >= 0].assign(trial_type="stimulus"))
        mean = series.mean(-1)
        mask = mean > 0.25 * np.percentile(mean, 98)
        mask = ndimage.binary_fill_holes(ndimage.binary_opening(mask))
        design = build_design(events, n_volumes=series.shape[3], tr=tr)
        time_series = series[mask] - mean[mask][:, None]
        weights = np.linalg.pinv(design.matrix)
        condition = design.matrix[:, [design.conditions.index("stimulus")]]
        effect = time_series @ weights[[design.conditions.index("stimulus")]].T
        series = series - mean[..., None]
        series[mask] = time_series - (effect @ condition.T).astype(np.float32)
        yield Person(name, series, mean, mask, affine, tr, events)


def add_activity(person: Person, world: str) -> tuple[Array, Array]:
    """Return the run of a world (X, Y, Z, T) and its known activity in signal units."""
    rng = np.random.default_rng([SEED, *world.encode()])
    activity = np.where(person.mask, WORLDS[world][1](person, rng), 0)
    strongest = np.quantile(np.abs(activity[person.mask]), 0.99)
    activity *= CHANGE * person.mean[person.mask].mean() / strongest
    activity = np.clip(
        activity, *(s * 2 * CHANGE * person.mean[person.mask].mean() for s in (-1, 1))
    )
    count, regressor = person.series.shape[3], make_regressor(person)
    series = person.series
    if world == "white noise":
        sd = float(person.series[person.mask].std())
        slow = ndimage.gaussian_filter1d(
            np.stack([person.field(rng, 9.0) for _ in range(count)], axis=-1), 2.0, axis=-1
        )
        series = 0.4 * sd * rng.standard_normal(series.shape) + 2.0 * sd * slow
        series = np.where(
            person.mask[..., None], series, 0.4 * sd * rng.standard_normal(series.shape)
        )
    out = person.mean[..., None] + series + activity[..., None] * regressor
    return out.astype(np.float32), activity


def make_regressor(person: Person) -> Array:
    """Return the response to the events at the middle of each volume (T,)."""
    times = (np.arange(person.series.shape[3]) + 0.5) * person.tr
    return np.asarray(person.events.time_series(times)["stimulus"])


def make_design(person: Person) -> BlockDesign:
    """Return the model of the blocks of a run."""
    return block_design(
        person.events, n_volumes=person.series.shape[3], tr=person.tr, confound_names=()
    )


def make_model(person: Person) -> LinearModel:
    """Return the linear model of a run, without confounds."""
    inputs = DesignInputs(regressors=person.events, n_dummy=0, design=DesignSettings())
    return LinearModel(inputs=inputs, contrasts=CONTRASTS, nuisance=[])


def compute_t(reader: SeriesReader, mask: Array, person: Person, folder: Path) -> Array:
    """Return the t map of a series."""
    model = make_model(person)
    fit = map_contrasts(reader, mask, model, folder, kinds=("glm",), smoothing=(0.0,))
    return np.asarray(fit[0.0].maps["stimulus", "t"])


def run_world(person: Person, world: str, folder: Path) -> dict[str, Any]:
    """Return the true and the tested explained variance of a world, with the rule's result."""
    folder.mkdir(parents=True, exist_ok=True)
    series, activity = add_activity(person, world)
    measured = folder / "measured.nii"
    save_image(series, person.affine, measured, tr=person.tr)
    recipe = get_method("sbl").variance
    assert recipe is not None
    design = make_design(person)
    with SeriesReader(measured) as reader:
        below = reconstruct_at_lower_resolution(
            reader, person.mask, FACTOR, recipe, folder, seed=1
        )
        fine = block_effects(reader, person.mask, design, series="sbl")
    acquired_file = below.lowres_series.rename(folder / "acquired.nii")
    with SeriesReader(below.errors) as reader:
        errors = block_effects(reader, below.mask, design, series="sbl")
    halves = fine.halves(CONTRASTS["stimulus"])
    assert halves is not None
    reconstructed = [(fine.betas + errors.betas) @ half.astype(np.float32) for half in halves]
    with SeriesReader(acquired_file) as reader:
        t = compute_t(reader, below.lowres_mask, person, folder)
        t_fine = np.abs(sample_volume(t, reader.affine, person.mask.shape, person.affine))
        share = score_maps(
            run_data(reader, below.lowres_mask, recipe, FACTOR).make_self_test(), recipe, seed=1
        )[0.0].mean
        card = {
            "method": "sbl",
            "recipe": "fast",
            "factor": list(FACTOR),
            "contrast": "T2starw",
            "orientation": "I-S",
            "resolution": {"lowres_mm": [float(mm) for mm in reader.zooms]},
            "trained_on": "run",
        }
        model, _ = save_model(folder / "model", PriorMaps(None).state_dict(), card)
        rows = check_intervals(
            reader,
            Volume(below.lowres_mask, reader.affine),
            np.tile(np.eye(4), (series.shape[3], 1, 1)),
            model,
            make_model(person),
            here=folder,
            series_name="sbl",
            smoothing=(0.0,),
            factor=FACTOR,
            random_seed=1,
            omp_nthreads=1,
        )
    for file in (measured, acquired_file, below.errors):
        file.unlink(missing_ok=True)
    support = classify_detail(rows, "sbl", ["stimulus"])["stimulus"]
    regressor = make_regressor(person)
    target = beyond_nyquist(activity.astype(np.float32), FACTOR)
    pairs = [
        # the unit of block effects is the change in a sustained block
        (beyond_nyquist(effect, FACTOR), target * float(half @ (design.weights.T @ regressor)))
        for effect, half in zip(reconstructed, halves, strict=True)
    ]
    true = {
        region: explained_by(pairs, voxels)
        for region, voxels in (("active", person.mask & (t_fine > 4)), ("brain", person.mask))
    }
    cover = next((row.value for row in rows if row.statistic == "coverage_one_level_down"), None)
    return {
        "person": person.name,
        "world": world,
        "self-test score": round(share, 3),
        "applied": share >= (recipe.least_explained or 0),
        "active voxels": int((person.mask & (t_fine > 4)).sum()),
        "coverage": None if cover is None else round(cover, 3),
        "true, active": round(true["active"], 2),
        **described("active", support),
        "fineness, active": find_fineness(rows, "acquired40"),
        "true, brain": round(true["brain"], 2),
        **described("brain", support),
        "fineness, brain": find_fineness(rows, "brain"),
    }


def explained_by(pairs: list[tuple[Array, Array]], voxels: Array) -> float:
    """Return the explained variance of known activity, mean over both halves of the blocks."""
    if not voxels.any():
        return float("nan")
    values = []
    for detail, target in pairs:
        known = target[voxels] - target[voxels].mean()
        effect = detail[voxels] - detail[voxels].mean()
        values.append(1 - float(np.square(effect - known).sum() / np.square(known).sum()))
    return float(np.mean(values))


def described(region: str, support: ContrastSupport) -> dict[str, Any]:
    """Return cells on the test in a region."""
    result = support.active if region == "active" else support.brain
    return {f"tested, {region}": value_text(result.row), f"rule, {region}": result.state}


def value_text(row: MetricRow | None) -> str:
    """Return a value with its interval."""
    return "n/a" if row is None else f"{row.value:.2f} [{row.lower:.2f}, {row.upper:.2f}]"


def find_fineness(rows: list[MetricRow], region: str) -> str:
    """Return the fineness of the acquired effect with its interval."""
    cells = (FINENESS, region)
    return value_text(next((r for r in rows if (r.statistic, r.region) == cells), None))


def main() -> int:
    """Compute the worlds that are missing, and write the table of all worlds."""
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    torch.set_num_threads(1)
    data, out, only = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:]
    rows: list[dict[str, Any]] = []
    for person in read_people(data):
        for world in WORLDS:
            file = out / f"{person.name}_{world.replace(' ', '-')}.json"
            if not file.exists() and (not only or world in only):
                result = run_world(person, world, out / "work")
                file.write_text(json.dumps(result))
                print(result, flush=True)
            if file.exists():
                rows.append(json.loads(file.read_text()))
    keep(
        "tested_worlds",
        "Test of `sbl` at half the resolution in simulated worlds",
        rows,
        remarks=[f"{name}: {text}." for name, (text, _) in WORLDS.items()],
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
