"""Difference between two simulated runs of one condition: false positives and power.

python benchmarks/run_differences.py [OUT]

Without OUT, only tables of regions are simulated: what the page says changed. OUT is the output of
a call with participant sub-01, whose boldref is the head. Foci are measured in two runs; in the
second, the head is displaced. Boldrefs have noise and smooth changes of intensity; effects have
noise and a reconstruction error above the acquired Nyquist frequency, of which a part is shared.
Runs are registered, resampled and compared by the steps of the program.

For the power, all foci of the second run are larger by 20 or 50 %. Their effect is such that the
change of the region's mean equals the smallest change that the program states. A change is found
if the interval of the region is above 0.

Tables have labels of an atlas, and a region of interest in every second pair. Noise of the labels
is correlated, and its estimated SD has the degrees of freedom of the table. The share of intervals
that hold the truth is the mean over pairs with intervals, as in the false coverage rate.
"""

import sys
import tempfile
from dataclasses import dataclass, replace
from itertools import chain, product
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
from _table import keep
from place_error import make_pose
from scipy.ndimage import gaussian_filter
from scipy.stats import binomtest

from bids_sr.engine.artifacts import Derivative
from bids_sr.glm.region_means import ERROR_DOF, MeanEffect
from bids_sr.glm.steps.atlas_regions import AtlasOfRun
from bids_sr.group.combination.run_combination import OPPOSITE_ACTIVE
from bids_sr.group.combination.steps.combined_runs import Combination, contrast_runs
from bids_sr.group.combination.steps.contrasted_regions import contrast_regions
from bids_sr.group.combination.steps.resampled_runs import (
    estimate_place_error,
    register_to_first_run,
    resample_run_maps,
)
from bids_sr.io.volume import Volume
from bids_sr.spatial.resampling import sample_volume
from bids_sr.survey.preflight.combined_runs import RunTerm

FIRST_SEED, N_SEEDS = 1000, 30
N_FOCI, FWHM_MM, APART_MM, RADIUS_MM = 12, (5.0, 10.0), 25.0, 6.0
NOISE, LOW_NOISE = 0.25, 0.05  # SD, percent
RELATIVE_ERROR, SHARED = 0.2, 0.8  # SD relative to the effect; correlation before interpolation
CHANGES = (0.2, 0.5)  # of foci, relative to the first run
SDS_OF_CHANGE = 1.96 + 0.84  # change that is found with 80 %, in total SD
NOISE_DOF = 300
N_PAIRS, N_LABELS = 200, 101  # of tables
LABEL_NOISE, LABEL_DOF = (0.1, 0.4), (10.0, 60.0)  # SD, percent; degrees of freedom
COMMON_NOISE = 0.3  # share of the variance of the noise that all labels have in common
TIMES_SEARCHED = 1.3  # change, relative to the smallest change of a search over all labels
DISPLACEMENTS = {  # shifts (mm) and rotations (degrees) along all axes, relative to .5
    "up to .5": lambda rng: rng.uniform(-1, 1, 6),
    ".5": lambda rng: rng.choice([-1.0, 1.0], 6),
}
SIZE_OF_POWER = "up to .5"
TERMS = (
    RunTerm(label="run-2", contrast="a", weight=1.0, runs=("run-2",)),
    RunTerm(label="run-1", contrast="a", weight=-1.0, runs=("run-1",)),
)


@dataclass(frozen=True)
class Field:
    """Stationary random field with unit SD; `gain` is by frequency of the fine grid (3D)."""

    gain: np.ndarray

    def draw(self, rng):
        """Return a sample (3D)."""
        return self.filter(rng.normal(size=self.gain.shape))

    def filter(self, values):
        """Return values (3D) multiplied by the gain in k-space, periodic at the edges."""
        gain = self.gain / np.sqrt(np.square(self.gain).mean())
        return np.fft.ifftn(gain * np.fft.fftn(values)).real

    def measure_sd(self, weights):
        """Return the SD of a weighted sum over the voxels."""
        return np.sqrt(np.square(self.filter(weights)).sum())


def make_fields(shape):
    """Return the fields of noise and of the reconstruction error."""
    axes = np.meshgrid(*map(np.fft.fftfreq, shape), indexing="ij")
    smooth = np.exp(-2 * (np.pi * 0.6) ** 2 * sum(np.square(axis) for axis in axes))
    acquired = (np.abs(axes[0]) <= 0.25) & (np.abs(axes[1]) <= 0.25)
    return Field(smooth), Field(smooth * ~acquired)


@dataclass(frozen=True)
class Foci:
    """Gaussian foci: `centers` (K, 3; mm), `widths` (FWHM, mm) and `heights` (percent)."""

    centers: np.ndarray
    widths: np.ndarray
    heights: np.ndarray

    def measure(self, points):
        """Return the effect at points (..., 3; mm)."""
        effect = np.zeros(points.shape[:-1])
        for center, fwhm, height in zip(self.centers, self.widths, self.heights, strict=True):
            distance = np.square(points - center).sum(-1)
            effect += height * np.exp(-4 * np.log(2) * distance / fwhm**2)
        return effect

    def label(self, points, mask):
        """Return the number of the region at each point (from 1), and 0 elsewhere."""
        labels = np.zeros(points.shape[:-1], int)
        for number, center in enumerate(self.centers, 1):
            labels[mask & (np.square(points - center).sum(-1) < RADIUS_MM**2)] = number
        return labels


def make_points(grid):
    """Return the points of the voxels of a volume (X, Y, Z, 3; mm)."""
    voxels = np.moveaxis(np.indices(grid.data.shape), 0, -1)
    return nib.affines.apply_affine(grid.affine, voxels)


def draw_foci(mask_hr, rng):
    """Return foci in the brain, whose centers are apart."""
    centers = []
    for center in rng.permutation(make_points(mask_hr)[mask_hr.data]):
        if all(np.linalg.norm(center - other) > APART_MM for other in centers):
            centers.append(center)
        if len(centers) == N_FOCI:
            break
    sizes = rng.uniform(*FWHM_MM, len(centers)), rng.uniform(1, 5, len(centers))
    return Foci(np.array(centers), *sizes)


def size_changes(foci, change, mask_hr, fields):
    """Return foci whose change equals the smallest change, and their true changes.

    The change is NaN without a solution, because the reconstruction error grows with the effect.
    """
    noise, error = fields
    points = make_points(mask_hr)
    labels = foci.label(points, mask_hr.data)
    heights, true_changes = foci.heights.copy(), np.full(len(foci.heights), np.nan)
    for index, (center, width) in enumerate(zip(foci.centers, foci.widths, strict=True)):
        weights = (labels == index + 1) / (labels == index + 1).sum()
        profile = Foci(center[None], np.array([width]), np.ones(1)).measure(points)
        noise_variance = 2 * (NOISE * noise.measure_sd(weights)) ** 2
        error_variance = (RELATIVE_ERROR * error.measure_sd(weights * profile)) ** 2
        larger = 1 + change
        error_variance *= 1 + larger**2 - 2 * OPPOSITE_ACTIVE * larger
        unit_change = change * (weights * profile).sum()
        rest = (unit_change / SDS_OF_CHANGE) ** 2 - error_variance
        if rest > 0:
            heights[index] = np.sqrt(noise_variance / rest)
            true_changes[index] = heights[index] * unit_change
    return replace(foci, heights=heights), true_changes


@dataclass(frozen=True)
class Pair:
    """Two registered runs of a head: `pose` is the transform of a fixed point to the moved one."""

    mask_hr: Volume
    pose: np.ndarray
    xfm: np.ndarray
    place: dict
    folder: Path

    def compare(self, foci, changed, noise_sd, fields, rng):
        """Return maps with and without the error of the place, and the regions of both."""
        mask = self.mask_hr
        grid = make_points(mask)
        to_first = np.linalg.inv(self.pose)
        noise_field, error_field = fields
        pattern = error_field.draw(rng)
        maps, tables = [], {}
        for name, run_foci, pose, transform in (
            ("run-1", foci, np.eye(4), None),
            ("run-2", changed, to_first, self.xfm),
        ):
            truth = run_foci.measure(nib.affines.apply_affine(pose, grid))
            shared = sample_volume(pattern, mask.affine, truth.shape, mask.affine, pose, order=5)
            error = np.sqrt(SHARED) * shared + np.sqrt(1 - SHARED) * error_field.draw(rng)
            error_sd = RELATIVE_ERROR * np.abs(truth) + 1e-3
            effect = truth + error_sd * error + noise_sd * noise_field.draw(rng)
            # regions are those of the first run, by the estimated transform
            first = np.eye(4) if transform is None else np.linalg.inv(transform[0])
            labels = foci.label(nib.affines.apply_affine(first, grid), mask.data)
            tables[name] = measure_regions(labels, effect, error_sd, noise_sd, fields)
            maps += self.resample(name, transform, effect, error_sd, noise_sd)
        labels = foci.label(grid, mask.data)
        exact = {**self.place, "Covariance": np.zeros((6, 6)).tolist()}
        return [
            self.contrast(maps, tables, labels, {"run-2": place}) for place in (self.place, exact)
        ]

    def resample(self, name, transform, effect, error_sd, noise_sd):
        """Return the maps of a run in the frame of the first run."""
        mask = self.mask_hr
        source = [
            Derivative(
                Volume(np.where(mask.data, values, 0).astype(np.float32), mask.affine),
                {"contrast": "a", "stat": stat, "desc": "sbl", "suffix": "statmap"},
                {
                    "SmoothingFWHM": 0.0,
                    "MeanSignal": 100.0,
                    "Model": {"DegreesOfFreedom": NOISE_DOF},
                },
            )
            for stat, values in {
                "effect": effect,
                "variance": np.full(effect.shape, noise_sd**2),
                "t": effect / noise_sd,
            }.items()
        ]
        resampled = resample_run_maps(
            source,
            mask,
            mask,
            first2run_xfm=transform,
            here=self.folder / name,
            run=name,
            contrasts=["a"],
            over_sessions=True,
        )
        first = None if transform is None else transform[0]
        moved_sd = sample_volume(
            error_sd, mask.affine, error_sd.shape, mask.affine, first, order=1
        )
        sd_map = Derivative(
            Volume(moved_sd, mask.affine),
            {**resampled[0].entities, "stat": "sd"},
            resampled[0].sidecar,
        )
        return [*resampled, sd_map]

    def contrast(self, maps, tables, labels, place_errors):
        """Return the maps of the difference by statistic, and its regions."""
        images, _ = contrast_runs(
            maps,
            place_errors,
            [],
            here=self.folder,
            combination=Combination(
                series_name="sbl",
                runs={
                    name: {"subject": "01", "task": "x", "run": name[-1], "datatype": "func"}
                    for name in tables
                },
                left_out={},
                missing_contrasts={},
                thresholds=["fdr"],
                calibrated=False,
            ),
            over_runs={"change": TERMS},
        )
        names = [f"region {number}" for number in range(1, labels.max() + 1)]
        atlas = Volume(labels, self.mask_hr.affine)
        regions, _, _ = contrast_regions(
            tables,
            maps,
            place_errors,
            {"OtherHead": {}},
            atlas=AtlasOfRun(
                atlas_bold=atlas,
                atlas_bold_hr=atlas,
                atlas_labels=pd.DataFrame({"index": range(1, len(names) + 1), "name": names}),
            ),
            series_name="sbl",
            over_runs={"change": TERMS},
            calibrated=False,
            voxel_mm=2 * float(self.mask_hr.zooms[0]),
        )
        stats = {
            image.entities.get("stat", image.entities["desc"]): np.array(image.volume.data)
            for image in images
        }
        return stats | {"share": images[0].sidecar["PlaceErrorShare"], "regions": regions}


def measure_regions(labels, effect, error_sd, noise_sd, fields):
    """Return the table of regions of a run."""
    noise_field, error_field = fields
    rows = []
    for number in range(1, labels.max() + 1):
        weights = (labels == number) / (labels == number).sum()
        rows.append(
            {
                "series": "sbl",
                "contrast": "a",
                "fwhm_mm": 0.0,
                "origin": "atlas",
                "region": f"region {number}",
                "voxels": (labels == number).sum(),
                "voxels_given": (labels == number).sum(),
                "input_fwhm_mm": 0.0,
                "effect": (weights * effect).sum(),
                "noise_se": noise_sd * noise_field.measure_sd(weights),
                "noise_dof": NOISE_DOF,
                "error_sd": error_field.measure_sd(weights * error_sd),
            }
        )
    return pd.DataFrame(rows)


def register(boldref, mask, mask_hr, pose, folder, rng):
    """Return two runs, of which the second is displaced by a pose."""
    data, affine = boldref.data, boldref.affine
    moved = sample_volume(data, affine, data.shape, affine, np.linalg.inv(pose))
    field = gaussian_filter(rng.normal(size=data.shape), (8, 8, 6))
    sd = 0.005 * data[mask.data].mean()
    first, second = (
        Volume((values + rng.normal(0, sd, data.shape)).astype(np.float32), affine)
        for values in (data, moved * (1 + 0.02 * field / field[mask.data].std()))
    )
    for run in ("run-1", "run-2"):
        (folder / run).mkdir()
    xfm = register_to_first_run(second, first, mask, mask, folder, random_seed=0)
    place = estimate_place_error(second, first, mask, xfm)
    return Pair(mask_hr=mask_hr, pose=pose, xfm=xfm, place=place, folder=folder)


def describe(found):
    """Return a proportion and its 95 % interval in percent."""
    interval = binomtest(int(np.sum(found)), len(found)).proportion_ci()
    return f"{100 * np.mean(found):.1f} [{100 * interval.low:.1f}, {100 * interval.high:.1f}]"


def load(out):
    """Return boldref and brain of the participant, and the brain on the fine grid."""
    (boldref_file,) = Path(out).rglob("sub-01_*desc-hmc_boldref.nii.gz")
    (mask_file,) = Path(out).rglob("sub-01_*space-boldref_label-brain_desc-acquired_mask.nii.gz")
    image = nib.load(boldref_file)
    boldref = Volume(np.asarray(image.dataobj, np.float32), image.affine)
    mask = Volume(np.asarray(nib.load(mask_file).dataobj) > 0, image.affine)
    fine = np.diag([0.5, 0.5, 1, 1])
    fine[:2, 3] = -0.25
    fine_mask = np.kron(mask.data, np.ones((2, 2, 1), bool))
    return boldref, mask, Volume(fine_mask, image.affine @ fine)


def measure_null(pair, foci, noise, fields, rng):
    """Yield a row with and without the error of the place."""
    results = pair.compare(foci, foci, noise, fields, rng)
    for place, result in zip(("included", "omitted"), results, strict=True):
        regions = result["regions"]
        yield {
            "noise, %": noise,
            "place": place,
            "map": result["sblFdr"].any(),
            "voxels": np.mean(np.abs(result["t"][pair.mask_hr.data]) > 1.96),
            "regions": list((regions["lower"] > 0) | (regions["upper"] < 0)),
            "share": result["share"],
        }


def measure_power(pair, foci, change, fields, rng):
    """Yield a row per focus: whether its change is found, and the stated smallest change."""
    sized, true_changes = size_changes(foci, change, pair.mask_hr, fields)
    larger = replace(sized, heights=(1 + change) * sized.heights)
    result, _ = pair.compare(sized, larger, NOISE, fields, rng)
    for row, true_change in zip(result["regions"].itertuples(), true_changes, strict=True):
        yield {
            "change, %": 100 * change,
            "found": row.lower > 0,
            "stated": row.smallest_change / true_change,
        }


def measure(head, size, seed):
    """Return rows of the null, and rows of changes, of one pair of runs."""
    boldref, mask, mask_hr = head
    rng = np.random.default_rng(seed)
    fields = make_fields(mask_hr.data.shape)
    pose = make_pose(0.5 * DISPLACEMENTS[size](rng))
    foci = draw_foci(mask_hr, rng)
    nulls, changes = [], []
    with tempfile.TemporaryDirectory() as name:
        pair = register(boldref, mask, mask_hr, pose, Path(name), rng)
        for noise in (NOISE, LOW_NOISE):
            rows = measure_null(pair, foci, noise, fields, rng)
            nulls += [{"mm and degrees": size, **row} for row in rows]
        for change in CHANGES if size == SIZE_OF_POWER else ():
            changes += measure_power(pair, foci, change, fields, rng)
    return nulls, changes


def measure_tables(seed, *, changed, with_region):
    """Return the answer to what changed in tables of two runs, compared with the truth."""
    rng = np.random.default_rng(seed)
    count = N_LABELS + with_region
    noise, dof = rng.uniform(*LABEL_NOISE, count), rng.uniform(*LABEL_DOF, count)
    truth = rng.normal(0, 1.5, count)
    error_sd = RELATIVE_ERROR * np.abs(truth)
    shared = np.sqrt(SHARED) * rng.normal(size=count)
    target = N_LABELS if with_region else rng.integers(N_LABELS)
    sd = MeanEffect(effect=0.0, noise_sd=np.sqrt(2) * noise[target], noise_dof=2 * dof[target])
    sd = sd.add_error(np.sqrt(2 * (1 - SHARED)) * error_sd[target], ERROR_DOF)
    change = np.zeros(count)
    if changed:
        change[target] = TIMES_SEARCHED * sd.compute_smallest_change(0.05 / N_LABELS)
    tables, maps = {}, []
    for name, effect in (("run-1", truth), ("run-2", truth + change)):
        own = np.sqrt(1 - SHARED) * rng.normal(size=count)
        drawn = np.sqrt(1 - COMMON_NOISE) * rng.normal(size=count)
        drawn += np.sqrt(COMMON_NOISE) * rng.normal()
        tables[name] = pd.DataFrame(
            {
                "series": "sbl",
                "contrast": "a",
                "fwhm_mm": 0.0,
                "origin": ["atlas"] * N_LABELS + ["roi"] * with_region,
                "region": [f"region {k}" for k in range(count)],
                "voxels": 100,
                "voxels_given": 100,
                "input_fwhm_mm": 0.0,
                "effect": effect + error_sd * (shared + own) + noise * drawn,
                "noise_se": noise * np.sqrt(rng.chisquare(dof) / dof),
                "noise_dof": dof,
                "error_sd": error_sd,
            }
        )
        maps += [
            Derivative(
                Volume(np.ones((2, 2, 2), np.float32), np.eye(4)),
                {"space": "firstBoldref", "contrast": "a", "stat": stat, "desc": "sbl"},
                {"Run": name, "SmoothingFWHM": 0.0, "Model": {"DegreesOfFreedom": NOISE_DOF}},
            )
            for stat in ("effect", "variance")
        ]
    _, _, (answer,) = contrast_regions(
        tables,
        maps,
        {},
        {"OtherHead": {}},
        series_name="sbl",
        over_runs={"change": TERMS},
        calibrated=False,
        voxel_mm=6.0,
    )
    truths = {f"region {k}": value for k, value in enumerate(change)}
    found = [region for region in answer.regions if region.is_found]
    return {
        "pairs": ("change" if changed else "null", "region" if with_region else "labels"),
        "named": any(region.region == f"region {target}" for region in found),
        "nothing": not found,
        "inside": [r.lower <= truths[r.region] <= r.upper for r in answer.regions],
    }


def summarize_tables(table):
    """Return a row of the table of answers."""
    shares = [np.mean(inside) for inside in table["inside"] if inside]
    return {
        "of": len(table),
        "changed region named, %": describe(table["named"]),
        "nothing changed, %": describe(table["nothing"]),
        "with intervals": len(shares),
        "that hold the truth, %": 100 * np.mean(shares),
    }


def summarize_null(table):
    """Return a row of the table of false positives."""
    return {
        "maps with significant voxels": int(table["map"].sum()),
        "of": len(table),
        "voxels beyond 1.96, %": 100 * float(table["voxels"].mean()),
        "significant regions, %": describe(table["regions"].sum()),
        "share of the place, %": 100 * float(table["share"].mean()),
    }


def summarize_power(table):
    """Return a row of the table of changes that are found."""
    sized = table.dropna()
    return {
        "foci": len(table),
        "with a size": len(sized),
        "stated over true change": float(sized["stated"].median()),
        "found, %": describe(sized["found"]),
    }


def keep_tables(pairs):
    """Store both tables of the results of `measure`."""
    nulls, changes = (pd.DataFrame(chain.from_iterable(rows)) for rows in zip(*pairs, strict=True))
    keys = ["mm and degrees", "noise, %", "place"]
    rows = [
        dict(zip(keys, key, strict=True)) | summarize_null(table)
        for key, table in nulls.groupby(keys, sort=False)
    ]
    keep("run_differences", "Two runs of one condition", rows)
    rows = [
        {"change, %": key} | summarize_power(table) for key, table in changes.groupby("change, %")
    ]
    keep("run_differences_power", "Changes of the stated smallest size in regions", rows)


def main(out=""):
    """Measure answers, and with the output of a call false positives and power of maps."""
    answers = pd.DataFrame(
        [
            measure_tables(seed, changed=changed, with_region=seed % 2 == 1)
            for changed in (False, True)
            for seed in range(2 * N_PAIRS)
        ]
    )
    rows = [
        dict(zip(("pairs", "read in"), key, strict=True)) | summarize_tables(table)
        for key, table in answers.groupby("pairs", sort=False)
    ]
    keep("run_differences_answers", "What the page says changed, from tables of regions", rows)
    if not out:
        return
    head = load(out)
    seeds = range(FIRST_SEED, FIRST_SEED + N_SEEDS)
    keep_tables([measure(head, size, seed) for size, seed in product(DISPLACEMENTS, seeds)])


if __name__ == "__main__":
    main(*sys.argv[1:])
