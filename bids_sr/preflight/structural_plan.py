"""Preflight of structural scans (``--sr-target anat``): the plan from their headers, and what it will cost."""

from dataclasses import replace
from pathlib import Path

from bids_sr.bids import Findings, Header, Subject, pretrained_for, survey_structural
from bids_sr.bids.headers import sizes_of
from bids_sr.config import Settings
from bids_sr.config.memory_model import BASE_GB, largest_gb
from bids_sr.preflight import directories
from bids_sr.preflight.method_checks import check_card
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
    surveyed, found = survey_structural(settings), Findings()
    directories.check_places(settings, found)
    found.add(surveyed.problems, surveyed.notices)
    for name in settings.superres.learned:
        file = pretrained_for(settings.superres, name)
        for subject in surveyed.subjects:
            header = surveyed.headers.get(subject.structural[0].highres)
            if file is not None and header is not None:
                _check_model(settings, subject, header, file, found)
    subjects = surveyed.subjects
    plan = Plan(subjects=subjects, series=("bspline", *settings.superres.methods))
    cost = estimate_structural(plan, settings)
    if subjects:
        directories.check_templates(settings, found, with_anat=True)
        directories.check_room(settings, cost, found)
        check_memory(settings, sizes_of(subjects, settings), settings.resources.mem_gb, found)
        if not settings.selection.skip_bids_validation:
            validate(settings.paths.bids_dir.absolute(), sorted(subject.label for subject in subjects), found)
    return replace(plan, estimate=cost, problems=tuple(found.problems), warnings=tuple(found.notices))


def _check_model(settings: Settings, subject: Subject, header: Header, file: Path, found: Findings) -> None:
    """Why a model does not serve a participant, from its card and the header of the scan that is the frame."""
    from bids_sr.sr.models.compatibility import describe
    from bids_sr.sr.models.model import ModelError, read_card
    from bids_sr.sr.training.fused import SAME_GRID, joined

    contrasts = [pair.contrast for pair in subject.structural]
    where, superres = f"sub-{subject.label} with --pretrained {file}", settings.superres
    try:
        card = read_card(file)
    except ModelError:
        return  # told by `check_pretrained`
    if (channels := card.channels) != len(contrasts):
        reason = f"the model takes {channels} contrasts ({card.contrast}), there are {joined(contrasts)}"
        fix = "Give a model of these contrasts, or leave the file out of --pretrained to train one."
        found.refuse(where, reason, fix)
    else:
        image = describe(header.affine, joined(contrasts), SAME_GRID, superres.anat_align)
        check_card(file, image, where, found, force=superres.force)


def estimate_structural(plan: Plan, settings: Settings) -> Estimate:
    """Time, memory and disk, from the numbers of voxels of the high-resolution scans."""
    if not plan.subjects:
        return Estimate()
    superres = settings.superres
    sizes, methods = sizes_of(plan.subjects, settings), len(superres.methods)
    learning = sum(pretrained_for(superres, name) is None for name in superres.methods)
    scans = sum(len(subject.structural) for subject in plan.subjects)
    voxels, people = scans * sizes.scans, len(plan.subjects)
    copies = 2 + methods + (2 if superres.baselines == "all" else 1)
    limit = (superres.max_train_minutes or 1e9) * 60 * people
    train = TRAIN_S["fast" if superres.recipe == "fast" else "paper"] * voxels
    train = 0.0 if superres.model_source == "reuse" else train
    prepare = PREPARE_S[0] * people + PREPARE_S[1] * ALIGN[superres.anat_align] * voxels
    stages = {
        "preparation": (prepare, 6 * voxels * 4e-3),
        "training": (min(train, limit) * learning, 0.1 * methods * people),
        "measures and figures": (MEASURE_S[0] * people + MEASURE_S[1] * voxels * copies, 0.02 * people),
    }
    largest = largest_gb(sizes)
    rows = tuple(
        Row(stage=stage, minutes=seconds / 60, memory_gb=largest, disk_gb=disk)
        for stage, (seconds, disk) in stages.items()
    )
    return Estimate(
        minutes=sum(row.minutes for row in rows) / min(people, settings.resources.nprocs or 1),
        memory_gb=BASE_GB + largest, work_gb=sum(row.disk_gb for row in rows),
        output_gb=copies * voxels * 2e-3 + 0.05 * methods * people, rows=rows,
    )  # fmt: skip
