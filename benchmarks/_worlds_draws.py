"""Draws of simulated activity, super-resolved and tested at half the resolution.

The steps are those of the program, without maps and intervals that the test does not need.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from _worlds_kinds import FACTOR, WORLDS, Simulation, World, simulate_run
from _worlds_people import CONTRAST, Array, Person

from bids_sr.evaluation.reference_maps import TRUE_T
from bids_sr.evaluation.steps.half_resolution import list_task_regressors
from bids_sr.glm.activation_maps import ActivationSettings, map_activation
from bids_sr.glm.block_effects import Effects, block_effects
from bids_sr.glm.blocks import TaskBlock
from bids_sr.glm.noise_smoothness import measure_smoothness
from bids_sr.io.atomic_files import atomic_file
from bids_sr.io.nifti import SeriesReader, save_image
from bids_sr.io.series import MEASURED
from bids_sr.spatial.nyquist import beyond_nyquist
from bids_sr.spatial.resampling import sample_volume
from bids_sr.sr.method import get_method
from bids_sr.sr.prior_maps import lower_resolution_errors
from bids_sr.sr.prior_maps.temporal_components import motion_regressors

METHOD = "sbl"
_REGIONS = ("active", "brain")


@dataclass(frozen=True)
class Draw:
    """Stored draw.

    `reconstructed` and `acquired` are block effects of the acquired run, downsampled and
    super-resolved, and as acquired. `task_free` are the effects with a prior of the run without
    its task (x, y, z, B). `active_t` is the t map of the downsampled run on their grid
    (x, y, z). `facts` are the smoothness of the acquired run and, by region, the true explained
    variance at the final resolution.
    """

    reconstructed: Effects
    acquired: Effects
    task_free: Array
    active_t: Array
    facts: dict[str, float]


@dataclass(frozen=True)
class Level:
    """Series that was downsampled and super-resolved again.

    `lowres_series` is the downsampled series and `lowres_mask` its brain mask. `reconstructed` and
    `acquired` are block effects of the super-resolved series and of the series, and `active_t` the
    t map of the downsampled series, interpolated to the grid of the series (x, y, z). `task_free`
    are the block effects with a prior of the downsampled series without its task. `low_effects`
    are the block effects of the downsampled series, `low_maps` its maps and `low_affine` its
    voxel-to-world matrix. `errors` is the series of reconstruction errors, which may be removed.
    """

    lowres_series: Path
    lowres_mask: Array
    reconstructed: Array
    acquired: Effects
    active_t: Array
    task_free: Array | None
    low_effects: Array
    low_maps: Mapping[tuple[str, str], Array]
    low_affine: Array
    errors: Path


def store_draw(person: Person, name: str, seed: int, folder: Path, file: Path) -> None:
    """Draw a kind of activity, and store the effects and the true explained variance.

    `name` is the name of the kind. `folder` is a folder for scratch files.
    """
    simulation = simulate_run(person, WORLDS[name], [seed, *name.encode()])
    measured = folder / "measured.nii"
    save_image(simulation.series, person.affine, measured, tr=person.tr)
    final = super_resolve(measured, person, person.mask, folder)
    acquired_file = final.lowres_series.rename(folder / "acquired.nii")
    test, smoothness = test_run(acquired_file, person, final.lowres_mask, folder)
    test.lowres_series.unlink()
    facts = {"smoothness": smoothness} | _measure_truth(person, WORLDS[name], simulation, final)
    save_draw(file, test, facts)


def test_run(file: Path, person: Person, mask: Array, folder: Path) -> tuple[Level, float]:
    """Downsample an acquired run and super-resolve it; return also the run's smoothness."""
    with SeriesReader(file) as reader:
        smoothness = measure_smoothness(reader, mask, 0)
        # regressors of a run without head motion
        poses = np.tile(np.eye(4), (person.series.shape[3], 1, 1))
        motion = motion_regressors(poses, mask, reader.affine)
    return super_resolve(file, person, mask, folder, motion, is_test=True), smoothness


def super_resolve(
    file: Path,
    person: Person,
    mask: Array,
    folder: Path,
    motion: Array | None = None,
    *,
    is_test: bool = False,
    n_samples: int = 1,
) -> Level:
    """Downsample a series (4D) and super-resolve it.

    `motion` are regressors of head motion. Effects with a prior of the run without its task are
    only computed in a test. Samples of the errors (`n_samples`) are needed for intervals only.
    """
    recipe = get_method(METHOD).variance
    assert recipe is not None
    model = person.linear_model
    with (
        SeriesReader(file) as reader,
        mock.patch.object(lower_resolution_errors, "N_SAMPLES", n_samples),
    ):
        design = model.inputs.build_block_design(reader, ())
        task = list_task_regressors(model.build_design(reader), design, reader.shape[3])
        result = lower_resolution_errors.reconstruct_at_lower_resolution(
            reader,
            mask,
            FACTOR,
            recipe,
            folder,
            nuisance=motion,
            seed=1,
            task=task if is_test else None,
        )
        acquired = block_effects(reader, mask, design, series=MEASURED)
    assert result.mask.shape == mask.shape
    with SeriesReader(result.lowres_series) as reader:
        low_affine = reader.affine
        maps = map_activation(
            reader,
            result.lowres_mask,
            {0.0: model.build_design(reader)},
            model.mapped_contrasts,
            ActivationSettings(kinds=("glm",)),
            scratch=folder,
        )[0.0].maps
        low_maps = {key: maps[key] for key in maps}
        blocks = block_effects(reader, result.lowres_mask, design, series=METHOD)
        active_t = sample_volume(maps["stimulus", "t"], low_affine, mask.shape, acquired.affine)
    with SeriesReader(result.errors) as reader:
        errors = block_effects(reader, mask, design, series=METHOD)
    return Level(
        lowres_series=result.lowres_series,
        lowres_mask=result.lowres_mask,
        reconstructed=acquired.betas + errors.betas,
        acquired=acquired,
        active_t=active_t,
        task_free=result.reconstruct_without_task(blocks.betas) if is_test else None,
        low_effects=blocks.betas,
        low_maps=low_maps,
        low_affine=low_affine,
        errors=result.errors,
    )


def _measure_truth(
    person: Person, world: World, simulation: Simulation, final: Level
) -> dict[str, float]:
    """Return the explained variance of known activity by region, and the number of active voxels.

    Activity is known for the effect of each half of the blocks. The mean of both halves is
    returned, and the value for the effect of all blocks. If blocks have other activity, the value
    for all blocks is the true value of the draw.
    """
    halves, run = final.acquired.halves(CONTRAST), final.acquired.run_weights(CONTRAST)
    assert halves is not None
    assert run is not None
    details = [
        beyond_nyquist(activity.astype(np.float32), FACTOR) for activity in simulation.activities
    ]
    # the unit of block effects is the change in a sustained block
    strengths = [person.design.weights.T @ response for response in simulation.responses]

    def explain(weights: Array, voxels: Array) -> float:
        effect = beyond_nyquist(final.reconstructed @ weights.astype(np.float32), FACTOR)
        known = sum(
            detail * float(weights @ strength)
            for detail, strength in zip(details, strengths, strict=True)
        )
        return explained_variance(effect, np.asarray(known), voxels)

    is_active = person.mask & (np.abs(final.active_t) > TRUE_T)
    facts = {"active voxels": float(np.count_nonzero(is_active))}
    for region, voxels in zip(_REGIONS, (is_active, person.mask), strict=True):
        facts[f"halves, {region}"] = float(np.mean([explain(half, voxels) for half in halves]))
        facts[f"run, {region}"] = explain(run, voxels)
        source = "halves" if world.other_activity is None else "run"
        facts[f"true, {region}"] = facts[f"{source}, {region}"]
    return facts


def explained_variance(effect: Array, known: Array, voxels: Array) -> float:
    """Return the explained variance of known activity in some voxels (X, Y, Z each).

    NaN is returned without voxels, and -inf if no activity is known.
    """
    if not voxels.any():
        return float("nan")
    known = known[voxels] - known[voxels].mean()
    effect = effect[voxels] - effect[voxels].mean()
    energy = float(np.square(known).sum())
    return 1 - float(np.square(effect - known).sum()) / energy if energy else float("-inf")


def save_draw(file: Path, test: Level, facts: dict[str, float]) -> None:
    """Write block effects at half the resolution, the t map and the facts of a draw."""
    acquired = test.acquired
    arrays = {
        "est": test.reconstructed,
        "tar": acquired.betas,
        "half": np.array([block.half for block in acquired.blocks]),
        "used": np.array([block.used for block in acquired.blocks]),
        "share": np.array([block.share for block in acquired.blocks]),
        "event": np.array(
            [(i, *event) for i, block in enumerate(acquired.blocks) for event in block.events]
        ),
        "leak": acquired.leak,
        "covariance": acquired.covariance,
        "zooms": np.array(acquired.zooms),
        "affine": acquired.affine,
        "free": test.task_free,
        "t": test.active_t,
        "mask": acquired.mask,
        "meta": np.array(json.dumps(facts)),
    }
    with atomic_file(file, durable=False) as unfinished, open(unfinished, "wb") as stream:
        np.savez(stream, **arrays)


def load_draw(file: Path) -> Draw:
    """Read a stored draw."""
    with np.load(file) as stored:
        arrays: dict[str, Any] = dict(stored)
    events = arrays["event"]
    columns = zip(arrays["half"], arrays["share"], arrays["used"], strict=True)
    blocks = tuple(
        TaskBlock(
            condition="stimulus",
            events=tuple(map(tuple, events[events[:, 0] == index, 1:].tolist())),
            half=int(half),
            share=float(share),
            used=bool(used),
            modulations=(1.0,) * int((events[:, 0] == index).sum()),
        )
        for index, (half, share, used) in enumerate(columns)
    )
    reconstructed, acquired = (
        Effects(
            series=series,
            affine=arrays["affine"],
            mask=arrays["mask"],
            betas=betas,
            mean=np.ones(betas.shape[:3], np.float32),
            blocks=blocks,
            covariance=arrays["covariance"],
            leak=arrays["leak"],
        )
        for series, betas in ((METHOD, arrays["est"]), (MEASURED, arrays["tar"]))
    )
    facts = json.loads(str(arrays["meta"]))
    return Draw(reconstructed, acquired, arrays["free"], arrays["t"], facts)
