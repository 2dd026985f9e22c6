"""Preflight of BOLD runs and of structural scans: one pass over what headers and tables tell.

Check of the spaces of ``--output-spaces``, fetching templates that are not local.

What this machine has is looked up in a moment. For any other template niworkflows says whether
there is such a space, and TemplateFlow's own client brings the images: both take seconds to
import, and their first import lays out TemplateFlow's folder with empty files, so that neither is
imported for what is here.
"""

import contextlib
import fcntl
import importlib
import logging
import os
import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from bids_sr.bids import (
    Findings,
    Header,
    Subject,
    Survey,
    entities_of,
    input_of_models,
    pretrained_for,
    survey,
    survey_structural,
)
from bids_sr.bids.inputs import series_of_run
from bids_sr.bids.pairs import as_downsampled, tell_retrospective
from bids_sr.config import Settings, machine
from bids_sr.config.spaces import COMPONENTS, FUNC, Space, seed_names, seeds_of
from bids_sr.glm.contrasts import Contrast
from bids_sr.io.installed_files import templateflow_home
from bids_sr.io.template_cache import (
    cached,
    described_resolutions,
    grid_of,
    is_here,
    templates_here,
)
from bids_sr.notices import Notice
from bids_sr.preflight import confound_checks, directories, events
from bids_sr.preflight.directories import validate
from bids_sr.preflight.estimates import check_memory, estimate
from bids_sr.preflight.method_checks import (
    check_card,
    check_methods,
    tell_missing_features,
    tell_recipe,
    tell_vgg19,
    with_compared,
)
from bids_sr.preflight.overlap_checks import check_overlap
from bids_sr.preflight.plan import Estimate, Plan, exclude, files_of
from bids_sr.preflight.reference_checks import tell_unused_reference
from bids_sr.preflight.structural_checks import (
    check_lesion_references,
    check_lesion_template,
    check_tools,
)
from bids_sr.preflight.voxel_checks import refuse_phase, warn_of_header

_LOGGER = logging.getLogger(__name__)
_IMAGES: tuple[dict[str, object], ...] = (
    {"suffix": "T1w", "desc": None},
    {"suffix": "mask", "desc": "brain"},
)
_TISSUES: tuple[dict[str, object], ...] = tuple(
    {"suffix": "probseg", "label": tissue} for tissue in ("GM", "WM")
)
_OTHER_SPACE = "Choose another output space, or omit this space."


def check_spaces(
    settings: Settings, findings: Findings, *, labels: Sequence[str], without_anat: Sequence[str]
) -> None:
    """Refuse spaces that results cannot be had in; fetch templates, except for a dry run."""
    spaces = [space for space in settings.preprocessing.spaces if space.name != FUNC]
    if spaces and labels and set(labels) <= set(without_anat):
        reason = "all output spaces except func require a T1w image, but no participant has one"
        findings.refuse_option("--output-spaces", reason, "Omit the option, or add a T1w image.")
        return
    for label in without_anat if spaces else ():
        text = (
            "no T1w image was found, so results cannot be transformed to"
            f" {', '.join(map(str, spaces))} and remain in the native space of the run."
        )
        with findings.about(label):
            findings.tell(f"sub-{label}", text)
    for space in (space for space in spaces if space.is_template):
        _check_template(space, findings, dry=settings.run.dry_run)


def _check_template(space: Space, findings: Findings, *, dry: bool) -> None:
    """Refuse a template or resolution that is neither stored locally nor available."""
    where = f"--output-spaces {space}"
    if not is_here(space.template):
        with _templateflow(where, findings) as client:
            if (
                client is not None
                and _is_known(space, where, findings)
                and _has_resolution(space, where, client, findings)
            ):
                if dry:
                    findings.tell(
                        where,
                        "the template is not stored on this machine and will be downloaded when"
                        " processing starts.",
                    )
                else:
                    _fetch(space, where, client, findings)
        return
    if space.resolution and grid_of(space.template, space.resolution) is None:
        _refuse_resolution(space, where, described_resolutions(space.template), findings)


def _refuse_resolution(
    space: Space, where: str, known: dict[str, float], findings: Findings
) -> None:
    listed = ", ".join(
        f"res-{label}" + (f" ({mm:g} mm)" if mm else "") for label, mm in known.items()
    )
    fix = (
        f"Use {space.template.replace('+', ':cohort-')} without a resolution to keep the voxel"
        " size of the series, or choose one of the available resolutions."
    )
    findings.refuse_option(
        where,
        f"the resolution {space.resolution} is not available for this template (available:"
        f" {listed or 'no named resolution'})",
        fix,
    )


def _is_known(space: Space, where: str, findings: Findings) -> bool:
    """Return whether niworkflows knows a space, and its cohort is given only if required."""
    from niworkflows.utils.spaces import SpatialReferences

    spec = {"cohort": space.cohort} if space.cohort else {}
    try:
        SpatialReferences([(space.name, spec)])
    except ValueError as error:
        _LOGGER.debug("%s: %s", where, error)
        reason = (
            "TemplateFlow does not provide a template with this name and cohort"
            if space.cohort
            else "TemplateFlow does not provide this template, or the template requires a cohort"
        )
        findings.refuse_option(
            where, reason, f"Templates available on this machine: {', '.join(templates_here())}."
        )
        return False
    return True


def _has_resolution(space: Space, where: str, client: Any, findings: Findings) -> bool:
    own = {"cohort": space.cohort} if space.cohort else {}
    labels = {
        str(label).lstrip("0") for label in client.get_resolutions(template=space.name, **own)
    }
    if space.resolution and space.resolution not in labels:
        sizes = described_resolutions(space.template)
        _refuse_resolution(
            space, where, {label: sizes.get(label, 0.0) for label in sorted(labels)}, findings
        )
        return False
    return True


@contextlib.contextmanager
def _templateflow(where: str, findings: Findings) -> Iterator[Any]:
    """Return TemplateFlow's client while no other process fetches.

    The client is None, with a problem, where its folder cannot be used.
    """
    home = templateflow_home()
    try:
        home.mkdir(parents=True, exist_ok=True)
        # no file of ours: the client takes a folder with a file for laid out
        folder = os.open(home, os.O_RDONLY)
        fcntl.flock(folder, fcntl.LOCK_EX)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            client = importlib.import_module("templateflow.api")
    except OSError as error:
        reason = (
            f"the template is not stored on this machine, and the TemplateFlow directory {home}"
            f" is not writable ({error})"
        )
        findings.refuse_option(
            where,
            reason,
            "Set the environment variable TEMPLATEFLOW_HOME to a writable directory.",
        )
        yield None
        return
    try:
        yield client
    finally:
        os.close(folder)


def _fetch(space: Space, where: str, client: Any, findings: Findings) -> None:
    """Fetch a template's T1w image, brain mask, tissue maps and the requested grid.

    Tissue maps are fetched only where the template has them.
    """
    labels = {
        str(label).lstrip("0"): label for label in client.get_resolutions(template=space.name)
    }
    finest: str | None = next((label for label in ("1", "2") if label in labels), None)
    images = [(finest, image) for image in (*_IMAGES, *_TISSUES)]
    images += [
        (space.resolution, image) for image in _IMAGES[:1] if space.resolution not in ("", finest)
    ]
    for resolution, image in images:
        query: dict[str, Any] = {**image, "atlas": None, "extension": ".nii.gz"}
        query |= {"cohort": space.cohort} if space.cohort else {}
        query |= {"resolution": labels[resolution]} if resolution in labels else {}
        files = [Path(path) for path in client.ls(space.name, **query)]
        missing = [path for path in files if not path.is_file() or path.stat().st_size == 0]
        if not files and image in _IMAGES:
            what = "T1w image" if image is _IMAGES[0] else "brain mask"
            findings.refuse_option(
                where,
                f"the template does not include a {what}, which is required for registration",
                _OTHER_SPACE,
            )
            return
        try:
            client.get(space.name, **query)
        # the client lets through what its several ways of fetching raise
        except Exception as error:
            for path in missing:
                _empty(path)
            _refuse_fetch(missing or files, error, space.name, where, findings)
            return
    if cached(space.template, "T1w.nii.gz") is None:
        findings.refuse_option(
            where,
            f"the T1w image of the template was not found in {templateflow_home()}",
            _OTHER_SPACE,
        )


def _empty(path: Path) -> None:
    """Empty a partly written file, which would be taken for a complete one.

    A DataLad link does not count as a file of its own.
    """
    if path.is_file() and not path.is_symlink():
        path.write_bytes(b"")


def _refuse_fetch(
    files: Sequence[Path], error: Exception, template: str, where: str, findings: Findings
) -> None:
    name = (
        files[0].relative_to(templateflow_home())
        if files[0].is_relative_to(templateflow_home())
        else files[0]
    )
    _LOGGER.debug("TemplateFlow could not provide %s: %s", name, error)
    findings.refuse_option(
        where,
        f"the template is not stored on this machine, and {name} could not be downloaded"
        f" ({type(error).__name__})",
        'Download the template on a machine with network access (`python -c "from templateflow'
        f" import api; api.get('{template}')\"`), copy its TemplateFlow directory to this machine"
        f" and set TEMPLATEFLOW_HOME (now {templateflow_home()}) to that directory."
        " Alternatively, use one of the templates available on this machine:"
        f" {', '.join(templates_here())}.",
    )


def check(settings: Settings) -> Plan:
    """Plan a call and collect every problem; reads headers, sidecars and tables only.

    Nothing is written but a template that is asked for and not here, into TemplateFlow's folder,
    and not by a dry run.
    """
    findings = Findings()
    directories.check_places(settings, findings)
    places = {str(settings.paths.output_dir), str(settings.paths.work_dir)}
    # said before the data set is indexed
    if any(problem.what in places for problem in findings.problems):
        return Plan(problems=tuple(findings.problems))
    if settings.superres.target == "anat":
        return _check_structural(settings, findings)
    surveyed = survey(settings)
    _warn_of_missing_events(surveyed, settings, findings)
    findings.add_all(surveyed)
    tell_recipe(settings.superres, findings)
    tell_vgg19(settings.superres, findings)
    tell_missing_features(settings.superres, findings)
    resources, processors = settings.resources, machine.processors()
    if resources.use_plugin is None and (resources.nprocs or 0) > processors:
        text = (
            f"this machine or job has {processors} processors, so more processes increase memory"
            " usage without reducing the processing time."
        )
        findings.tell(f"--nprocs {resources.nprocs}", text)
    types = {}  # of each run whose table is sound, in the order that the data set shares
    lengths = {run.bold: run.duration for one in surveyed.subjects for run in one.runs}
    for run in (run for one in surveyed.subjects for run in one.runs):
        with findings.about(run.entities["subject"], run.stem):
            for series in filter(None, (run, run.calibration)):
                refuse_phase(series, findings)
                warn_of_header(series, findings)
    for name, (bold, table) in surveyed.chosen.items():
        if table is None:
            continue
        named = entities_of(bold)
        with findings.about(named["subject"], name, code="events"):
            names = events.check_events(table, bold, lengths.get(bold), findings)
        if names:
            order = surveyed.type_order.get(named.get("task", ""), ())
            types[bold] = events.ordered(names, order)
    events.warn_of_alike_types(types, findings)
    seeds = _seeds_of_runs(surveyed, settings, findings)
    asked: Sequence[str | tuple[str, Contrast]] = settings.activation.contrasts
    of_model_confounds: list[str] | None = None
    if settings.activation.stats_model is not None:
        from bids_sr.preflight.events import read_model

        of_model, of_model_confounds = read_model(settings.activation.stats_model, types, findings)
        asked = (*of_model, *asked)
    nuisance = confound_checks.chosen_confounds(settings, of_model_confounds, findings)
    of_events = events.contrasts_of_runs(types, asked, findings)
    check_overlap(settings, of_events, findings)
    contrasts = of_events | {
        bold: {name: {name: 1.0} for name in names} for bold, names in seeds.items()
    }
    types |= seeds
    for run in (
        run
        for one in as_downsampled(surveyed.subjects, settings)
        for run in one.runs
        if run.bold in types
    ):
        with findings.about(run.entities["subject"], run.stem, code="events"):
            events.tell_nyquist(run, settings, findings)
            if not (
                confound_checks.are_usable(run, nuisance, findings)
                and events.is_long_enough(
                    run,
                    len(types[run.bold]),
                    settings,
                    findings,
                    n_confounds=confound_checks.count_confounds(run, nuisance),
                )
                and events.is_estimable(run, contrasts.get(run.bold, {}), settings, findings)
            ):
                del types[run.bold]  # its blocks are not worth the time
    with findings.about(code="method"):
        check_methods(settings, as_downsampled(surveyed.subjects, settings), findings)
    _check_beside(settings, surveyed, findings)
    tell_unused_reference(settings, surveyed.subjects, findings)
    subjects = tuple(
        one for one in surveyed.subjects if any(run.bold in contrasts for run in one.runs)
    )
    subjects = with_compared(subjects, settings, findings)
    left_out: dict[str, tuple[Notice, ...]] = {}
    if not settings.run.strict:
        subjects, left_out, problems = exclude(findings.problems, surveyed.chosen, subjects)
        findings = Findings(problems=list(problems), notices=findings.notices)
    plan = Plan(
        subjects=subjects,
        contrasts=contrasts,
        type_order=surveyed.type_order,
        left_out=left_out,
        sources=surveyed.sources,
        nuisance=nuisance,
    )
    return _costed(plan, frozenset(types), settings, findings)


def _check_beside(settings: Settings, surveyed: Survey, findings: Findings) -> None:
    """Check by the validator what was chosen, and spaces and regions that were asked for."""
    subjects = surveyed.subjects
    labels = {one.label for one in subjects if one.has_scans}
    labels |= {entities_of(bold)["subject"] for bold, _ in surveyed.chosen.values()}
    if labels and not settings.selection.skip_bids_validation:
        with findings.about(code="validator"):
            validate(settings.paths.bids_dir.absolute(), labels, surveyed.chosen, findings)
    without_anat = [one.label for one in subjects if not (one.t1w or one.has_scans)]
    with findings.about(code="space"):
        check_spaces(
            settings, findings, labels=[one.label for one in subjects], without_anat=without_anat
        )
        directories.check_region(settings, findings)


def is_rest(task: str) -> bool:
    """Return whether a task label says rest: a word of it, in camel case, and not a part of one.

    Examples
    --------
    >>> [is_rest(label) for label in ("rest", "restingstate", "preRest", "forest", "restaurant")]
    [True, True, True, False, False]
    """
    words = re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+", task)
    return any(
        re.fullmatch(r"rest(ing)?(state)?|resteyes(open|closed)?|rs|rsfmri", word.lower())
        for word in words
    )


def _warn_of_missing_events(surveyed: Survey, settings: Settings, findings: Findings) -> None:
    """Warn of task runs without events.

    They would be mapped as resting-state runs without notice; BIDS identifies rest by the label.
    """
    asked = "events" not in settings.preprocessing.ignore
    for name, (bold, table) in surveyed.chosen.items() if asked else ():
        if table is None and not is_rest(entities_of(bold).get("task", "rest")):
            text = (
                f"{name}_events.tsv was not found, so the run is analyzed as resting state"
                " (seed-based connectivity). To map task activation, add the events table and"
                " run the program again. If the run is a resting-state run, use --ignore events."
            )
            with findings.about(entities_of(bold)["subject"], name, code="events"):
                findings.warn(bold, text)


def _seeds_of_runs(
    surveyed: Survey, settings: Settings, findings: Findings
) -> dict[Path, tuple[str, ...]]:
    """Names of the seeds of each run without events."""
    named = settings.activation.seeds
    found_in = {}
    for subject in surveyed.subjects:
        names = seed_names(
            seeds_of(named, with_anat=bool(subject.t1w), atlas=settings.activation.atlas)
        )
        rest = [run for run in subject.runs if run.events is None]
        found_in.update(dict.fromkeys((run.bold for run in rest), names))
        if rest and not subject.t1w and named != (COMPONENTS,):
            text = (
                "no T1w image was found, so the seed regions cannot be located. Seeds are the"
                " leading temporal components of the run instead."
            )
            with findings.about(subject.label):
                findings.tell(f"sub-{subject.label}", text)
    return found_in


def _costed(plan: Plan, sound: frozenset[Path], settings: Settings, findings: Findings) -> Plan:
    """Return the plan with series and cost of the remaining runs.

    `sound` are the BOLD files whose tables are valid.
    """
    subjects = as_downsampled(plan.subjects, settings)
    by_run = {
        run.bold: series_of_run(run, settings.superres) for one in subjects for run in one.runs
    }
    made = {name for names in by_run.values() for name in names}
    series = ("raw", *(name for name in settings.superres.series if name in made or not made))
    plan = replace(plan, series=series, series_by_run=by_run)
    cost = Estimate()
    unsplit = frozenset[Path]()
    if plan.subjects:
        cost = estimate(replace(plan, subjects=subjects), settings)
        with findings.about(code="room"):
            directories.check_room(settings, cost, findings)
            check_memory(settings, cost.sizes, settings.resources.mem_gb, findings)
    if settings.evaluation.retrospective is not None:
        tell_retrospective(plan.subjects, settings, findings)
    else:
        for run in (run for run in plan.runs if run.bold in sound):
            with findings.about(run.entities["subject"], run.stem, code="events"):
                if not events.can_be_split(
                    run, settings, findings, n_seeds=len(plan.contrasts[run.bold])
                ):
                    unsplit |= {run.bold}
                other = run.another
                if (
                    other is not None
                    and other.events is not None
                    and not events.can_be_split(other, settings, findings)
                ):
                    unsplit |= {other.bold}
    return replace(
        plan,
        estimate=cost,
        unsplit=unsplit,
        problems=tuple(findings.problems),
        warnings=tuple(findings.notices),
    )


def without(plan: Plan, problems: Sequence[Notice]) -> Plan:
    """Return the plan without the runs that problems stop.

    The plan itself is returned where problems stop more, or where there are none.
    """
    files = {run.stem: (run.bold, *files_of(run)) for run in plan.runs}
    subjects, left_out, remaining = exclude(problems, files, plan.subjects)
    if remaining or not left_out:
        return plan
    return replace(plan, subjects=subjects, left_out={**plan.left_out, **left_out})


def without_unfit_references(
    plan: Plan, problems: Sequence[Notice]
) -> tuple[Plan, tuple[Notice, ...]]:
    """Drop references found automatically, not named, where their voxels do not fit the run.

    Returns the plan, whose warnings tell what was taken, and problems that are of no reference.
    """
    unfit = {(Path(problem.what), problem.subject, problem.run): problem for problem in problems}
    findings = Findings()
    subjects = []
    seen = set[Notice]()
    for subject in plan.subjects:
        runs = []
        for run in subject.runs:
            path = run.truth.series.bold if run.truth and run.truth.series else None
            owners = ((subject.label, run.stem), (subject.label, ""))
            why = next(
                (unfit[path, *each] for each in owners if path and (path, *each) in unfit), None
            )
            if path is not None and why is not None:
                seen.add(why)
                with findings.about(run.entities["subject"], run.stem):
                    findings.tell(
                        path,
                        f"this high-resolution reference cannot be used for {run.stem}:"
                        f" {why.why}. {why.remedy}",
                    )
                run = replace(run, truth=None)
            runs.append(run)
        subjects.append(replace(subject, runs=tuple(runs)))
    if not seen:
        return plan, tuple(problems)
    used = {str(run.truth.root) for one in subjects for run in one.runs if run.truth is not None}
    known = [
        notice for notice in plan.warnings if notice.code != "reference" or notice.what in used
    ]
    plan = replace(plan, subjects=tuple(subjects), warnings=(*known, *findings.notices))
    return plan, tuple(problem for problem in problems if problem not in seen)


def _check_structural(settings: Settings, findings: Findings) -> Plan:
    """Plan a call and collect all problems in `findings`; reads headers only, writes nothing."""
    surveyed = survey_structural(settings)
    findings.add_all(surveyed)
    tell_missing_features(settings.superres, findings)
    for name in settings.superres.learned:
        file = pretrained_for(settings.superres, name)
        for subject in surveyed.subjects:
            if file is not None and subject.lowres:
                _check_model_of_lowres(settings, subject, file, findings)
            if not subject.structural:
                continue
            header = surveyed.headers.get(subject.structural[0].highres)
            if file is not None and header is not None:
                _check_model(settings, subject, header, file, findings)
    subjects = surveyed.subjects
    check_tools(settings, findings)
    check_lesion_template(settings, subjects, findings)
    check_lesion_references(settings, subjects, findings)
    plan = Plan(subjects=subjects, series=("bspline", *settings.superres.chosen))
    cost = estimate(plan, settings)
    if subjects:
        _check_beside(settings, surveyed, findings)
        with findings.about(code="room"):
            directories.check_room(settings, cost, findings)
            check_memory(settings, cost.sizes, settings.resources.mem_gb, findings)
    return replace(
        plan, estimate=cost, problems=tuple(findings.problems), warnings=tuple(findings.notices)
    )


def _check_model(
    settings: Settings, subject: Subject, header: Header, file: Path, findings: Findings
) -> None:
    """Return why a model does not serve a participant.

    This is judged from the model card and the header of the scan that is the frame.
    """
    from bids_sr.sr.models.card import ModelError, read_card
    from bids_sr.sr.training.fused import SAME_GRID, joined

    contrasts = [pair.contrast for pair in subject.structural]
    where = f"sub-{subject.label} with --pretrained {file}"
    superres = settings.superres
    try:
        card = read_card(file)
    except ModelError:
        return  # told by `check_pretrained`
    if (channels := card.channels) != len(contrasts):
        reason = (
            f"the number of contrasts required by the model is {channels} ({card.contrast}), but"
            f" the participant has {joined(contrasts)}"
        )
        fix = (
            "Use a model that was trained on these contrasts, or omit --pretrained to train a"
            " new model."
        )
        findings.refuse(where, reason, fix)
    else:
        check_card(file, header.affine, joined(contrasts), SAME_GRID, where, findings, superres)


def _check_model_of_lowres(
    settings: Settings, subject: Subject, file: Path, findings: Findings
) -> None:
    """Refuse a model that does not serve the grid of low-resolution scans.

    The grid and the contrasts are those of the first model, so only alignment, intensities and
    further models can differ.
    """
    from bids_sr.sr.training.fused import SAME_GRID, joined

    given = input_of_models(settings.superres)
    assert given is not None, "low-resolution scans can only be processed with pretrained models"
    x, y, z = given.mm
    across = ("R-L", "P-A", "I-S").index(given.orientation)
    axes = [axis for axis in range(3) if axis != across] + [across]
    affine = np.eye(4)
    affine[:3, :3] = np.eye(3)[:, axes] * (x, y, z)
    where = f"sub-{subject.label} with --pretrained {file}"
    contrasts = joined(given.contrasts)
    check_card(file, affine, contrasts, SAME_GRID, where, findings, settings.superres)
