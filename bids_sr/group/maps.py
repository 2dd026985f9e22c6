"""Group activation maps in template space, from the participants' effect maps.

Effects are in percent of the mean brain signal of the run, because signal units differ between
scanners; all series of a run have the same scale. A stored map of all runs of a participant is
used if it exists; otherwise, the runs are averaged with equal weights. The mean across
participants is tested by nilearn's second-level model, one contrast at a time, so that the maps of
all participants for one contrast are in memory. A voxel of a map needs all its participants; a
participant who lacks much of what the others have in common is left out
(`bids_sr.group.coverage`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bids_sr.group.coverage import leave_out_by_coverage
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
from bids_sr.group.voxel_tests import FWE, Z_SHOWN, compute_mean_statistics, correct_by_sign_flips
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
_LOGP_TOLERANCE = 1e-6  # of −log10 of p at the significance level, for rounding to float32
_MapMetadata = Mapping[str, float | None]  # entries of a sidecar that only some statistics have


@frozen
class _Computation:
    """Settings of the group maps of all tasks.

    `flips` is the number of sign flips; 0 for no correction. `workers` sample participants.
    """

    target: Target
    output_dir: Path
    flips: int
    seed: int
    workers: Executor


def compute_group_maps(
    plan: MapPlan,
    output_dir: Path,
    *,
    print_line: Callable[[str], None] = _LOGGER.info,
    flips: int = 0,
    seed: int = 0,
    threads: int = 1,
) -> GroupMaps:
    """Compute the planned maps, and write them to the folder ``group``.

    `print_line` receives progress messages. `flips` is the number of sign flips for maps with
    family-wise error correction (0 for no correction). `threads` is the number of participants who
    are sampled at the same time.
    """

    if plan.space is None or not plan.computed:
        return GroupMaps(records=plan.records)
    try:
        target = load_target(plan.space)
    except InvalidInput as error:
        return GroupMaps(notes=(f"group maps: {error}",), records=plan.records)
    rows: list[dict[str, Any]] = []
    records: list[GroupMapRecord] = []
    notes: list[str] = []
    tested = np.zeros(target.shape, dtype=bool)
    with ThreadPoolExecutor(threads) as workers:
        computation = _Computation(
            target=target, output_dir=output_dir, flips=flips, seed=seed, workers=workers
        )
        for task in plan.tasks:
            computed: dict[MapKey, GroupMapRecord] = {}
            for contrast_inputs in _iterate_inputs(computation, task):
                computed |= {inputs.record.key: inputs.record for inputs in contrast_inputs}
                testable = [inputs for inputs in contrast_inputs if inputs.record.n_voxels]
                for inputs in testable:
                    tested[target.mask] |= inputs.inside
                    print_line(_progress_text(inputs.record))
                # one after the other, because nilearn changes the filters of warnings
                rows += [_test_map(computation, inputs) for inputs in testable]
            records += [computed.get(record.key, record) for record in task.records]
            notes += _list_notes([*computed.values()], flips)
    return GroupMaps(
        space=plan.space,
        maps=pd.DataFrame(rows),
        notes=tuple(notes),
        records=records,
        background=Volume(target.background, target.affine),
        mask=Volume(tested, target.affine),
    )


@frozen
class _MapInputs:
    """Effects of the participants in one map, at its voxels.

    `inside` are the n voxels of the target's mask that all participants have, (N,) boolean, and
    `effects` are in percent, float32 (participants, n). There are no voxels if there are too few
    participants.
    """

    record: GroupMapRecord
    inside: Array
    effects: Array


def _iterate_inputs(computation: _Computation, task: PlannedTask) -> Iterator[list[_MapInputs]]:
    """Yield the inputs of the maps of all series, one contrast after the other.

    All series of a contrast are sampled together, so that the voxels of a participant are the same
    for all series.
    """
    keys: dict[str, list[MapKey]] = {}
    for record in task.computed:
        for label in record.participants:
            keys.setdefault(label, []).append(record.key)
    participants = [maps for maps in task.participants if maps.participant in keys]
    prepare = partial(_prepare, computation.target, keys)
    samplings = [*computation.workers.map(prepare, participants)]
    for contrast, records in groupby(task.computed, key=lambda record: record.key[0]):
        contrast_keys = [
            [key for key in keys[maps.participant] if key[0] == contrast] for maps in participants
        ]
        sampled = computation.workers.map(_sample, samplings, contrast_keys)
        by_label = {
            maps.participant: values for maps, values in zip(participants, sampled, strict=True)
        }
        yield [_select_participants(record, by_label) for record in records]


def _prepare(
    target: Target, keys: Mapping[str, Sequence[MapKey]], maps: ParticipantMaps
) -> ParticipantSampling | str:
    """Prepare the sampling of a participant at all voxels, or return why it is impossible."""
    try:
        return prepare_participant_sampling(maps, target, keys[maps.participant])
    except InvalidInput as error:
        return str(error)


def _sample(sampling: ParticipantSampling | str, keys: Sequence[MapKey]) -> SampledMaps:
    """Return the effects of a participant; all maps are unusable if a mask or transform is."""
    if isinstance(sampling, str):
        unusable = dict.fromkeys(keys, sampling)
        return SampledMaps(effects={}, inside={}, unusable=unusable, files={})
    return sampling.sample(keys)


def _select_participants(record: GroupMapRecord, sampled: Mapping[str, SampledMaps]) -> _MapInputs:
    """Decide who is in a map, and return the effects at the voxels that all of them have."""
    key = record.key
    unusable = {
        label: sampled[label].unusable[key]
        for label in record.participants
        if key in sampled[label].unusable
    }
    usable = record.exclude(unusable)
    covered = {label: sampled[label].inside[key[0]] for label in usable.participants}
    included = usable.exclude(leave_out_by_coverage(covered))
    n_participants = len(included.participants)
    if n_participants < LEAST_PARTICIPANTS:
        return _MapInputs(
            record=included, inside=np.zeros(0, dtype=bool), effects=np.zeros((0, 0))
        )
    inside = np.logical_and.reduce([covered[label] for label in included.participants])
    effects = [sampled[label].effects[key][inside] for label in included.participants]
    files = [path for label in included.participants for path in sampled[label].files[key]]
    return _MapInputs(
        record=replace(
            included,
            n_voxels=int(inside.sum()),
            checksums={path: checksum(path) for path in files},
        ),
        inside=inside,
        effects=np.stack(effects, dtype=np.float32),
    )


def _progress_text(record: GroupMapRecord) -> str:
    """Return a line for the console on the map that is computed."""
    return (
        f"group map of {record.key[0]} ({record.key[1]}) for {record.task_label}:"
        f" {len(record.members)} participants, {record.n_voxels:,} voxels of {record.space}"
    )


def _list_notes(records: Sequence[GroupMapRecord], flips: int) -> list[str]:
    """Return notes on maps of a task that were not computed, or whose p values are limited."""
    counts = {len(record.members) for record in records if record.n_voxels}
    return [
        *(_explain_untested(record) for record in records if not record.n_voxels),
        *(
            f"group maps for {records[0].task_label}: {text}"
            for text in _resolution_texts(flips, counts)
        ),
    ]


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


def _test_map(computation: _Computation, inputs: _MapInputs) -> dict[str, Any]:
    """Test one series and contrast, store the maps, and return a row of `GroupMaps.maps`."""
    from nilearn.glm import fdr_threshold

    record, target = inputs.record, computation.target
    tested = Volume(target.mask.copy(), target.affine)
    tested.data[target.mask] = inputs.inside
    statistics = compute_mean_statistics(inputs.effects, tested)
    peak = int(np.argmax(statistics["z"]))
    fdr_z = float(fdr_threshold(statistics["z"], FDR))
    voxel_mm3 = abs(np.linalg.det(target.affine[:3, :3]))
    # a threshold is null if no voxel can reach it, because JSON has no infinity
    metadata: dict[str, _MapMetadata] = {
        "z": {"FDR05Threshold": fdr_z if np.isfinite(fdr_z) else None}
    }
    corrected_cells = {}
    if computation.flips:
        corrected = correct_by_sign_flips(inputs.effects, computation.flips, computation.seed)
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
        stat: _write_map(computation, record, tested, stat, values, metadata.get(stat, {}))
        for stat, values in statistics.items()
    }
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
        "peak_mm": tuple(target.points[inputs.inside][peak].tolist()),
        "active_mm3": float((statistics["z"] > Z_SHOWN).sum() * voxel_mm3),
        "fdr_z": fdr_z,
        "fdr_mm3": float((statistics["z"] >= fdr_z).sum() * voxel_mm3),
        **corrected_cells,
    }


def _write_map(
    computation: _Computation,
    record: GroupMapRecord,
    tested: Volume,
    stat: str,
    values: Array,
    metadata: _MapMetadata,
) -> Path:
    """Write a map after its sidecar and return its path.

    `stat` is the name of the statistic, as in nilearn. `values` are the values of the voxels
    `tested`, and `metadata` the additional entries of the sidecar.
    """
    from nibabel.nifti1 import Nifti1Header

    from bids_sr.io import atomic_files
    from bids_sr.io.nifti import save_image

    stem = computation.output_dir / "group" / record.file_stem(stat)
    stem.parent.mkdir(parents=True, exist_ok=True)
    sidecar = {**_make_sidecar(record, stat), **metadata}
    atomic_files.write_json(stem.with_name(f"{stem.name}.json"), sidecar)
    header = Nifti1Header()
    header["qform_code"] = header["sform_code"] = 4  # code of a template space
    data = np.zeros(tested.data.shape, dtype=np.float32)
    data[tested.data] = values
    path = stem.with_name(f"{stem.name}.nii.gz")
    save_image(data, tested.affine, path, header_like=header)
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
