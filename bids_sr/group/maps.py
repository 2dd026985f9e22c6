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
from typing import Any

import numpy as np
import pandas as pd

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
    load_target,
    participant_effects,
    sampling_of_participant,
)
from bids_sr.group.voxel_tests import FWE, Z_SHOWN, GroupMaps, RunningSums, flipped
from bids_sr.io.arrays import Array
from bids_sr.io.uris import template_uri
from bids_sr.io.volume import Volume
from bids_sr.metrics.rows import MISSING
from bids_sr.series import map_label

_LOGGER = logging.getLogger(__name__)
FDR = 0.05
LEAST_PARTICIPANTS = 3  # two participants leave one degree of freedom, which is too few for a test
CHUNK = 50  # participants, smallest number that one process accumulates
_SidecarFacts = Mapping[str, float | None]
_N_CHUNKS = 32  # approximate number of chunks; the sums of a chunk take megabytes


@dataclass(slots=True)
class _ParticipantSums:
    """Running sums over some participants."""

    inside: Array  # (N,) boolean over the target's mask; inside the brain of all participants
    tests: dict[MapKey, RunningSums]  # sums by map, over the voxels inside

    def restrict(self, inside: Array) -> None:
        """Restrict the sums to voxels that are also inside another mask (N,)."""
        common = self.inside & inside
        selected = common[self.inside]
        if not selected.all():
            for test in self.tests.values():
                test.restrict(selected)
        self.inside = common


def _sum_participants(
    participants: Sequence[ParticipantMaps], *, target: Target, keys: Sequence[MapKey]
) -> _ParticipantSums:
    """Accumulate participants, with the maps of one participant in memory at a time."""
    n = len(target.points)
    sums = _ParticipantSums(
        inside=np.ones(n, dtype=bool), tests={key: RunningSums.empty(n) for key in keys}
    )
    for participant in participants:
        sampling = sampling_of_participant(participant, target, sums.inside, keys)
        within = sampling.inside
        if not within.all():
            sampling.restrict(within)
            inside = sums.inside.copy()
            inside[inside] = within
            sums.restrict(inside)
        for key, values in participant_effects(sampling, keys).items():
            sums.tests[key].add(values, participant.participant)
    return sums


def _join_sums(participant_sums: Iterable[_ParticipantSums]) -> _ParticipantSums:
    """Join the sums of several groups of participants, in the order of the groups."""
    queue = iter(participant_sums)
    first = next(queue)
    for part in queue:
        common = first.inside & part.inside
        first.restrict(common)
        part.restrict(common)
        for key, test in first.tests.items():
            test.join(part.tests[key])
    return first


def group_maps(
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
    space, fwhm = common_space(all_maps), first_smoothing(all_maps)
    if space is None or fwhm is None:
        return GroupMaps(
            left_out=(
                "group maps: none of the participants has both effect maps and transforms to "
                "a standard space",
            )
        )
    try:
        target = load_target(space)
    except TemplateError as error:
        return GroupMaps(left_out=(f"group maps: {error}",))
    left_out, rows = list[str](), list[dict[str, Any]]()
    tested = np.zeros(target.shape, dtype=bool)
    tasks = group_by_participant(
        DerivativeMaps(
            runs=[run for run in collected.runs if run.is_available_in(space)],
            combined=[maps for maps in collected.combined if maps.is_available_in(space)],
        )
    )
    with_combined = {
        (task, participant.participant)
        for task, participants in tasks.items()
        for participant in participants
        if participant.combined is not None
    }
    left_out += [
        f"group maps: {run.name} was excluded, because no transform to {space} was found"
        for run in collected.runs
        if not run.is_available_in(space)
        and ((run.task, run.variant), run.participant) not in with_combined
    ]
    for (task, variant), participants in tasks.items():
        if len(participants) < LEAST_PARTICIPANTS:
            left_out.append(
                f"group maps for task {task}: at least {LEAST_PARTICIPANTS} participants are "
                f"required, but only {_count(len(participants))} can be included"
            )
            continue
        add_up = partial(_sum_participants, target=target, keys=_keys(participants, series, fwhm))
        size = max(CHUNK, len(participants) // _N_CHUNKS)
        chunks = [
            participants[start : start + size] for start in range(0, len(participants), size)
        ]
        sums = _join_sums((pool.map if pool else map)(add_up, chunks))
        if not sums.inside.any():
            left_out.append(
                f"group maps for task {task}: the brain masks of the participants do not overlap"
            )
            continue
        print_line(
            f"group maps for task {task}: computing maps of {len(participants)} participants in "
            f"{int(sums.inside.sum())} voxels of {space}"
        )
        tested[target.mask] |= sums.inside
        sparse: dict[tuple[str, int], list[str]] = {}
        testable: dict[MapKey, RunningSums] = {}
        for key, test in sums.tests.items():
            if (count := len(test.people)) < LEAST_PARTICIPANTS:
                sparse.setdefault((key[1], count), []).append(key[0])
            else:
                testable[key] = test
        correct = None
        if flips:
            for text in _resolution_texts(flips, {len(test.people) for test in testable.values()}):
                left_out.append(f"group maps for task {task}: {text}")
                print_line(left_out[-1])
            keys = _keys(participants, series, fwhm)
            samplings = [
                sampling_of_participant(participant, target, sums.inside, keys)
                for participant in participants
            ]
            correct = partial(_correct_map, samplings, flips, seed)
        store = partial(
            _test_map, (task, variant), participants, target, sums.inside, output_dir, correct
        )
        with ThreadPoolExecutor(threads) as workers:
            rows += workers.map(store, testable, testable.values())
        left_out += [
            f"group maps of {name} for task {task}, {', '.join(contrasts)}: at least "
            f"{LEAST_PARTICIPANTS} participants are required, but only {_count(count)} can be "
            "included"
            for (name, count), contrasts in sparse.items()
        ]
    return GroupMaps(
        space=space,
        maps=pd.DataFrame(rows),
        left_out=tuple(left_out),
        background=Volume(target.background, target.affine),
        mask=Volume(tested, target.affine),
    )


def _resolution_texts(flips: int, counts: Collection[int]) -> Iterator[str]:
    """Yield a note if too few participants or sign flips limit the smallest p value."""
    for n in sorted(counts):
        n_distinct = 2 ** (n - 1)  # reversing all signs results in the same abs(t)
        if (smallest_p := 1 / min(n_distinct, flips + 1)) > FWE or n_distinct <= flips:
            text = (
                f"with {_count(n)} and {flips} sign flips ({n_distinct} different flips are "
                f"possible), corrected p values cannot be smaller than {smallest_p:.2g}"
            )
            yield (
                f"{text}, so no voxel can be significant at p = .05" if smallest_p > FWE else text
            )


def _correct_map(
    samplings: Sequence[ParticipantSampling], flips: int, seed: int, key: MapKey
) -> tuple[Array, float, _SidecarFacts]:
    """Return corrected p values (−log10), the t threshold, and sidecar metadata on both."""
    effects = (participant_effects(sampling, [key]) for sampling in samplings)
    values = [maps[key] for maps in effects if key in maps]
    logp, t = flipped(np.stack(values, dtype=np.float32), flips, seed)
    threshold = t if np.isfinite(t) else None
    return logp, t, {"FWE05Threshold": threshold, "SignFlips": flips, "RandomSeed": seed}


def _count(count: int) -> str:
    return f"{count} participant{'s' * (count != 1)}"


def runs_text(people: Sequence[ParticipantMaps], key: MapKey) -> str:
    """Describe how the maps of the participants were computed from their runs.

    `key` contains contrast, series, FWHM (mm) and statistic of the maps.
    """
    counts = Counter[str](participant.origin(key) for participant in people)
    phrases = [
        text.format(_count(counts[origin]))
        for origin, text in (
            ("stored", "stored map of all runs ({})"),
            ("computed", "mean of the maps of the runs with equal weights ({})"),
            ("single", "map of the only run ({})"),
        )
        if counts[origin]
    ]
    return "; ".join(phrases)


def _keys(people: Sequence[ParticipantMaps], series: Sequence[str], fwhm: float) -> list[MapKey]:
    """Return available effect maps by contrast, then by series in the requested order."""
    available = {key for participant in people for key in participant.map_keys()}
    contrasts = sorted({key[0] for key in available})
    requested = ((contrast, name, fwhm, "effect") for contrast in contrasts for name in series)
    return [key for key in requested if key in available]


def _test_map(
    task: tuple[str, str],
    people: Sequence[ParticipantMaps],
    target: Target,
    inside: Array,
    output_dir: Path,
    correct: Callable[[MapKey], tuple[Array, float, _SidecarFacts]] | None,
    key: MapKey,
    test: RunningSums,
) -> dict[str, Any]:
    """Test one series and contrast, and store the maps.

    The result is a row of `GroupMaps.maps`.
    """
    from nilearn.glm import fdr_threshold

    statistics = test.statistics()
    peak = int(np.argmax(statistics["z"]))
    fdr_z = float(fdr_threshold(statistics["z"], FDR))
    voxel_mm3 = abs(np.linalg.det(target.affine[:3, :3]))
    # The threshold is null if no voxel can reach it, because JSON has no infinity.
    sidecars: dict[str, _SidecarFacts] = {
        "z": {"FDR05Threshold": fdr_z if np.isfinite(fdr_z) else None}
    }
    corrected = {}
    if correct:
        statistics["logpMaxT"], t, sidecars["logpMaxT"] = correct(key)
        significant = statistics["logpMaxT"] > -np.log10(FWE) - 1e-6
        corrected = {"fwe_t": t, "fwe_mm3": float(significant.sum() * voxel_mm3)}
    return {
        "task": task[0],
        "variant": task[1],
        "contrast": key[0],
        "series": key[1],
        "fwhm_mm": key[2],
        "participants": tuple(test.people),
        **{
            stat: _store(
                stat,
                values,
                target,
                inside,
                output_dir,
                task,
                key,
                [participant for participant in people if participant.participant in test.people],
                sidecars.get(stat, {}),
            )
            for stat, values in statistics.items()
        },
        "peak_z": float(statistics["z"][peak]),
        "peak_mm": tuple(target.points[inside][peak].tolist()),
        "active_mm3": float((statistics["z"] > Z_SHOWN).sum() * voxel_mm3),
        "fdr_z": fdr_z,
        "fdr_mm3": float((statistics["z"] >= fdr_z).sum() * voxel_mm3),
        **corrected,
    }


def _store(
    stat: str,
    values: Array,
    target: Target,
    inside: Array,
    output_dir: Path,
    task: tuple[str, str],
    key: MapKey,
    people: Sequence[ParticipantMaps],
    facts: _SidecarFacts,
) -> Path:
    """Write a map after its sidecar and return its path.

    Names of statistics are the same as in nilearn. `task` is the label of the task and the
    variant.
    """
    from nibabel.nifti1 import Nifti1Header

    from bids_sr.io import atomic_files
    from bids_sr.io.nifti import save_image

    contrast, name, fwhm, _ = key
    description, unit = {
        "effect": (
            "Mean effect across participants, in percent of the mean brain signal in each run",
            "percent",
        ),
        "variance": (
            "Variance of the mean effect across participants (squared standard error)",
            "percent^2",
        ),
        "t": (
            f"t statistic of the mean effect across participants ({len(people) - 1} degrees of "
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
    variant = f"_{task[1]}" * (task[1] != MISSING)
    entities = f"group_task-{task[0]}{variant}_space-{target.space}_res-2_contrast-{contrast}"
    stem = output_dir / "group" / f"{entities}_stat-{stat}_desc-{map_label(name, fwhm)}_statmap"
    stem.parent.mkdir(parents=True, exist_ok=True)
    sidecar = {
        "Description": description,
        **({"Units": unit} if unit else {}),
        "SourceSeries": name,
        "SmoothingFWHM": fwhm,
        "Participants": [participant.participant for participant in people],
        "Model": {
            "Type": "one-sample t test across participants",
            "Runs": runs_text(people, key),
        },
        "SpatialReference": template_uri(target.space, "2") or target.space,
        "Resolution": (
            "2 mm isotropic; each participant's map was resampled by a single linear interpolation"
        ),
        "SkullStripped": True,
        **facts,
    }
    atomic_files.write_json(stem.with_name(f"{stem.name}.json"), sidecar)
    header = Nifti1Header()
    header["qform_code"] = header["sform_code"] = 4  # code of a template space
    tested = target.mask.copy()
    tested[tested] = inside
    data = np.zeros(target.shape, dtype=np.float32)
    data[tested] = values
    path = stem.with_name(f"{stem.name}.nii.gz")
    save_image(data, target.affine, path, header_like=header)
    return path
