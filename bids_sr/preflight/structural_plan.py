"""The plan of ``--sr-target anat``: what headers tell of the structural scans, and what they will cost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from bids_sr.bids import Header, Problem, Subject, pretrained_for, survey_structural
from bids_sr.bids.grid_sizes import sizes_of
from bids_sr.config import Settings
from bids_sr.config.memory_model import BASE_GB, largest_gb
from bids_sr.preflight import directories
from bids_sr.preflight.plan import Estimate, Plan, Row
from bids_sr.preflight.resource_checks import check_memory
from bids_sr.preflight.validator import validate

PREPARE_S, TRAIN_S, MEASURE_S = (30.0, 45.0), {"fast": 220.0, "paper": 400_000.0}, (10.0, 12.0)
"""Processor seconds: always and for a million voxels of a contrast; of training, for a million voxels of all."""
ALIGN = {"rigid": 1.0, "affine": 1.5, "nonlinear": 2.0}
"""What other transforms make of the former: an affine measured; of a deformation, by what it adds in iterations."""


def check_structural(settings: Settings) -> Plan:
    """Plan a call and collect every problem; reads headers only and writes nothing.

    Returns
    -------
    plan : of participants with `structural` pairs and no runs
    """
    found = survey_structural(settings)
    problems = [*directories.check_places(settings), *found.problems]
    problems += _misfits(settings, found.subjects, found.headers)
    notices = list(found.notices)
    plan = Plan(subjects=found.subjects, series=("bspline", *settings.superres.methods))
    cost = estimate_structural(plan, settings)
    if found.subjects:
        problems += directories.check_templates(settings, with_anat=True)
        problems += directories.check_room(settings, cost)
        problems += check_memory(settings, sizes_of(found.subjects, settings), settings.resources.mem_gb)
        if not settings.selection.skip_bids_validation:
            known = {Path(problem.file) for problem in problems}
            labels = sorted(subject.label for subject in found.subjects)
            invalid, told = validate(settings.paths.bids_dir.absolute(), labels, known)
            problems += invalid
            notices += told
    return Plan(
        subjects=plan.subjects, series=plan.series, estimate=cost, problems=tuple(dict.fromkeys(problems)),
        warnings=tuple(dict.fromkeys(notices)),
    )  # fmt: skip


def _misfits(settings: Settings, subjects: Sequence[Subject], headers: Mapping[Path, Header]) -> Iterator[Problem]:
    """Participants whose scans the given models were not trained for: other contrasts, voxels, slices or alignment."""
    superres = settings.superres
    for name in superres.learned:
        file = pretrained_for(superres, name)
        for subject in subjects:
            header = headers.get(subject.structural[0].highres)
            if file is not None and header is not None:
                yield from _misfit(settings, subject, header, file)


def _misfit(settings: Settings, subject: Subject, header: Header, file: Path) -> Iterator[Problem]:
    """Why a model does not serve a participant, from its card and the header of the scan that is the frame."""
    from bids_sr.sr.models.compatibility import ModelMismatch, check_model, describe
    from bids_sr.sr.models.model import ModelError, read_card
    from bids_sr.sr.training.fused import SAME_GRID, joined

    contrasts = [pair.contrast for pair in subject.structural]
    where = f"sub-{subject.label} with --pretrained {file}"
    try:
        card = read_card(file)
        if (channels := card.channels) != len(contrasts):
            reason = f"the model takes {channels} contrasts ({card.contrast}), there are {joined(contrasts)}"
            fix = "Give a model of these contrasts, or leave the file out of --pretrained to train one."
            yield Problem(file=where, reason=reason, fix=fix)
            return
        these = describe(header.affine, joined(contrasts), SAME_GRID, settings.superres.anat_align)
        check_model(card, these, force=settings.superres.force)
    except ModelError:
        return  # told by `check_pretrained`
    except ModelMismatch as error:
        reason, _, remedy = str(error).partition(" Remedy: ")
        fix = f"{remedy[:1].upper()}{remedy[1:]}." if remedy else "Take another model."
        yield Problem(file=where, reason=reason, fix=fix)


def estimate_structural(plan: Plan, settings: Settings) -> Estimate:
    """Time, memory and disk, from the numbers of voxels of the fine scans."""
    if not plan.subjects:
        return Estimate()
    superres = settings.superres
    sizes, methods = sizes_of(plan.subjects, settings), len(superres.methods)
    learning = sum(pretrained_for(superres, name) is None for name in superres.methods)
    scans = sum(len(subject.structural) for subject in plan.subjects)
    voxels, people = scans * sizes.scans, len(plan.subjects)
    copies = 2 + methods + (2 if superres.baselines == "all" else 1)
    limit = (superres.max_train_minutes or 1e9) * 60 * people
    train = (
        0.0 if superres.model_source == "reuse" else TRAIN_S["fast" if superres.recipe == "fast" else "paper"] * voxels
    )
    stages = {
        "preparation": (
            PREPARE_S[0] * people + PREPARE_S[1] * ALIGN[superres.anat_align] * voxels,
            6 * voxels * 4e-3,
        ),
        "training": (min(train, limit) * learning, 0.1 * methods * people),
        "measures and figures": (MEASURE_S[0] * people + MEASURE_S[1] * voxels * copies, 0.02 * people),
    }
    largest = largest_gb(sizes)
    rows = tuple(
        Row(stage=stage, minutes=seconds / 60, memory_gb=largest, disk_gb=disk)
        for stage, (seconds, disk) in stages.items()
    )  # fmt: skip
    return Estimate(
        minutes=sum(row.minutes for row in rows) / min(people, settings.resources.nprocs or 1),
        memory_gb=BASE_GB + largest, work_gb=sum(row.disk_gb for row in rows),
        output_gb=copies * voxels * 2e-3 + 0.05 * methods * people, rows=rows,
    )  # fmt: skip


def structural_lines(subject: Subject) -> list[str]:
    """The pairs of a participant, for the plan in words."""
    return [f"  {pair.contrast}: {pair.highres.name} from {pair.lowres.name}" for pair in subject.structural]
