"""Group activation in template space: for each series, one test of all participants' effect maps.

Effects are in percent of the mean signal of the run's brain, one number for all series of a run,
as scanners differ in their units. A participant's map of all runs is read if it is stored, and
computed with equal weights otherwise. A one-sample t test tests the mean over participants.
Participants are added up one after the other, so memory does not grow with their number, and
voxels that lie outside anybody's brain are left behind on the way.
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
    FoundMaps,
    MapKey,
    ParticipantMaps,
    RunMaps,
    by_participant,
    common_space,
    first_smoothing,
)
from bids_sr.group.template_sampling import (
    ParticipantSampling,
    Target,
    participant_of,
    target_of,
    ways_of,
)
from bids_sr.group.voxel_tests import FWE, Z_SHOWN, GroupMaps, Running, flipped
from bids_sr.io.arrays import Array
from bids_sr.io.uris import template_uri
from bids_sr.io.volume import Volume
from bids_sr.metrics.rows import MISSING
from bids_sr.series import map_label

_LOGGER = logging.getLogger(__name__)
FDR = 0.05
LEAST_PARTICIPANTS = 3  # two leave one degree of freedom, with which nothing can be said
CHUNK = 50  # participants that one process adds up before it hands over, at least
_Told = Mapping[str, float | None]
_CHUNKS = 32  # about so many of these: what each hands over takes megabytes


@dataclass(slots=True)
class _PeopleSums:
    """What some participants add up to."""

    inside: Array  # (N,) boolean over the target's mask: in the brain of all of them
    tests: dict[MapKey, Running]  # by map, over the voxels inside

    def keep(self, inside: Array) -> None:
        """Go on with the voxels that are inside another mask, (N,), too."""
        both = self.inside & inside
        which = both[self.inside]
        if not which.all():
            for test in self.tests.values():
                test.keep(which)
        self.inside = both


def _summed(
    people: Sequence[ParticipantMaps], *, target: Target, keys: Sequence[MapKey]
) -> _PeopleSums:
    """Add up participants; one participant's maps are in memory at a time."""
    n = len(target.points)
    sums = _PeopleSums(inside=np.ones(n, dtype=bool), tests={key: Running.of(n) for key in keys})
    for person in people:
        ways = ways_of(person, target, sums.inside, keys)
        within = ways.inside
        if not within.all():
            ways.keep(within)
            inside = sums.inside.copy()
            inside[inside] = within
            sums.keep(inside)
        for key, values in participant_of(ways, keys).items():
            sums.tests[key].add(values, person.participant)
    return sums


def _joined(parts: Iterable[_PeopleSums]) -> _PeopleSums:
    """The sums of several groups of participants, in their order."""
    queue = iter(parts)
    first = next(queue)
    for part in queue:
        both = first.inside & part.inside
        first.keep(both)
        part.keep(both)
        for key, test in first.tests.items():
            test.join(part.tests[key])
    return first


def group_maps(
    found: FoundMaps | Sequence[RunMaps],
    output_dir: Path,
    *,
    series: Sequence[str],
    say: Callable[[str], None] = _LOGGER.info,
    pool: Executor | None = None,
    flips: int = 0,
    seed: int = 0,
    threads: int = 1,
) -> GroupMaps:
    """Make the maps of every task, contrast and series, and store them in the folder ``group``.

    `found`: maps of runs, and of all runs of participants where these are stored.
    `pool` adds up chunks of participants side by side; the chunks do not depend on it. With
    `flips` maps are also corrected, as many at a time as there are `threads`.
    """
    from bids_sr.registration.templates import TemplateError

    if not isinstance(found, FoundMaps):
        found = FoundMaps(runs=found)
    every = [*found.runs, *found.combined]
    space, fwhm = common_space(every), first_smoothing(every)
    if space is None or fwhm is None:
        return GroupMaps(
            left_out=(
                "group maps: none of the participants has both effect maps and transforms to "
                "a standard space",
            )
        )
    try:
        target = target_of(space)
    except TemplateError as error:
        return GroupMaps(left_out=(f"group maps: {error}",))
    left_out, made = list[str](), list[dict[str, Any]]()
    tested = np.zeros(target.shape, dtype=bool)
    tasks = by_participant(
        FoundMaps(
            runs=[run for run in found.runs if run.reaches(space)],
            combined=[maps for maps in found.combined if maps.reaches(space)],
        )
    )
    together = {
        (task, person.participant)
        for task, people in tasks.items()
        for person in people
        if person.combined is not None
    }
    left_out += [
        f"group maps: {run.name} was excluded, because no transform to {space} was found"
        for run in found.runs
        if not run.reaches(space) and ((run.task, run.variant), run.participant) not in together
    ]
    for (task, variant), people in tasks.items():
        if len(people) < LEAST_PARTICIPANTS:
            left_out.append(
                f"group maps for task {task}: at least {LEAST_PARTICIPANTS} participants are "
                f"required, but only {_people(len(people))} can be included"
            )
            continue
        add_up = partial(_summed, target=target, keys=_keys(people, series, fwhm))
        size = max(CHUNK, len(people) // _CHUNKS)
        chunks = [people[start : start + size] for start in range(0, len(people), size)]
        sums = _joined((pool.map if pool else map)(add_up, chunks))
        if not sums.inside.any():
            left_out.append(
                f"group maps for task {task}: the brain masks of the participants do not overlap"
            )
            continue
        say(
            f"group maps for task {task}: computing maps of {len(people)} participants in "
            f"{int(sums.inside.sum())} voxels of {space}"
        )
        tested[target.mask] |= sums.inside
        few: dict[tuple[str, int], list[str]] = {}
        enough: dict[MapKey, Running] = {}
        for key, test in sums.tests.items():
            if (count := len(test.people)) < LEAST_PARTICIPANTS:
                few.setdefault((key[1], count), []).append(key[0])
            else:
                enough[key] = test
        correct = None
        if flips:
            for text in _too_few(flips, {len(test.people) for test in enough.values()}):
                left_out.append(f"group maps for task {task}: {text}")
                say(left_out[-1])
            keys = _keys(people, series, fwhm)
            ways = [ways_of(person, target, sums.inside, keys) for person in people]
            correct = partial(_corrected, ways, flips, seed)
        store = partial(
            _one_map, (task, variant), people, target, sums.inside, output_dir, correct
        )
        with ThreadPoolExecutor(threads) as workers:
            made += workers.map(store, enough, enough.values())
        left_out += [
            f"group maps of {name} for task {task}, {', '.join(contrasts)}: at least "
            f"{LEAST_PARTICIPANTS} participants are required, but only {_people(count)} can be "
            "included"
            for (name, count), contrasts in few.items()
        ]
    return GroupMaps(
        space=space,
        maps=pd.DataFrame(made),
        left_out=tuple(left_out),
        background=Volume(target.background, target.affine),
        mask=Volume(tested, target.affine),
    )


def _too_few(flips: int, counts: Collection[int]) -> Iterator[str]:
    """What sign flips of so many participants cannot tell."""
    for n in sorted(counts):
        differ = 2 ** (n - 1)  # all signs the other way give the same abs(t)
        if (least := 1 / min(differ, flips + 1)) > FWE or differ <= flips:
            text = (
                f"with {_people(n)} and {flips} sign flips ({differ} different flips are "
                f"possible), corrected p values cannot be smaller than {least:.2g}"
            )
            yield f"{text}, so no voxel can be significant at p = .05" if least > FWE else text


def _corrected(
    ways: Sequence[ParticipantSampling], flips: int, seed: int, key: MapKey
) -> tuple[Array, float, _Told]:
    """The map of p, the threshold of t and what the sidecar says of them."""
    found = (participant_of(person, [key]) for person in ways)
    values = [each[key] for each in found if key in each]
    logp, t = flipped(np.stack(values, dtype=np.float32), flips, seed)
    reached = t if np.isfinite(t) else None
    return logp, t, {"FWE05Threshold": reached, "SignFlips": flips, "RandomSeed": seed}


def _people(count: int) -> str:
    return f"{count} participant{'s' * (count != 1)}"


def runs_text(people: Sequence[ParticipantMaps], key: MapKey) -> str:
    """Return how the maps of the participants were made of their runs.

    `key`: contrast, series, FWHM (mm) and statistic of the maps.
    """
    counts = Counter[str](person.origin(key) for person in people)
    parts = [
        text.format(_people(counts[origin]))
        for origin, text in (
            ("stored", "stored map of all runs ({})"),
            ("computed", "mean of the maps of the runs with equal weights ({})"),
            ("single", "map of the only run ({})"),
        )
        if counts[origin]
    ]
    return "; ".join(parts)


def _keys(people: Sequence[ParticipantMaps], series: Sequence[str], fwhm: float) -> list[MapKey]:
    """Return effect maps that anyone has, by contrast and then by series in the wanted order."""
    there = {key for person in people for key in person.map_keys()}
    contrasts = sorted({key[0] for key in there})
    wanted = ((contrast, name, fwhm, "effect") for contrast in contrasts for name in series)
    return [key for key in wanted if key in there]


def _one_map(
    task: tuple[str, str],
    people: Sequence[ParticipantMaps],
    target: Target,
    inside: Array,
    output_dir: Path,
    correct: Callable[[MapKey], tuple[Array, float, _Told]] | None,
    key: MapKey,
    test: Running,
) -> dict[str, Any]:
    """Test one series and contrast, and store its maps: a row of `GroupMaps.maps`."""
    from nilearn.glm import fdr_threshold

    tested = test.tested()
    best = int(np.argmax(tested["z"]))
    fdr_z = float(fdr_threshold(tested["z"], FDR))
    voxel_mm3 = abs(np.linalg.det(target.affine[:3, :3]))
    # a number that JSON has: none where no voxel passes
    sidecars: dict[str, _Told] = {"z": {"FDR05Threshold": fdr_z if np.isfinite(fdr_z) else None}}
    more = {}
    if correct:
        tested["logpMaxT"], t, sidecars["logpMaxT"] = correct(key)
        passing = tested["logpMaxT"] > -np.log10(FWE) - 1e-6
        more = {"fwe_t": t, "fwe_mm3": float(passing.sum() * voxel_mm3)}
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
                [person for person in people if person.participant in test.people],
                sidecars.get(stat, {}),
            )
            for stat, values in tested.items()
        },
        "peak_z": float(tested["z"][best]),
        "peak_mm": tuple(target.points[inside][best].tolist()),
        "active_mm3": float((tested["z"] > Z_SHOWN).sum() * voxel_mm3),
        "fdr_z": fdr_z,
        "fdr_mm3": float((tested["z"] >= fdr_z).sum() * voxel_mm3),
        **more,
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
    facts: _Told,
) -> Path:
    """Write a map with its sidecar first; names of statistics are those of nilearn.

    `task`: label of the task, and variant.
    """
    from nibabel.nifti1 import Nifti1Header

    from bids_sr.io import atomic_files
    from bids_sr.io.nifti import save_image

    contrast, name, fwhm, _ = key
    what, unit = {
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
    place = f"group_task-{task[0]}{variant}_space-{target.space}_res-2_contrast-{contrast}"
    stem = output_dir / "group" / f"{place}_stat-{stat}_desc-{map_label(name, fwhm)}_statmap"
    stem.parent.mkdir(parents=True, exist_ok=True)
    sidecar = {
        "Description": what,
        **({"Units": unit} if unit else {}),
        "SourceSeries": name,
        "SmoothingFWHM": fwhm,
        "Participants": [person.participant for person in people],
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
    header["qform_code"] = header["sform_code"] = 4  # of a template
    within = target.mask.copy()
    within[within] = inside
    data = np.zeros(target.shape, dtype=np.float32)
    data[within] = values
    path = stem.with_name(f"{stem.name}.nii.gz")
    save_image(data, target.affine, path, header_like=header)
    return path
