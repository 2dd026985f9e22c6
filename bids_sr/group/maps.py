"""Group activation maps in template space, from the participants' effect maps.

Effects are in percent of the mean brain signal of the run, because signal units differ between
scanners; all series of a run have the same scale. A stored map of all runs of a participant is
used if it exists; otherwise, the runs are averaged with equal weights. A one-sample t test is
performed across participants. Participants are added to running sums one by one, so that memory
use does not increase with their number. A voxel of a map needs all its participants; a participant
who lacks much of what the others have in common is left out (`bids_sr.group.coverage`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import pandas as pd

from bids_sr.group.coverage import CoverageExclusion, leave_out_by_coverage, may_leave_out
from bids_sr.group.input_maps import MapKey, ParticipantMaps
from bids_sr.group.map_plan import (
    LEAST_PARTICIPANTS,
    MapPlan,
    PlannedTask,
    too_few_text,
)
from bids_sr.group.map_records import ORIGIN_TEXTS, GroupMapRecord, GroupMaps
from bids_sr.group.template_sampling import (
    ParticipantSampling,
    SampledMaps,
    Target,
    load_target,
    prepare_participant_sampling,
)
from bids_sr.group.voxel_tests import (
    FWE,
    Z_SHOWN,
    CorrectedPValues,
    RunningSums,
    correct_by_sign_flips,
)
from bids_sr.io.arrays import Array
from bids_sr.io.checksums import checksum
from bids_sr.io.frozen import frozen
from bids_sr.io.notices import InvalidInput
from bids_sr.io.uris import template_uri
from bids_sr.io.volume import Volume
from bids_sr.io.word_lists import format_count

_LOGGER = logging.getLogger(__name__)
FDR = 0.05
"""False discovery rate."""
CHUNK = 50
"""Smallest number of participants that one process accumulates."""
_N_CHUNKS = 32  # approximate number of chunks; the sums of a chunk take megabytes
_LOGP_TOLERANCE = 1e-6  # of −log10 of p at the significance level, for rounding to float32
_MapMetadata = Mapping[str, float | None]  # entries of a sidecar that only some statistics have
_Labels = Mapping[MapKey, frozenset[str]]  # labels of the participants in each map
_Result = TypeVar("_Result")


@frozen
class _Computation:
    """Settings of the group maps of all tasks.

    `flips` is the number of sign flips; 0 for no correction. `threads` is the number of maps that
    are tested at the same time. `pool` accumulates chunks of participants in parallel; None for
    one chunk after the other. `print_line` receives progress messages.
    """

    target: Target
    output_dir: Path
    flips: int
    seed: int
    threads: int
    pool: Executor | None
    print_line: Callable[[str], None]


def compute_group_maps(
    plan: MapPlan,
    output_dir: Path,
    *,
    print_line: Callable[[str], None] = _LOGGER.info,
    pool: Executor | None = None,
    flips: int = 0,
    seed: int = 0,
    threads: int = 1,
) -> GroupMaps:
    """Compute the planned maps, and write them to the folder ``group``.

    `print_line` receives progress messages. `pool` accumulates chunks of participants in parallel;
    the chunks do not depend on it. `flips` is the number of sign flips for maps with family-wise
    error correction (0 for no correction), and `threads` the number of maps that are tested at the
    same time.
    """

    if plan.space is None or not plan.computed:
        return GroupMaps(records=plan.records)
    try:
        target = load_target(plan.space)
    except InvalidInput as error:
        return GroupMaps(notes=(f"group maps: {error}",), records=plan.records)
    computation = _Computation(
        target=target,
        output_dir=output_dir,
        flips=flips,
        seed=seed,
        threads=threads,
        pool=pool,
        print_line=print_line,
    )
    rows: list[dict[str, Any]] = []
    records: list[GroupMapRecord] = []
    notes: list[str] = []
    tested = np.zeros(target.shape, dtype=bool)
    for task in plan.tasks:
        task_maps = _compute_task_maps(computation, task)
        rows += task_maps.rows
        records += task_maps.records
        notes += task_maps.notes
        tested[target.mask] |= task_maps.tested
    return GroupMaps(
        space=plan.space,
        maps=pd.DataFrame(rows),
        notes=tuple(notes),
        records=records,
        background=Volume(target.background, target.affine),
        mask=Volume(tested, target.affine),
    )


class _TaskMaps(NamedTuple):
    """Result of one task.

    `rows` are rows of `GroupMaps.maps`. `records` are of all maps, also of those without a test.
    `notes` are sentences on maps that were not tested, or whose p values are limited, and `tested`
    is a mask (N,) over the target's mask.
    """

    rows: list[dict[str, Any]]
    records: list[GroupMapRecord]
    notes: list[str]
    tested: Array


def _compute_task_maps(computation: _Computation, task: PlannedTask) -> _TaskMaps:
    """Compute and write the maps of one task."""
    records = {record.key: record for record in task.records}
    tests = _accumulate_maps(computation, task)
    records |= {test.record.key: test.record for test in tests}
    notes = [_explain_untested(test.record) for test in tests if not test.record.n_voxels]
    testable = [test for test in tests if test.record.n_voxels]
    tested = np.zeros(len(computation.target.points), dtype=bool)
    for test in testable:
        tested |= test.inside
    for line in _list_sizes([test.record for test in testable]):
        computation.print_line(line)
    if testable:
        counts = {len(test.record.members) for test in testable}
        notes += [
            f"group maps for {testable[0].record.task_label}: {text}"
            for text in _resolution_texts(computation.flips, counts)
        ]
    flip_inputs = _prepare_flips(computation, task, testable) if computation.flips else None
    with ThreadPoolExecutor(computation.threads) as workers:
        rows = list(workers.map(partial(_test_map, computation, flip_inputs), testable))
    return _TaskMaps(rows=rows, records=[*records.values()], notes=notes, tested=tested)


@frozen
class _MapTest:
    """Sums of one map over the participants, at the voxels `inside`.

    These are the voxels of the target's mask that all participants have, (N,) boolean.
    """

    record: GroupMapRecord
    sums: RunningSums
    inside: Array


def _process_chunks(
    computation: _Computation,
    participants: Sequence[ParticipantMaps],
    function: Callable[..., _Result],
) -> Iterator[_Result]:
    """Return the result of a function for each chunk, in the order of the participants."""
    size = max(CHUNK, len(participants) // _N_CHUNKS)
    chunks = [participants[start : start + size] for start in range(0, len(participants), size)]
    process_chunk = partial(function, target=computation.target)
    return (computation.pool.map if computation.pool else map)(process_chunk, chunks)


def _accumulate_maps(computation: _Computation, task: PlannedTask) -> list[_MapTest]:
    """Accumulate the participants of a task, and decide who is in each map."""
    records = {record.key: record for record in task.computed}
    labels = {key: frozenset(record.participants) for key, record in records.items()}
    if not labels:
        return []
    total = _sum_in_chunks(computation, task, labels, labels)
    for key, reasons in total.unusable.items():
        records[key] = replace(records[key], checksums=total.checksums[key]).exclude(reasons)
    doubtful = {
        key: frozenset(records[key].participants)
        for key, map_sums in total.maps.items()
        if may_leave_out(map_sums.gains.values(), int(map_sums.common.sum()))
    }
    tests = {key: _make_test(records[key], total) for key in records}
    left_out = _leave_out(computation, task, labels, doubtful) if doubtful else {}
    reduced = {
        key: records[key].exclude({left.participant: left.reason for left in exclusions})
        for key, exclusions in left_out.items()
        if exclusions
    }
    if reduced:
        total = _sum_in_chunks(
            computation,
            task,
            _select_contrasts(labels, reduced),
            {key: frozenset(record.participants) for key, record in reduced.items()},
        )
        tests |= {key: _make_test(record, total) for key, record in reduced.items()}
    return [*tests.values()]


@dataclass(slots=True)
class _MapSums:
    """Running sums of one map over some participants, over the selected n voxels.

    `common` are voxels that all participants so far have (n,). `gains` are the largest possible
    numbers of further common voxels without a participant, by participant.
    """

    sums: RunningSums
    common: Array
    gains: dict[str, int] = field(default_factory=dict)

    def add(self, values: Array, inside: Array, participant: str) -> None:
        """Add the values and voxels (n,) of a participant.

        A participant's gain is at most the number of voxels that the earlier participants have in
        common and this participant lacks; for the first participant, the second one decides.
        """
        if len(self.gains) == 1:
            (first,) = self.gains
            self.gains[first] = int(np.count_nonzero(inside & ~self.common))
        n_lost = int(np.count_nonzero(self.common & ~inside))
        self.gains[participant] = n_lost if self.gains else 0
        if n_lost:
            self.common = self.common & inside
        self.sums.add(values)

    @property
    def possible(self) -> Array:
        """Voxels (n,) that decide on the map: all until there are two participants."""
        return self.common if len(self.gains) > 1 else np.ones_like(self.common)

    def can_be_restricted(self, participant: str) -> bool:
        """Return whether fewer voxels may decide on the map since a participant was added."""
        return len(self.gains) == 2 or self.gains.get(participant, 0) > 0

    def restrict(self, selected: Array) -> None:
        """Restrict the sums to the selected voxels."""
        self.sums.restrict(selected)
        self.common = self.common[selected]

    def join(self, addition: _MapSums) -> None:
        """Add the sums of other participants over the same voxels."""
        for some, others in ((self, addition), (addition, self)):
            if len(some.gains) == 1 and others.gains:
                (first,) = some.gains
                some.gains[first] = int((others.common & ~some.common).sum())
        self.sums.join(addition.sums)
        self.common = self.common & addition.common
        self.gains |= addition.gains


@dataclass(slots=True)
class _TaskSums:
    """Running sums of the maps of one task over some participants.

    `selection` is a mask (N,) over the target's mask; its n voxels are summed. `unusable` are
    reasons by map and participant, and `checksums` the SHA-256 of the files that were read, by
    map.
    """

    selection: Array
    maps: dict[MapKey, _MapSums]
    unusable: dict[MapKey, dict[str, str]]
    checksums: dict[MapKey, dict[Path, str]]

    @classmethod
    def empty(cls, keys: Iterable[MapKey], voxels: int) -> _TaskSums:
        """Return sums without participants over all N voxels of the target's mask."""
        everywhere = np.ones(voxels, dtype=bool)
        keys = list(keys)
        return cls(
            selection=everywhere,
            maps={
                key: _MapSums(sums=RunningSums.empty(voxels), common=everywhere) for key in keys
            },
            unusable={key: {} for key in keys},
            checksums={key: {} for key in keys},
        )

    def restrict(self, selected: Array) -> None:
        """Restrict the sums to the selected ones of the n voxels."""
        if selected.all():
            return
        self.selection = self.selection.copy()
        self.selection[self.selection] = selected
        for map_sums in self.maps.values():
            map_sums.restrict(selected)

    def add(self, sampled: SampledMaps, keys: Collection[MapKey], participant: str) -> None:
        """Add the maps of a participant that are in `keys`."""
        for key in keys:
            if key in sampled.effects:
                self.maps[key].add(sampled.effects[key], sampled.inside[key[0]], participant)
                self.checksums[key] |= {path: checksum(path) for path in sampled.files[key]}
            elif key in sampled.unusable:
                self.unusable[key][participant] = sampled.unusable[key]
        if any(self.maps[key].can_be_restricted(participant) for key in keys):
            self.restrict(np.logical_or.reduce([sums.possible for sums in self.maps.values()]))

    def join(self, addition: _TaskSums) -> None:
        """Add the sums of other participants."""
        both = self.selection & addition.selection
        self.restrict(both[self.selection])
        addition.restrict(both[addition.selection])
        for key, map_sums in self.maps.items():
            map_sums.join(addition.maps[key])
            self.unusable[key] |= addition.unusable[key]
            self.checksums[key] |= addition.checksums[key]

    def common_voxels(self, key: MapKey) -> Array:
        """Return the voxels (N,) that all participants of a map have."""
        common = self.selection.copy()
        common[common] = self.maps[key].common
        return common


def _sum_in_chunks(
    computation: _Computation, task: PlannedTask, sampled_labels: _Labels, labels: _Labels
) -> _TaskSums:
    """Accumulate participants of a task, chunk by chunk; see `_sum_participants`."""
    add_up = partial(_sum_participants, sampled_labels=sampled_labels, labels=labels)
    # the sums of one chunk are in memory at a time
    sums = _process_chunks(computation, task.participants, add_up)
    total = next(sums)
    for addition in sums:
        total.join(addition)
    return total


def _sum_participants(
    participants: Sequence[ParticipantMaps],
    *,
    target: Target,
    sampled_labels: _Labels,
    labels: _Labels,
) -> _TaskSums:
    """Accumulate participants, with the maps of one participant in memory at a time.

    `sampled_labels` and `labels` are the participants, by map, whose maps are sampled and who are
    accumulated. A participant has the voxels with values in all sampled maps of a contrast.
    """
    total = _TaskSums.empty(labels, len(target.points))
    for participant in participants:
        keys = _list_keys(labels, participant)
        if keys:
            sampled_keys = _list_keys(sampled_labels, participant)
            sampled = _sample_participant(participant, target, total.selection, sampled_keys)
            total.add(sampled, keys, participant.participant)
    return total


def _make_test(record: GroupMapRecord, total: _TaskSums) -> _MapTest:
    """Return the inputs of the test of a map, with the number of its voxels in the record."""
    map_sums, inside = total.maps[record.key], total.common_voxels(record.key)
    map_sums.restrict(map_sums.common)
    has_map = len(record.members) >= LEAST_PARTICIPANTS
    return _MapTest(
        record=replace(record, n_voxels=int(inside.sum()) if has_map else 0),
        sums=map_sums.sums,
        inside=inside,
    )


def _leave_out(
    computation: _Computation, task: PlannedTask, labels: _Labels, doubtful: _Labels
) -> dict[MapKey, list[CoverageExclusion]]:
    """Return the participants whose coverage is too different, by map.

    `labels`: participants in each map of the task; `doubtful`: participants in each map whose
    participants may have too different voxels.
    """
    pack = partial(_pack_coverage, sampled_labels=_select_contrasts(labels, doubtful))
    coverage: dict[MapKey, dict[str, Array]] = {key: {} for key in doubtful}
    for chunk in _process_chunks(computation, task.participants, pack):
        for key in doubtful:
            coverage[key] |= chunk[key]
    return {key: leave_out_by_coverage(covered) for key, covered in coverage.items()}


def _pack_coverage(
    participants: Sequence[ParticipantMaps], *, target: Target, sampled_labels: _Labels
) -> dict[MapKey, dict[str, Array]]:
    """Return the voxels of each participant, as bits of the N voxels of the target's mask.

    `sampled_labels`: participants in each map. Maps of one contrast share the voxels.
    """
    coverage: dict[MapKey, dict[str, Array]] = {key: {} for key in sampled_labels}
    everywhere = np.ones(len(target.points), dtype=bool)
    for participant in participants:
        keys = _list_keys(sampled_labels, participant)
        if keys:
            sampled = _sample_participant(participant, target, everywhere, keys)
            packed = {contrast: np.packbits(inside) for contrast, inside in sampled.inside.items()}
            for key in sampled.effects:
                coverage[key][participant.participant] = packed[key[0]]
    return coverage


def _list_keys(labels: _Labels, participant: ParticipantMaps) -> list[MapKey]:
    """Return the maps that contain a participant; `labels`: participants in each map."""
    return [key for key in labels if participant.participant in labels[key]]


def _sample_participant(
    participant: ParticipantMaps, target: Target, selection: Array, keys: Sequence[MapKey]
) -> SampledMaps:
    """Return the effects of a participant; all maps are unusable if a mask or transform is."""
    try:
        sampling = prepare_participant_sampling(participant, target, selection, keys)
    except InvalidInput as error:
        unusable = dict.fromkeys(keys, str(error))
        return SampledMaps(effects={}, inside={}, unusable=unusable, files={})
    return sampling.sample(keys)


def _select_contrasts(labels: _Labels, keys: Collection[MapKey]) -> _Labels:
    """Return the participants in all maps of the contrasts of some maps.

    All series of a contrast are sampled together, so that the voxels of a participant are the same
    for all series.
    """
    contrasts = {key[0] for key in keys}
    return {key: participants for key, participants in labels.items() if key[0] in contrasts}


def _explain_untested(record: GroupMapRecord) -> str:
    """Return why a map was not computed: too few participants, or no common voxel."""
    heading = f"group map of {record.key[0]} ({record.key[1]}) for {record.task_label}"
    if len(record.members) < LEAST_PARTICIPANTS:
        return f"{heading}: {too_few_text(len(record.members))}"
    return (
        f"{heading}: the maps of the {len(record.members)} participants"
        f" ({', '.join(record.participants)}) do not overlap, because they have no voxel with"
        f" values in common in {record.space}"
    )


def _list_sizes(records: Sequence[GroupMapRecord]) -> Iterator[str]:
    """Yield a line for the console per number of participants in the maps of one task."""
    for n_members in sorted({len(record.members) for record in records}, reverse=True):
        maps = [record for record in records if len(record.members) == n_members]
        sizes = [record.n_voxels for record in maps]
        range_text = " to ".join(f"{size:,}" for size in sorted({min(sizes), max(sizes)}))
        yield (
            f"group maps for {maps[0].task_label}: computing maps of {n_members} participants in"
            f" {range_text} voxels of {maps[0].space}"
        )


def _resolution_texts(flips: int, counts: Collection[int]) -> Iterator[str]:
    """Yield a note if too few participants or sign flips limit the smallest p value."""
    for n_participants in sorted(counts) if flips else ():
        n_distinct = 2 ** (n_participants - 1)  # reversing all signs results in the same abs(t)
        if (smallest_p := 1 / min(n_distinct, flips + 1)) > FWE or n_distinct <= flips:
            limit_text = (
                f"with {format_count(n_participants, 'participant')} and {flips} sign flips"
                f" ({n_distinct} different flips are possible), corrected p values cannot be"
                f" smaller than {smallest_p:.2g}"
            )
            yield (
                f"{limit_text}, so no voxel can be significant at p = .05"
                if smallest_p > FWE
                else limit_text
            )


@frozen
class _FlipInputs:
    """Samplings of participants for sign flips, by label.

    `selection` are the voxels of the target's mask that are sampled, (N,) boolean.
    """

    samplings: Mapping[str, ParticipantSampling]
    selection: Array


def _prepare_flips(
    computation: _Computation, task: PlannedTask, tests: Sequence[_MapTest]
) -> _FlipInputs:
    """Prepare the sampling of all participants in any map, at the voxels of all maps."""
    selection = np.zeros(len(computation.target.points), dtype=bool)
    keys: dict[str, list[MapKey]] = {}
    for test in tests:
        selection |= test.inside
        for participant in test.record.participants:
            keys.setdefault(participant, []).append(test.record.key)
    samplings = {
        maps.participant: prepare_participant_sampling(
            maps, computation.target, selection, keys[maps.participant]
        )
        for maps in task.participants
        if maps.participant in keys
    }
    return _FlipInputs(samplings=samplings, selection=selection)


def _test_map(
    computation: _Computation, flip_inputs: _FlipInputs | None, test: _MapTest
) -> dict[str, Any]:
    """Test one series and contrast, store the maps, and return a row of `GroupMaps.maps`."""
    from nilearn.glm import fdr_threshold

    statistics = test.sums.statistics()
    peak = int(np.argmax(statistics["z"]))
    fdr_z = float(fdr_threshold(statistics["z"], FDR))
    target = computation.target
    voxel_mm3 = abs(np.linalg.det(target.affine[:3, :3]))
    # a threshold is null if no voxel can reach it, because JSON has no infinity
    metadata: dict[str, _MapMetadata] = {
        "z": {"FDR05Threshold": fdr_z if np.isfinite(fdr_z) else None}
    }
    corrected_cells = {}
    if flip_inputs is not None:
        corrected = _correct_map(computation, flip_inputs, test)
        threshold = corrected.threshold
        statistics["logpMaxT"] = corrected.logp
        metadata["logpMaxT"] = {
            "FWE05Threshold": threshold if np.isfinite(threshold) else None,
            "SignFlips": corrected.flips,
            "RandomSeed": computation.seed,
        }
        significant = corrected.logp > -np.log10(FWE) - _LOGP_TOLERANCE
        corrected_cells = {
            "fwe_t": threshold,
            "fwe_mm3": float(significant.sum() * voxel_mm3),
        }
    paths = {
        stat: _write_map(computation, test, stat, values, metadata.get(stat, {}))
        for stat, values in statistics.items()
    }
    record = test.record
    contrast, series, fwhm_mm, _ = record.key
    return {
        "task": record.task,
        "variant": record.variant,
        "contrast": contrast,
        "series": series,
        "fwhm_mm": fwhm_mm,
        "participants": record.participants,
        **paths,
        "peak_z": float(statistics["z"][peak]),
        "peak_mm": tuple(target.points[test.inside][peak].tolist()),
        "active_mm3": float((statistics["z"] > Z_SHOWN).sum() * voxel_mm3),
        "fdr_z": fdr_z,
        "fdr_mm3": float((statistics["z"] >= fdr_z).sum() * voxel_mm3),
        **corrected_cells,
    }


def _correct_map(
    computation: _Computation, flip_inputs: _FlipInputs, test: _MapTest
) -> CorrectedPValues:
    """Correct the p values of a map by sign flips."""
    key = test.record.key
    inside = test.inside[flip_inputs.selection]
    effects = (
        flip_inputs.samplings[participant].sample([key]).effects[key][inside]
        for participant in test.record.participants
    )
    values = np.stack([*effects], dtype=np.float32)
    return correct_by_sign_flips(values, computation.flips, computation.seed)


def _write_map(
    computation: _Computation,
    test: _MapTest,
    stat: str,
    values: Array,
    metadata: _MapMetadata,
) -> Path:
    """Write a map after its sidecar and return its path.

    `stat` is the name of the statistic, as in nilearn. `values` are the values of the voxels
    inside, and `metadata` the additional entries of the sidecar.
    """
    from nibabel.nifti1 import Nifti1Header

    from bids_sr.io import atomic_files
    from bids_sr.io.nifti import save_image

    target = computation.target
    stem = computation.output_dir / "group" / test.record.file_stem(stat)
    stem.parent.mkdir(parents=True, exist_ok=True)
    sidecar = {**_make_sidecar(test.record, stat), **metadata}
    atomic_files.write_json(stem.with_name(f"{stem.name}.json"), sidecar)
    header = Nifti1Header()
    header["qform_code"] = header["sform_code"] = 4  # code of a template space
    tested = target.mask.copy()
    tested[tested] = test.inside
    data = np.zeros(target.shape, dtype=np.float32)
    data[tested] = values
    path = stem.with_name(f"{stem.name}.nii.gz")
    save_image(data, target.affine, path, header_like=header)
    return path


def _make_sidecar(record: GroupMapRecord, stat: str) -> dict[str, object]:
    """Return the entries that the sidecars of all statistics have; see `_write_map`."""
    _, series, fwhm_mm, _ = record.key
    description, unit = _describe_statistic(stat, len(record.members))
    return {
        "Description": description,
        **({"Units": unit} if unit else {}),
        "SourceSeries": series,
        "SmoothingFWHM": fwhm_mm,
        **record.sidecar_entries(),
        "Model": {
            "Type": "one-sample t test across participants",
            "Runs": _runs_text(record),
        },
        "SpatialReference": template_uri(record.space, "2") or record.space,
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


def _runs_text(record: GroupMapRecord) -> str:
    """Describe how the maps of the participants were computed from their runs."""
    origins = [member.origin for member in record.members]
    return "; ".join(
        f"{text} ({format_count(origins.count(origin), 'participant')})"
        for origin, text in ORIGIN_TEXTS.items()
        if origin in origins
    )
