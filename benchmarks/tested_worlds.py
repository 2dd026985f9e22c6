"""Test at half the resolution in simulated worlds: real fluctuations with known activity.

python benchmarks/tested_worlds.py DATA OUT SEED ...

The task is regressed out of measured runs of three people in DATA (studyforrest-lowres-truth, run
2 of pydecnef, opennft), so that their fluctuations and noise remain, and known activity is added.
Each run is downsampled by two in plane, super-resolved by `sbl`, and tested as the program does.
The true explained variance compares the effect at the final resolution with the known activity.

Every world is drawn with each SEED, each person, and 5, 8 and 16 slices (5 seeds: 585 draws, about
an hour on two processors). The effects of each draw are stored in OUT, and no draw is computed
twice; the rule is applied to all stored draws of these seeds.
"""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import torch
from _table import keep
from numpy.typing import NDArray
from scipy import ndimage

from bids_sr.evaluation.detail_support import COVERAGE, SMOOTHNESS, classify_detail
from bids_sr.evaluation.reference_maps import TRUE_T
from bids_sr.evaluation.tested_detail import iterate_tested_detail
from bids_sr.glm.block_effects import Effects, block_effects
from bids_sr.glm.blocks import BlockDesign, TaskBlock, block_design
from bids_sr.glm.design import DesignSettings, build_design
from bids_sr.glm.hemodynamic_response import HemodynamicResponse
from bids_sr.glm.regressors import Events
from bids_sr.io.nifti import SeriesReader, save_image
from bids_sr.io.volume import Volume
from bids_sr.metrics.rows import metric_rows
from bids_sr.series import MEASURED
from bids_sr.spatial.nyquist import beyond_nyquist
from bids_sr.spatial.resampling import sample_volume
from bids_sr.sr.method import get_method
from bids_sr.sr.prior_maps.lower_resolution_errors import reconstruct_at_lower_resolution
from bids_sr.steps.activation import map_contrasts
from bids_sr.steps.half_resolution import HalfResolutionPrior, run_half_resolution_test
from bids_sr.steps.linear_models import DesignInputs, LinearModel

Array = NDArray[Any]
FACTOR = (2.0, 2.0, 1.0)
CHANGE = 0.03  # signal change of the strongest activity, relative to the mean of the brain
SLICES = (5, 8, 16)  # numbers of slices from the middle of a run
CONTRASTS = {"stimulus": {"stimulus": 1.0}}
SHARED = {
    "A": ("studyforrest", "studyforrest-lowres-truth/sub-01/func/sub-01_task-localizer", 0),
    "B2": ("pydecnef, run 2", "pydecnef/sub-01/func/sub-01_task-perception_run-02", 6),
    "C": ("opennft", "opennft/sub-01/func/sub-01_task-nfpsc", 25),
}
METHOD = "sbl"


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


def read_people(data: Path, n_slices: int) -> Iterator[Person]:
    """Yield the measured runs without the response to their task."""
    for name, (_, stem, first) in SHARED.items():
        image: Any = nib.load(data / f"{stem}_bold.nii.gz")
        series = np.asarray(image.dataobj, dtype=np.float32)[..., first:]
        x, y = (n // 4 * 4 for n in series.shape[:2])
        start = (series.shape[2] - n_slices) // 2
        series = series[:x, :y, start : start + n_slices]
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


def add_activity(person: Person, world: str, seed: int) -> tuple[Array, Array]:
    """Return the run of a world (X, Y, Z, T) and its known activity in signal units."""
    rng = np.random.default_rng([seed, *world.encode()])
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
    return np.asarray(person.events.responses(times, HemodynamicResponse())["stimulus"][:, 0])


def make_design(person: Person) -> BlockDesign:
    """Return the model of the blocks of a run."""
    return block_design(
        person.events, n_volumes=person.series.shape[3], tr=person.tr, confound_names=()
    )


def make_model(person: Person) -> LinearModel:
    """Return the linear model of a run, without confounds."""
    inputs = DesignInputs(regressors=person.events, n_dummy=0, design=DesignSettings())
    return LinearModel(inputs=inputs, contrasts=CONTRASTS, nuisance=[])


def draw_world(person: Person, world: str, seed: int, folder: Path) -> dict[str, Any]:
    """Return the halves of the effect at half the resolution, and the true explained variance."""
    folder.mkdir(parents=True, exist_ok=True)
    series, activity = add_activity(person, world, seed)
    measured = folder / "measured.nii"
    save_image(series, person.affine, measured, tr=person.tr)
    recipe = get_method(METHOD).variance
    assert recipe is not None
    design = make_design(person)
    with SeriesReader(measured) as reader:
        final = reconstruct_at_lower_resolution(
            reader, person.mask, FACTOR, recipe, folder, seed=1
        )
        fine = block_effects(reader, person.mask, design, series=METHOD)
    acquired_file = final.lowres_series.rename(folder / "acquired.nii")
    with SeriesReader(final.errors) as reader:
        errors = block_effects(reader, final.mask, design, series=METHOD)
    halves = fine.halves(CONTRASTS["stimulus"])
    assert halves is not None
    with SeriesReader(acquired_file) as reader:
        t = map_contrasts(
            reader,
            final.lowres_mask,
            make_model(person),
            folder,
            kinds=("glm",),
            smoothing=(0.0,),
        )[0.0].maps["stimulus", "t"]
        is_active = (
            np.abs(sample_volume(t, reader.affine, person.mask.shape, person.affine)) > TRUE_T
        )
        test = run_half_resolution_test(
            reader,
            Volume(final.lowres_mask, reader.affine),
            np.tile(np.eye(4), (series.shape[3], 1, 1)),
            HalfResolutionPrior(recipe=recipe),
            make_model(person),
            folder,
            series_name=METHOD,
            smoothing=(0.0,),
            factor=FACTOR,
            random_seed=1,
            omp_nthreads=1,
        )
    for file in (measured, acquired_file, final.errors):
        file.unlink(missing_ok=True)
    regressor = make_regressor(person)
    target = beyond_nyquist(activity.astype(np.float32), FACTOR)
    pairs = [
        # the unit of block effects is the change in a sustained block
        (
            beyond_nyquist((fine.betas + errors.betas) @ half.astype(np.float32), FACTOR),
            target * float(half @ (design.weights.T @ regressor)),
        )
        for half in halves
    ]
    assert test.effects is not None
    low_halves = test.effects.acquired.halves(CONTRASTS["stimulus"])
    assert low_halves is not None
    values = {row.statistic: row.value for row in test.run_rows}
    return {
        "est": np.stack([test.effects.reconstructed.effect(half) for half in low_halves]),
        "tar": np.stack([test.effects.acquired.effect(half) for half in low_halves]),
        "t": test.effects.active_t[0.0]["stimulus"],
        "mask": test.effects.acquired.mask,
        "meta": json.dumps(
            {
                "true, active": explained_by(pairs, person.mask & is_active),
                "true, brain": explained_by(pairs, person.mask),
                "smoothness": values[SMOOTHNESS],
                "coverage": values[COVERAGE],
            }
        ),
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


def classify_draw(file: Path) -> dict[str, Any]:
    """Apply the rule of the program to a stored draw."""
    arrays = np.load(file)
    facts = json.loads(str(arrays["meta"]))
    blocks = tuple(
        TaskBlock(condition="stimulus", events=((30.0 * half, 10.0),), half=half)
        for half in (0, 1)
    )

    def make_effects(series: str, halves: Array) -> Effects:
        return Effects(
            series=series,
            affine=np.eye(4),
            mask=arrays["mask"],
            betas=np.moveaxis(halves, 0, -1),
            mean=np.ones(halves.shape[1:], np.float32),
            blocks=blocks,
            covariance=np.eye(2),
            leak=np.zeros((2, 2)),
        )

    rows = [
        *iterate_tested_detail(
            make_effects(METHOD, arrays["est"]),
            make_effects(MEASURED, arrays["tar"]),
            {0.0: {"stimulus": arrays["t"]}},
            CONTRASTS,
            FACTOR,
        ),
        *metric_rows(METHOD, {SMOOTHNESS: facts["smoothness"]}, region="brain"),
    ]
    support = classify_detail(rows, METHOD, ["stimulus"])["stimulus"]
    return {
        f"{region}, {name}": cell
        for region, result in (("active", support.active), ("brain", support.brain))
        for name, cell in (
            ("true", facts[f"true, {region}"]),
            ("state", result.state),
            ("tested", math.nan if result.row is None else result.row.value),
            ("lower", math.nan if result.row is None else result.row.lower),
        )
    }


def count_states(draws: pd.DataFrame) -> dict[str, Any]:
    """Return counts of draws with wrong and with true detail that the rule accepts."""
    cells: dict[str, Any] = {"draws": len(draws)}
    for region in ("active", "brain"):
        is_recovered = draws[f"{region}, state"] == "recovered"
        is_wrong = draws[f"{region}, true"] <= 0
        accepted = draws[is_recovered & is_wrong]
        cells[f"{region}: wrong, accepted"] = f"{len(accepted)} of {int(is_wrong.sum())}"
        cells[f"{region}: highest lower limit"] = (
            f"{accepted[f'{region}, lower'].max():.2f}" if len(accepted) else ""
        )
        cells[f"{region}: true, accepted"] = (
            f"{int((is_recovered & ~is_wrong).sum())} of {int((~is_wrong).sum())}"
        )
    return cells


def main() -> int:
    """Compute the draws that are missing, and write the tables of all draws of the seeds."""
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    torch.set_num_threads(1)
    data, out, seeds = Path(sys.argv[1]), Path(sys.argv[2]), [int(seed) for seed in sys.argv[3:]]
    draws: list[dict[str, Any]] = []
    for n_slices in SLICES:
        for person in read_people(data, n_slices):
            for seed, world in product(seeds, WORLDS):
                file = out / f"{person.name}_{n_slices}_{seed}_{world.replace(' ', '-')}.npz"
                if not file.exists():
                    np.savez_compressed(
                        file, **draw_world(person, world, seed, out / f"work-{os.getpid()}")
                    )
                    print(file.name, flush=True)
                draws.append(
                    {"world": world, "person": person.name, "slices": n_slices}
                    | classify_draw(file)
                )
    table = pd.DataFrame(draws)
    groups = {f"{name}": table[table["world"] == name] for name in WORLDS}
    groups |= {f"participant {name}": table[table["person"] == name] for name in SHARED}
    groups |= {f"{count} slices": table[table["slices"] == count] for count in SLICES}
    keep(
        "tested_worlds",
        f"Test of `sbl` at half the resolution in simulated worlds, seeds {seeds}",
        [{"draws of": name} | count_states(group) for name, group in groups.items()]
        + [{"draws of": "all"} | count_states(table)],
        remarks=[
            "Wrong: the explained variance of the known activity is at or below 0. Highest lower"
            " limit: of the tested explained variance in accepted draws with wrong detail.",
            *(f"{name}: {text}." for name, (text, _) in WORLDS.items()),
        ],
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
