"""Group activation maps in template space, from the participants' effect maps.

Effects are in percent of the mean brain signal of the run, because signal units differ between
scanners; all series of a run have the same scale. A stored map of all runs of a participant is
used if it exists; otherwise, the runs are averaged with equal weights. A one-sample t test is
performed across participants. Participants are added to running sums one by one, so that memory
use does not increase with their number. Voxels outside the brain of any participant are excluded.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from bids_sr.frozen import frozen
from bids_sr.group.input_maps import (
    DerivativeMaps,
    MapKey,
    ParticipantMaps,
    RunMaps,
    common_space,
    first_smoothing,
    group_by_participant,
)
from bids_sr.group.template_sampling import (
    ParticipantSampling,
    Target,
    compute_participant_effects,
    load_target,
    prepare_participant_sampling,
)
from bids_sr.group.voxel_tests import FWE, Z_SHOWN, GroupMaps, RunningSums, correct_by_sign_flips
from bids_sr.io.arrays import Array
from bids_sr.io.uris import template_uri
from bids_sr.io.volume import Volume
from bids_sr.metrics.rows import MISSING
from bids_sr.series import map_label

_LOGGER = logging.getLogger(__name__)
FDR = 0.05  # false discovery rate
LEAST_PARTICIPANTS = 3  # two participants leave one degree of freedom, which is too few for a test
CHUNK = 50  # participants, smallest number that one process accumulates
_N_CHUNKS = 32  # approximate number of chunks; the sums of a chunk take megabytes
_LOGP_TOLERANCE = 1e-6  # of −log10 of p at the significance level, for rounding to float32
_MapMetadata = Mapping[str, float | None]
"""Entries of a sidecar that only some statistics have."""


@dataclass(slots=True)
class _ParticipantSums:
    """Running sums over some participants."""

    inside: Array  # (N,) boolean over the target's mask; inside the brain of all participants
    sums: dict[MapKey, RunningSums]  # by map, over the voxels inside

    def restrict(self, inside: Array) -> None:
        """Restrict the sums to voxels that are also inside another mask (N,)."""
        common = self.inside & inside
        selected = common[self.inside]
        if not selected.all():
            for map_sums in self.sums.values():
                map_sums.restrict(selected)
        self.inside = common


def _sum_participants(
    participants: Sequence[ParticipantMaps], *, target: Target, keys: Sequence[MapKey]
) -> _ParticipantSums:
    """Accumulate participants, with the maps of one participant in memory at a time."""
    n = len(target.points)
    total = _ParticipantSums(
        inside=np.ones(n, dtype=bool), sums={key: RunningSums.empty(n) for key in keys}
    )
    for participant in participants:
        sampling = prepare_participant_sampling(participant, target, total.inside, keys)
        in_brain = sampling.inside
        if not in_brain.all():
            sampling.restrict(in_brain)
            inside = total.inside.copy()
            inside[inside] = in_brain
            total.restrict(inside)
        for key, values in compute_participant_effects(sampling, keys).items():
            total.sums[key].add(values, participant.participant)
    return total


def _join_sums(chunks: Iterable[_ParticipantSums]) -> _ParticipantSums:
    """Join the sums of several chunks of participants, in the order of the chunks."""
    remaining = iter(chunks)
    total = next(remaining)
    for addition in remaining:
        common = total.inside & addition.inside
        total.restrict(common)
        addition.restrict(common)
        for key, map_sums in total.sums.items():
            map_sums.join(addition.sums[key])
    return total


@frozen
class _Computation:
    """Settings of the group maps of all tasks.

    Attributes
    ----------
    target : Target
        Template.
    output_dir : Path
        Derivatives folder.
    series : Sequence[str]
        Series to test, in the order of the result.
    fwhm_mm : float
        Smoothing of the maps (FWHM, mm).
    flips : int
        Number of random sign flips; 0 for no correction.
    seed : int
        Seed of the sign flips.
    threads : int
        Number of maps that are tested at the same time.
    pool : Executor | None
        Accumulates chunks of participants in parallel; None for one chunk after the other.
    print_line : Callable[[str], None]
        Receives progress messages.
    """

    target: Target
    output_dir: Path
    series: Sequence[str]
    fwhm_mm: float
    flips: int
    seed: int
    threads: int
    pool: Executor | None
    print_line: Callable[[str], None]


@frozen
class _TaskTests:
    """Inputs of the tests of one task.

    Attributes
    ----------
    task, variant : str
        Task label, and the entities other than session, task and run; n/a if there are none.
    participants : Sequence[ParticipantMaps]
        All participants of the task.
    inside : Array
        Voxels of the target's mask inside the brain of all participants, (N,) boolean.
    samplings : Sequence[ParticipantSampling]
        Samplings of the participants' maps at the voxels inside, for sign flips.
    computation : _Computation
        Settings of all group maps.
    """

    task: str
    variant: str
    participants: Sequence[ParticipantMaps]
    inside: Array
    samplings: Sequence[ParticipantSampling]
    computation: _Computation

    def select_participants(self, labels: Collection[str]) -> list[ParticipantMaps]:
        """Return the maps of participants with given labels (``sub-…``)."""
        return [maps for maps in self.participants if maps.participant in labels]


class _TaskMaps(NamedTuple):
    """Result of one task."""

    rows: list[dict[str, Any]]  # rows of `GroupMaps.maps`; [] if the task was not tested
    exclusions: list[str]  # sentences on participants and maps that were not tested
    tested: Array | None  # (N,) boolean over the target's mask; None if the task was not tested


def compute_group_maps(
    collected: DerivativeMaps | Sequence[RunMaps],
    output_dir: Path,
    *,
    series: Sequence[str],
    print_line: Callable[[str], None] = _LOGGER.info,
    pool: Executor | None = None,
    flips: int = 0,
    seed: int = 0,
    threads: int = 1,
) -> GroupMaps:
    """Compute the maps of every task, contrast and series, and write them to the folder ``group``.

    Parameters
    ----------
    collected : DerivativeMaps or Sequence[RunMaps]
        Maps of runs, and stored maps of all runs of participants.
    output_dir : Path
        Derivatives folder.
    series : Sequence[str]
        Series to test, in the order of the result.
    print_line : Callable[[str], None]
        Receives progress messages.
    pool : Executor, optional
        Accumulates chunks of participants in parallel; the chunks do not depend on it.
    flips : int
        Number of random sign flips for maps with family-wise error correction; 0 for no
        correction.
    seed : int
        Seed of the sign flips.
    threads : int
        Number of maps that are tested at the same time.
    """
    from bids_sr.registration.templates import TemplateError

    if not isinstance(collected, DerivativeMaps):
        collected = DerivativeMaps(runs=collected)
    all_maps = [*collected.runs, *collected.combined]
    space, fwhm_mm = common_space(all_maps), first_smoothing(all_maps)
    if space is None or fwhm_mm is None:
        return GroupMaps(
            exclusions=(
                "group maps: none of the participants has both effect maps and transforms to "
                "a standard space",
            )
        )
    try:
        target = load_target(space)
    except TemplateError as error:
        return GroupMaps(exclusions=(f"group maps: {error}",))
    computation = _Computation(
        target=target,
        output_dir=output_dir,
        series=series,
        fwhm_mm=fwhm_mm,
        flips=flips,
        seed=seed,
        threads=threads,
        pool=pool,
        print_line=print_line,
    )
    tasks = group_by_participant(_select_available(collected, space))
    exclusions = _list_runs_without_transform(collected.runs, space, tasks)
    rows: list[dict[str, Any]] = []
    tested = np.zeros(target.shape, dtype=bool)
    for (task, variant), participants in tasks.items():
        task_maps = _compute_task_maps(computation, task, variant, participants)
        rows += task_maps.rows
        exclusions += task_maps.exclusions
        if task_maps.tested is not None:
            tested[target.mask] |= task_maps.tested
    return GroupMaps(
        space=space,
        maps=pd.DataFrame(rows),
        exclusions=tuple(exclusions),
        background=Volume(target.background, target.affine),
        mask=Volume(tested, target.affine),
    )


def _compute_task_maps(
    computation: _Computation, task: str, variant: str, participants: Sequence[ParticipantMaps]
) -> _TaskMaps:
    """Compute and write the maps of one task."""
    heading = f"group maps for task {task}"
    if len(participants) < LEAST_PARTICIPANTS:
        exclusion = f"{heading}: {_too_few_text(len(participants))}"
        return _TaskMaps(rows=[], exclusions=[exclusion], tested=None)
    target, flips = computation.target, computation.flips
    keys = _list_effect_keys(participants, computation.series, computation.fwhm_mm)
    total = _sum_in_chunks(participants, target, keys, computation.pool)
    if not total.inside.any():
        exclusion = f"{heading}: the brain masks of the participants do not overlap"
        return _TaskMaps(rows=[], exclusions=[exclusion], tested=None)
    computation.print_line(
        f"{heading}: computing maps of {len(participants)} participants in "
        f"{int(total.inside.sum())} voxels of {target.space}"
    )
    testable = {
        key: map_sums
        for key, map_sums in total.sums.items()
        if len(map_sums.participants) >= LEAST_PARTICIPANTS
    }
    counts = {len(map_sums.participants) for map_sums in testable.values()}
    notes = [f"{heading}: {text}" for text in _resolution_texts(flips, counts)]
    for note in notes:
        computation.print_line(note)
    tests = _TaskTests(
        task=task,
        variant=variant,
        participants=participants,
        inside=total.inside,
        samplings=[
            prepare_participant_sampling(participant, target, total.inside, keys)
            for participant in (participants if flips else ())
        ],
        computation=computation,
    )
    with ThreadPoolExecutor(computation.threads) as workers:
        rows = list(workers.map(partial(_test_map, tests), testable, testable.values()))
    exclusions = [*notes, *_list_sparse_maps(task, total.sums)]
    return _TaskMaps(rows=rows, exclusions=exclusions, tested=total.inside)


def _select_available(collected: DerivativeMaps, space: str) -> DerivativeMaps:
    """Return the maps that are available or can be resampled in a template space."""
    return DerivativeMaps(
        runs=[run for run in collected.runs if run.is_available_in(space)],
        combined=[maps for maps in collected.combined if maps.is_available_in(space)],
    )


def _list_runs_without_transform(
    runs: Sequence[RunMaps],
    space: str,
    tasks: Mapping[tuple[str, str], Sequence[ParticipantMaps]],
) -> list[str]:
    """Return a sentence for each run that cannot be resampled to a template space.

    Runs whose participant has stored maps of all runs are not needed and not listed.
    """
    with_combined = {
        (task, participant.participant)
        for task, participants in tasks.items()
        for participant in participants
        if participant.combined is not None
    }
    return [
        f"group maps: {run.name} was excluded, because no transform to {space} was found"
        for run in runs
        if not run.is_available_in(space)
        and ((run.task, run.variant), run.participant) not in with_combined
    ]


def _sum_in_chunks(
    participants: Sequence[ParticipantMaps],
    target: Target,
    keys: Sequence[MapKey],
    pool: Executor | None,
) -> _ParticipantSums:
    """Accumulate all participants of a task, chunk by chunk."""
    size = max(CHUNK, len(participants) // _N_CHUNKS)
    chunks = [participants[start : start + size] for start in range(0, len(participants), size)]
    sum_chunk = partial(_sum_participants, target=target, keys=keys)
    return _join_sums((pool.map if pool else map)(sum_chunk, chunks))


def _list_sparse_maps(task: str, sums: Mapping[MapKey, RunningSums]) -> Iterator[str]:
    """Yield a sentence per series and number of participants on maps that cannot be tested."""
    contrasts: dict[tuple[str, int], list[str]] = {}
    for (contrast, series_name, _, _), map_sums in sums.items():
        if (count := len(map_sums.participants)) < LEAST_PARTICIPANTS:
            contrasts.setdefault((series_name, count), []).append(contrast)
    for (series_name, count), names in contrasts.items():
        yield (
            f"group maps of {series_name} for task {task}, {', '.join(names)}: "
            f"{_too_few_text(count)}"
        )


def _too_few_text(count: int) -> str:
    """Explain that the number of participants is too small for a test."""
    return (
        f"at least {LEAST_PARTICIPANTS} participants are required, but only {_count_text(count)} "
        "can be included"
    )


def _resolution_texts(flips: int, counts: Collection[int]) -> Iterator[str]:
    """Yield a note if too few participants or sign flips limit the smallest p value."""
    for n_participants in sorted(counts) if flips else ():
        n_distinct = 2 ** (n_participants - 1)  # reversing all signs results in the same abs(t)
        if (smallest_p := 1 / min(n_distinct, flips + 1)) > FWE or n_distinct <= flips:
            limit_text = (
                f"with {_count_text(n_participants)} and {flips} sign flips ({n_distinct}"
                " different flips are possible), corrected p values cannot be smaller than"
                f" {smallest_p:.2g}"
            )
            yield (
                f"{limit_text}, so no voxel can be significant at p = .05"
                if smallest_p > FWE
                else limit_text
            )


def _count_text(count: int) -> str:
    return f"{count} participant" if count == 1 else f"{count} participants"


def _list_effect_keys(
    participants: Sequence[ParticipantMaps], series: Sequence[str], fwhm_mm: float
) -> list[MapKey]:
    """Return available effect maps by contrast, then by series in the requested order."""
    available = {key for participant in participants for key in participant.map_keys()}
    contrasts = sorted({key[0] for key in available})
    requested = ((contrast, name, fwhm_mm, "effect") for contrast in contrasts for name in series)
    return [key for key in requested if key in available]


def _test_map(tests: _TaskTests, key: MapKey, map_sums: RunningSums) -> dict[str, Any]:
    """Test one series and contrast, store the maps, and return a row of `GroupMaps.maps`."""
    from nilearn.glm import fdr_threshold

    statistics = map_sums.statistics()
    peak = int(np.argmax(statistics["z"]))
    fdr_z = float(fdr_threshold(statistics["z"], FDR))
    target = tests.computation.target
    voxel_mm3 = abs(np.linalg.det(target.affine[:3, :3]))
    # The threshold is null if no voxel can reach it, because JSON has no infinity.
    metadata: dict[str, _MapMetadata] = {
        "z": {"FDR05Threshold": fdr_z if np.isfinite(fdr_z) else None}
    }
    corrected = {}
    if tests.computation.flips:
        corrected_map = _correct_map(tests, key)
        statistics["logpMaxT"] = corrected_map.logp
        metadata["logpMaxT"] = corrected_map.metadata
        significant = corrected_map.logp > -np.log10(FWE) - _LOGP_TOLERANCE
        corrected = {
            "fwe_t": corrected_map.threshold,
            "fwe_mm3": float(significant.sum() * voxel_mm3),
        }
    participants = tuple(map_sums.participants)
    paths = {
        stat: _write_map(tests, key, stat, values, participants, metadata.get(stat, {}))
        for stat, values in statistics.items()
    }
    contrast, series_name, fwhm_mm, _ = key
    return {
        "task": tests.task,
        "variant": tests.variant,
        "contrast": contrast,
        "series": series_name,
        "fwhm_mm": fwhm_mm,
        "participants": participants,
        **paths,
        "peak_z": float(statistics["z"][peak]),
        "peak_mm": tuple(target.points[tests.inside][peak].tolist()),
        "active_mm3": float((statistics["z"] > Z_SHOWN).sum() * voxel_mm3),
        "fdr_z": fdr_z,
        "fdr_mm3": float((statistics["z"] >= fdr_z).sum() * voxel_mm3),
        **corrected,
    }


class _CorrectedMap(NamedTuple):
    """Result of the correction by sign flips."""

    logp: Array  # (voxels inside,) −log10 of the corrected p values
    threshold: float  # abs(t) above which p <= .05
    metadata: _MapMetadata


def _correct_map(tests: _TaskTests, key: MapKey) -> _CorrectedMap:
    """Correct the p values of a map by sign flips."""
    effects = (compute_participant_effects(sampling, [key]) for sampling in tests.samplings)
    values = [maps[key] for maps in effects if key in maps]
    flips, seed = tests.computation.flips, tests.computation.seed
    corrected = correct_by_sign_flips(np.stack(values, dtype=np.float32), flips, seed)
    threshold = corrected.threshold
    metadata = {
        "FWE05Threshold": threshold if np.isfinite(threshold) else None,
        "SignFlips": corrected.flips,
        "RandomSeed": seed,
    }
    return _CorrectedMap(logp=corrected.logp, threshold=threshold, metadata=metadata)


def _write_map(
    tests: _TaskTests,
    key: MapKey,
    stat: str,
    values: Array,
    participants: Sequence[str],
    metadata: _MapMetadata,
) -> Path:
    """Write a map after its sidecar and return its path.

    Parameters
    ----------
    tests : _TaskTests
        Tests of the task.
    key : MapKey
        Contrast, series and FWHM (mm) of the map.
    stat : str
        Name of the statistic, as in nilearn.
    values : Array
        Values of the voxels inside.
    participants : Sequence[str]
        Labels of the participants in the map.
    metadata : _MapMetadata
        Additional entries of the sidecar.
    """
    from nibabel.nifti1 import Nifti1Header

    from bids_sr.io import atomic_files
    from bids_sr.io.nifti import save_image

    target = tests.computation.target
    contrast, series_name, fwhm_mm, _ = key
    variant = "" if tests.variant == MISSING else f"_{tests.variant}"
    entities = f"group_task-{tests.task}{variant}_space-{target.space}_res-2_contrast-{contrast}"
    label = map_label(series_name, fwhm_mm)
    folder = tests.computation.output_dir / "group"
    stem = folder / f"{entities}_stat-{stat}_desc-{label}_statmap"
    stem.parent.mkdir(parents=True, exist_ok=True)
    sidecar = {**_make_sidecar(tests, key, stat, participants), **metadata}
    atomic_files.write_json(stem.with_name(f"{stem.name}.json"), sidecar)
    header = Nifti1Header()
    header["qform_code"] = header["sform_code"] = 4  # code of a template space
    tested = target.mask.copy()
    tested[tested] = tests.inside
    data = np.zeros(target.shape, dtype=np.float32)
    data[tested] = values
    path = stem.with_name(f"{stem.name}.nii.gz")
    save_image(data, target.affine, path, header_like=header)
    return path


def _make_sidecar(
    tests: _TaskTests, key: MapKey, stat: str, participants: Sequence[str]
) -> dict[str, object]:
    """Return the entries that the sidecars of all statistics have; see `_write_map`."""
    _, series_name, fwhm_mm, _ = key
    space = tests.computation.target.space
    description, unit = _describe_statistic(stat, len(participants))
    return {
        "Description": description,
        **({"Units": unit} if unit else {}),
        "SourceSeries": series_name,
        "SmoothingFWHM": fwhm_mm,
        "Participants": list(participants),
        "Model": {
            "Type": "one-sample t test across participants",
            "Runs": _runs_text(tests.select_participants(participants), key),
        },
        "SpatialReference": template_uri(space, "2") or space,
        "Resolution": (
            "2 mm isotropic; each participant's map was resampled by a single linear interpolation"
        ),
        "SkullStripped": True,
    }


def _describe_statistic(stat: str, n_participants: int) -> tuple[str, str | None]:
    """Return the description of a statistic and its unit; None for pure numbers."""
    return {
        "effect": (
            "Mean effect across participants, in percent of the mean brain signal in each run",
            "percent",
        ),
        "variance": (
            "Variance of the mean effect across participants (squared standard error)",
            "percent^2",
        ),
        "t": (
            f"t statistic of the mean effect across participants ({n_participants - 1} degrees of "
            "freedom)",
            None,
        ),
        "z": (
            "t statistic of the mean effect across participants, transformed to a z score",
            None,
        ),
        "logpMaxT": (
            "Negative decadic logarithm of the two-sided p value of t. Family-wise error "
            "across voxels was corrected with the largest |t| of each sign flip; p <= .05 if "
            "|t| is above FWE05Threshold.",
            None,
        ),
    }[stat]


def _runs_text(participants: Sequence[ParticipantMaps], key: MapKey) -> str:
    """Describe how the maps of the participants were computed from their runs.

    `key` contains contrast, series, FWHM (mm) and statistic of the maps.
    """
    counts = Counter[str](participant.origin(key) for participant in participants)
    phrases = [
        text.format(_count_text(counts[origin]))
        for origin, text in (
            ("stored", "stored map of all runs ({})"),
            ("computed", "mean of the maps of the runs with equal weights ({})"),
            ("single", "map of the only run ({})"),
        )
        if counts[origin]
    ]
    return "; ".join(phrases)
