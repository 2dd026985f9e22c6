"""Checks of a region of interest: no response, region not active, region misplaced.

python benchmarks/region_checks.py DATA OUT FIRST LAST [PERSON ...]

Phantoms have the seeds FIRST to LAST: each is simulated with and without a response to the task,
with other noise. DATA has the runs of three people (studyforrest-lowres-truth, both runs of
pydecnef, opennft), and the example is in the repository. Responses are stored in OUT and are not
measured again; the checks are applied to stored responses. Head motion of phantoms is known, and
head motion of people is estimated by the program. Maps are of the linear model, smoothed by 5 mm,
as in the step that checks regions.

Runs of people without a response are the residuals of the model of the task, with the blocks in
random order and with random gaps between them.

Regions are connected and grow from a random voxel by random neighbors; their sizes are uniform on
a logarithmic scale. In phantoms, *on* is inside of voxels with more than .3 of the largest known
activation of the acquired grid, and *off* and *near* are in voxels with less than .05 of it: more
than 15 mm, or less than 20 mm, from voxels above .1 of it. In people, *on* is inside of voxels
with z > 6 in any condition of the measured run, and *off* in voxels with |z| < 3 in all
conditions. Regions of the example are from the measured series, on the acquired grid.

A result is false if it is *no response* in a run with a response, if a region on the activation is
*not active* or *misplaced*, or if a region of a run without a response is *misplaced*.
"""

from __future__ import annotations

import pickle
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from _table import HERE, keep
from numpy.typing import NDArray
from region_coverage import grow
from scipy import ndimage

from bids_sr.api.run_basics import fit_basics, to_fitted_run
from bids_sr.api.run_inputs import RunInputs
from bids_sr.engine.flow import Eager
from bids_sr.evaluation.region_checks import classify_response
from bids_sr.glm.activation_maps import ActivationSettings, map_activation
from bids_sr.glm.contrasts import list_modeled_types
from bids_sr.glm.design import Design, DesignSettings
from bids_sr.glm.region_response import (
    ActiveCluster,
    average_regions,
    find_active_clusters,
    list_averaged_regions,
    measure_response,
)
from bids_sr.glm.regressors import Events
from bids_sr.glm.steps.linear_models import DesignInputs, LinearModel
from bids_sr.io.nifti import SeriesReader, save_image
from bids_sr.io.tables import read_frame
from bids_sr.phantom.bold_run import SimulatedRun, simulate_bold_run
from bids_sr.phantom.presets import PRESETS
from bids_sr.phantom.simulated_subject import SimulatedSubject
from bids_sr.preproc.steps import run_confounds
from bids_sr.spatial.masks import compute_mean_signal
from bids_sr.spatial.resampling import sample_volume
from bids_sr.workflows.model_run import resample_acquired

Array = NDArray[Any]
SIZES = (5, 60)
"""Smallest and largest number of voxels of a region."""
SCENES = ("ribbon", "veins", "free", "overlap")
VOLUMES = (90, 120, 150)
WIDTH_MM = 5.0
FACTOR = (2.0, 2.0, 1.0)
PER_KIND = {"phantom": 3, "person": 10}
"""Regions of each kind per run."""
NULL_RUNS = 10
"""Runs without a response per run of a person."""
STATES = ("no response", "region not active", "region misplaced", "response")
EXAMPLE = "example"
PEOPLE = {
    EXAMPLE: "sub-01/func/sub-01_task-localizer",
    "A": "studyforrest-lowres-truth/sub-01/func/sub-01_task-localizer",
    "B1": "pydecnef/sub-01/func/sub-01_task-perception_run-01",
    "B2": "pydecnef/sub-01/func/sub-01_task-perception_run-02",
    "C": "opennft/sub-01/func/sub-01_task-nfpsc",
}
"""Stems of the runs of people in DATA, and of the example."""


@dataclass(frozen=True)
class Preprocessed:
    """Motion-corrected run with its brain and its linear model.

    `reader` is the series, and `percent` is the factor from its signal to percent.
    """

    reader: SeriesReader
    mask: Array
    inputs: DesignInputs
    percent: float

    def model(self, conditions: Sequence[str]) -> LinearModel:
        """Return the linear model with one contrast per condition."""
        contrasts = {name: {name: 1.0} for name in conditions}
        return LinearModel(inputs=self.inputs, contrasts=contrasts, nuisance=None)


@dataclass(frozen=True)
class Mapped:
    """Run with its maps, from which the response of any region can be measured."""

    run: Preprocessed
    design: Design
    z_maps: dict[str, Array]
    clusters: list[ActiveCluster]

    @property
    def highest_z(self) -> Array:
        """Largest z of any condition (X, Y, Z)."""
        return np.max(list(self.z_maps.values()), axis=0)

    @property
    def largest_z(self) -> Array:
        """Largest |z| of any condition (X, Y, Z)."""
        return np.max(np.abs(list(self.z_maps.values())), axis=0)


def preprocess(file: Path, events: Events, folder: Path, motion: Array | None) -> Preprocessed:
    """Correct head motion of a series, which is estimated if `motion` is None."""
    reader = SeriesReader(file)
    basics = fit_basics(
        reader, RunInputs(motion=motion), folder, factor=FACTOR, dummy_scans=None, realigned=False
    )
    run = to_fitted_run(reader, basics)
    mask = basics.brain.bold_mask.data
    inputs = DesignInputs(
        regressors=events,
        confounds=run_confounds.motion_confounds(run.motion, None, outliers=run.outliers),
        n_dummy=run.n_dummy,
        design=DesignSettings(),
    )
    mean_signal = compute_mean_signal(run.boldref.data, mask)
    return Preprocessed(resample_acquired(run), mask, inputs, 100 / mean_signal)


def map_run(run: Preprocessed, folder: Path) -> Mapped:
    """Map the conditions of a run."""
    conditions = run.inputs.regressors.conditions
    model = run.model(conditions)
    design = model.build_design(run.reader)
    fit = map_activation(
        run.reader,
        run.mask,
        {WIDTH_MM: design},
        model.mapped_contrasts,
        ActivationSettings(kinds=("glm",)),
        scratch=folder,
    )[WIDTH_MM]
    z_maps = {name: np.array(fit.maps[name, "z"]) for name in conditions}
    clusters = find_active_clusters(z_maps, run.mask)
    return Mapped(run, design, z_maps, clusters)


def measure_regions(mapped: Mapped, regions: Sequence[tuple[str, Array]]) -> list[dict[str, Any]]:
    """Return the response of each region, with its kind."""
    run, conditions = mapped.run, {name: {name: 1.0} for name in mapped.z_maps}
    averaged = [
        list_averaged_regions(region, run.mask, run.reader.affine, mapped.clusters)
        for _, region in regions
    ]
    joined = [region for roles in averaged for region in roles.values()]
    means = average_regions(run.reader, joined, run.inputs.n_dummy)
    rows = []
    for index, (kind, region) in enumerate(regions):
        roles = averaged[index]
        mean_series, means = means[:, : len(roles)], means[:, len(roles) :]
        response = measure_response(
            roles, mean_series, mapped.clusters, mapped.design, conditions
        ).times(run.percent)
        rows.append({"kind": kind, "voxels": int(region.sum()), "measured": response})
    return rows


def draw_region(allowed: Array, rng: np.random.Generator) -> Array:
    """Return a connected region of allowed voxels, which is smaller if there is no room."""
    size = round(float(np.exp(rng.uniform(*np.log(SIZES)))))
    while True:
        for _ in range(20):
            region = grow(allowed, size, rng)
            if region is not None:
                return region
        size = max(1, size // 2)


def draw_regions(
    allowed: dict[str, Array], count: int, mask: Array, rng: np.random.Generator
) -> list[tuple[str, Array]]:
    """Return regions of each kind with room, and the brain, with their kinds."""
    regions = [
        (kind, draw_region(voxels, rng))
        for kind, voxels in allowed.items()
        if voxels.any()
        for _ in range(count)
    ]
    return [*regions, ("brain", mask)]


# --- phantoms


def measure_phantom(seed: int) -> Iterator[dict[str, Any]]:
    """Yield the results of a simulated head, with and without a response to the task."""
    rng = np.random.default_rng([seed, 1])
    scene, n_volumes = SCENES[seed % len(SCENES)], int(rng.choice(VOLUMES))
    subject = SimulatedSubject(replace(PRESETS["tiny"], volumes=n_volumes), scene, seed=seed)
    run = simulate_bold_run(subject)
    rest = run.simulate_still_volume()
    known = np.max(
        [run.simulate_still_volume(**{name: 1.0}) - rest for name in run.conditions], axis=0
    )
    about = {"run": f"phantom {seed}", "source": "phantoms", "scene": scene, "T": n_volumes}
    allowed: dict[str, Array] | None = None
    for has_response in (True, False):
        subject.null = not has_response
        # the same head and motion, but other noise and, because maps are cached, a new record
        simulated = run if has_response else replace(run, stream=("echoes", 7))
        with tempfile.TemporaryDirectory() as name, Eager(Path(name), lambda _: None):
            mapped = _map_simulated(simulated, Path(name))
            mask = mapped.run.mask
            if allowed is None:
                allowed = _select_kinds(known, mask, mapped.run.reader.affine)
            inside = {kind: voxels & mask for kind, voxels in allowed.items()}
            regions = draw_regions(inside, PER_KIND["phantom"], mask, rng)
            for row in measure_regions(mapped, regions):
                yield about | {"response": has_response} | row


def _map_simulated(run: SimulatedRun, folder: Path) -> Mapped:
    file = folder / "bold.nii"
    series = np.stack(list(run.volumes()), axis=-1)
    save_image(series, run.preset.bold_affine, file, tr=run.preset.tr)
    table = pd.DataFrame(run.events, columns=["onset", "duration", "trial_type"])
    events = Events(table[table["trial_type"] != "rest"])
    return map_run(preprocess(file, events, folder, run.motion), folder)


def _select_kinds(known: Array, mask: Array, affine: Array) -> dict[str, Array]:
    """Return the voxels of each kind of region in a phantom."""
    level = np.where(mask, known / known[mask].max(), 0)
    zooms = np.linalg.norm(affine[:3, :3], axis=0)
    distance = ndimage.distance_transform_edt(level <= 0.1, sampling=zooms)
    return {
        "on": mask & (level > 0.3),
        "near": mask & (level < 0.05) & (distance < 20),
        "off": mask & (level < 0.05) & (distance > 15),
    }


# --- people


def measure_person(data: Path, name: str, first_seed: int) -> Iterator[dict[str, Any]]:
    """Yield the results of a run of a person, as measured and without the response."""
    root = HERE.parent / "examples" / "studyforrest" if name == EXAMPLE else data
    stem = root / PEOPLE[name]
    rng = np.random.default_rng([first_seed, *name.encode()])
    about = {"run": name, "source": EXAMPLE if name == EXAMPLE else "people"}
    with tempfile.TemporaryDirectory() as scratch, Eager(Path(scratch), lambda _: None):
        folder = Path(scratch)
        events = _read_events(Path(f"{stem}_events.tsv"))
        run = preprocess(Path(f"{stem}_bold.nii.gz"), events, folder, None)
        mapped = map_run(run, folder)
        highest, largest = mapped.highest_z, mapped.largest_z
        if name == EXAMPLE:
            highest, largest = _map_measured(data, run, folder)
        allowed = {"on": run.mask & (highest > 6), "off": run.mask & (largest < 3)}
        regions = draw_regions(allowed, PER_KIND["person"], run.mask, rng)
        for row in measure_regions(mapped, regions):
            yield about | {"response": True} | row
        residuals = _write_residuals(mapped, folder / "residuals.nii")
        with SeriesReader(residuals) as reader:
            for _ in range(NULL_RUNS):
                other = replace(run.inputs, regressors=_shuffle(events, reader, rng))
                silent = map_run(replace(run, reader=reader, inputs=other), folder)
                regions = draw_regions({"any": run.mask}, PER_KIND["person"], run.mask, rng)
                for row in measure_regions(silent, regions):
                    yield about | {"response": False} | row


def _read_events(file: Path) -> Events:
    table = read_frame(file)[["onset", "duration", "trial_type"]]
    return Events(table[table["trial_type"].isin(list_modeled_types(table["trial_type"]))])


def _map_measured(data: Path, run: Preprocessed, folder: Path) -> tuple[Array, Array]:
    """Return the largest z and |z| of the measured run of the example, on the acquired grid."""
    stem = data / PEOPLE["A"]
    measured_folder = folder / "measured"
    measured_folder.mkdir()
    with Eager(measured_folder, lambda _: None):
        measured = preprocess(
            Path(f"{stem}_bold.nii.gz"),
            _read_events(Path(f"{stem}_events.tsv")),
            measured_folder,
            None,
        )
        mapped = map_run(measured, measured_folder)
    highest, largest = (
        sample_volume(
            values.astype(np.float32),
            measured.reader.affine,
            run.mask.shape,
            run.reader.affine,
        )
        for values in (mapped.highest_z, mapped.largest_z)
    )
    return highest, largest


def _write_residuals(mapped: Mapped, file: Path) -> Path:
    """Write a series without the response to its task."""
    run, design = mapped.run, mapped.design
    columns = [design.columns.index(name) for name in design.conditions]
    weights = np.linalg.pinv(design.matrix)[columns]
    n_dummy = run.inputs.n_dummy
    series = np.stack(list(run.reader.volumes()), axis=-1)
    inside = series[run.mask]
    effects = inside[:, n_dummy:] @ weights.T
    inside[:, n_dummy:] -= (effects @ design.matrix[:, columns].T).astype(np.float32)
    series[run.mask] = inside
    save_image(series, run.reader.affine, file, tr=run.reader.tr)
    return file


def _shuffle(events: Events, reader: SeriesReader, rng: np.random.Generator) -> Events:
    """Return blocks of events in random order, with random gaps between the blocks.

    Events of one type with gaps of at most 3 s are a block.
    """
    table = events.table.sort_values("onset").reset_index(drop=True)
    ends = table["onset"] + table["duration"]
    is_other_type = table["trial_type"].ne(table["trial_type"].shift(1))
    is_new = (table["onset"] - ends.shift(1) > 3) | is_other_type
    blocks = [block for _, block in table.groupby(is_new.cumsum())]
    lengths = [float((b["onset"] + b["duration"]).max() - b["onset"].min()) for b in blocks]
    rest = reader.shape[3] * reader.tr - sum(lengths)
    gaps = rng.dirichlet(np.full(len(blocks) + 1, 2.0)) * rest
    start, placed = 0.0, []
    for gap, index in zip(gaps, rng.permutation(len(blocks)), strict=False):
        start += gap
        block = blocks[index]
        placed.append(block.assign(onset=block["onset"] - block["onset"].min() + start))
        start += lengths[index]
    return Events(pd.concat(placed, ignore_index=True))


def read_rows(file: Path, rows: Iterator[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the stored rows of a run, which are measured and stored if the file is missing."""
    if not file.exists():
        start = time.process_time()
        file.write_bytes(pickle.dumps(list(rows)))
        print(file.stem, f"{time.process_time() - start:.0f} s", flush=True)
    stored: list[dict[str, Any]] = pickle.loads(file.read_bytes())
    for row in stored:
        row["state"] = classify_response(row.pop("measured"), is_named=row["kind"] != "brain")
    return stored


def tabulate(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return how often each result is reached, by source, response and kind of region."""
    rows = []
    groups = [("all", table), *table.groupby("source", sort=False)]
    for source, group in groups:
        for has_response, part in group.groupby("response", sort=False):
            for kind in ("on", "near", "off", "any", "brain"):
                states = part.loc[part["kind"].eq(kind), "state"]
                if len(states):
                    counts = {state: int(states.eq(state).sum()) for state in STATES}
                    label = "with" if has_response else "without"
                    rows.append({"runs": source, "task": label, "region": kind, **counts})
    return rows


def summarize(table: pd.DataFrame) -> list[str]:
    """Return the shares that the bars are about, as remarks."""
    state = table["state"]
    is_placed = state.isin(STATES[1:3])
    is_false = (table["response"] & state.eq("no response")) | (
        is_placed & table["kind"].eq("on") & table["response"]
    )
    is_false |= ~table["response"] & state.eq("region misplaced")
    lines = []
    for source, part in [("all", table), *table.groupby("source", sort=False)]:
        silent = part[~part["response"] & part["kind"].ne("brain")]
        missed = part[part["response"] & part["kind"].isin(["off", "near"])]
        counts = {
            "false": (int(is_false[part.index].sum()), len(part)),
            "*no response* without the task": (
                int(silent["state"].eq("no response").sum()),
                len(silent),
            ),
            "*not active* or *misplaced* off the activation": (
                int(is_placed[missed.index].sum()),
                len(missed),
            ),
        }
        shares = [
            f"{name} {n} of {total} ({100 * n / total:.1f} %)"
            for name, (n, total) in counts.items()
            if total
        ]
        lines.append(f"{source}: {'; '.join(shares)}.")
    return lines


def main() -> int:
    """Measure the phantoms and people that are not stored, and write the table."""
    if len(sys.argv) < 5:
        sys.exit(__doc__)
    data, out = Path(sys.argv[1]), Path(sys.argv[2])
    first, last = int(sys.argv[3]), int(sys.argv[4])
    out.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    for seed in range(first, last + 1):
        rows += read_rows(out / f"phantom_{seed}.pkl", measure_phantom(seed))
    for name in sys.argv[5:] or PEOPLE:
        rows += read_rows(out / f"{name}_{first}.pkl", measure_person(data, name, first))
    table = pd.DataFrame(rows)
    title = f"Checks of the region of interest, seeds {first} to {last}"
    keep("region_checks", title, tabulate(table), remarks=summarize(table))
    return 0


if __name__ == "__main__":
    sys.exit(main())
