"""Collect the runs of the participants, with pair, T1w image, events and metadata, and all that speaks against them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bids_sr.bids import calibration_runs as cal
from bids_sr.bids import headers as hd
from bids_sr.bids import query
from bids_sr.bids.echoes import bold_runs, magnitudes
from bids_sr.bids.factor import factor_of, has_factor
from bids_sr.bids.fmriprep import given_anat, given_run, open_derivatives
from bids_sr.bids.holdout_pairs import choose_two
from bids_sr.bids.inputs import (
    BoldRun,
    Header,
    InputError,
    Notice,
    Pair,
    Problem,
    RunFiles,
    Subject,
    Survey,
    Triple,
    entities_of,
)
from bids_sr.bids.layout import Index, open_index
from bids_sr.bids.method_options import check_guide, check_options
from bids_sr.bids.pairs import Choice, choose, needs_pair, no_pair
from bids_sr.bids.precomputed import Derivatives
from bids_sr.bids.reference_runs import check_root, find_truth
from bids_sr.bids.retrospective_plan import check_retrospective
from bids_sr.config import Selection, Settings, nearest_name


@dataclass(slots=True)
class _Findings:
    """What piles up while the data set is walked through."""

    problems: list[Problem] = field(default_factory=list)
    notices: list[Notice] = field(default_factory=list)
    headers: dict[Path, Header] = field(default_factory=dict)
    runs: list[RunFiles] = field(default_factory=list)
    sources: tuple[Derivatives, ...] = ()

    def refuse(self, file: Path | str, reason: str, fix: str) -> None:
        self.problems.append(Problem(file=str(file), reason=reason, fix=fix))

    def tell(self, file: Path | str, text: str) -> None:
        self.notices.append(Notice(file=str(file), text=text))

    def header(self, path: Path) -> Header | None:
        """Read a header once; a failure is a problem."""
        if path not in self.headers:
            found = hd.read_header(path)
            if isinstance(found, Problem):
                if found not in self.problems:
                    self.problems.append(found)
                return None
            self.headers[path] = found
        return self.headers[path]

    def named(self, paths: Sequence[Path]) -> list[Path]:
        """Images whose names are sound; others are problems."""
        self.problems += (odd := query.odd_names(paths)).values()
        return [path for path in paths if path not in odd]

    def sidecar(self, index: Index, path: Path) -> dict[str, Any] | None:
        """Metadata of a file; a failure is a problem."""
        try:
            return index.sidecar(path)
        except InputError as error:
            self.problems += [problem for problem in error.problems if problem not in self.problems]
            return None


def collect(settings: Settings) -> tuple[Subject, ...]:
    """Return the participants of a call with their runs.

    Raises
    ------
    InputError
        anything stands in the way; the exception holds every reason
    """
    found = survey(settings)
    if found.problems:
        raise InputError(found.problems)
    return found.subjects


def survey(settings: Settings) -> Survey:
    """Walk through the data set; problems are returned, not raised. Only headers, tables and sidecars are read."""
    seen = _Findings()
    try:
        subjects, order = _walk(settings, seen)
    except InputError as error:
        seen.problems += error.problems
        subjects, order = (), {}
    return Survey(
        subjects=subjects,
        runs=tuple(seen.runs),
        headers=seen.headers,
        type_order=order,
        problems=tuple(seen.problems),
        notices=tuple(dict.fromkeys(seen.notices)),
    )


def _walk(settings: Settings, seen: _Findings) -> tuple[tuple[Subject, ...], dict[str, tuple[str, ...]]]:
    bids_dir, selection = settings.paths.bids_dir.absolute(), settings.selection
    query.check_dataset(bids_dir)
    seen.problems += check_options(settings)
    if settings.evaluation.truth is not None:
        unusable = check_root(settings.evaluation.truth)
        if unusable:
            raise InputError([*seen.problems, *unusable])
    seen.sources, unusable = open_derivatives(settings.preprocessing.derivatives, bids_dir)
    seen.problems += unusable
    existing, notices = query.participants(bids_dir)
    labels, problems = query.choose(bids_dir, existing, selection)
    seen.problems += problems
    seen.notices += notices
    filters = query.read_filters(selection.bids_filter_file)
    seen.problems += cal.check_named(settings, labels)
    index = open_index(bids_dir, labels, existing, selection.bids_database_dir, filters)
    every = {label: seen.named(index.find("bold", label)) for label in labels}
    chosen = _select(every, selection, seen)
    subjects = []
    for label, bolds in chosen.items():
        if not bolds:
            continue
        subject = _subject(index, label, bolds, every[label], settings, seen)
        if subject.runs:
            subjects.append(subject)
    tasks = {run.entities.get("task", "") for run in seen.runs}
    return tuple(subjects), {task: _type_order(index, bids_dir, task, seen) for task in sorted(tasks)}


def _select(every: Mapping[str, Sequence[Path]], selection: Selection, seen: _Findings) -> dict[str, list[Path]]:
    """Runs of the sessions, tasks and runs asked for; what was asked for and is nowhere is a problem."""
    asked: dict[str, tuple[str, ...]] = {
        "session": selection.session_label,
        "task": selection.task_id,
        "run": tuple(str(run) for run in selection.run_id),
    }
    options = {"session": "--session-label", "task": "--task-id", "run": "--run-id"}
    for entity, wanted in asked.items():
        existing = sorted({_label(path, entity) for paths in every.values() for path in paths} - {""})
        for label in wanted:
            if label not in existing:
                seen.refuse(
                    f"{options[entity]} {label}",
                    f"no BOLD run of the participants chosen has the {entity} {label!r}",
                    f"There are: {query.some(existing)}. {nearest_name(label, existing)}".strip(),
                )
    chosen = {
        label: [p for p in paths if all(not want or _label(p, e) in want for e, want in asked.items())]
        for label, paths in every.items()
    }
    nothing_refused = not seen.problems
    for label, paths in chosen.items():
        if paths:
            continue
        if label in selection.participant_label and nothing_refused:
            seen.refuse(
                f"sub-{label}",
                "it has no BOLD run" + (" of the sessions, tasks and runs asked for" if any(asked.values()) else ""),
                "Leave the participant out, or add `func/sub-…_task-…_bold.nii.gz`.",
            )
        elif not selection.participant_label:
            seen.tell(f"sub-{label}", "it has no BOLD run asked for and is left out.")
    if every and not any(chosen.values()) and not seen.problems:
        seen.refuse("sub-*/func", "there is no BOLD run in the data set", "Add `func/sub-…_task-…_bold.nii.gz`.")
    return chosen


def _label(path: Path, entity: str) -> str:
    """Label in a file name; runs are compared as numbers (``run-01`` is run 1)."""
    label = entities_of(path).get(entity, "")
    return str(int(label)) if entity == "run" and label.isdigit() else label


def _subject(
    index: Index, label: str, bolds: Sequence[Path], every: Sequence[Path], settings: Settings, seen: _Findings
) -> Subject:
    images = seen.named(index.find("t1w", label))
    anat = given_anat(seen.sources, label, images, settings.preprocessing.output_spaces, seen)
    t1w = _t1w(images if anat is None else [anat.preproc], label, settings, seen)
    stars = magnitudes(seen.named(index.find("t2starw", label)), seen)
    star_headers = [h for h in (_volume_header(path, seen) for path in stars) if h is not None]
    runs, missing = [], []

    def factor(bold: Header, session: str | None) -> Triple | None:
        return cal.known_factor(_choose(bold, session, star_headers, settings)[0].pair, settings)

    calibrations, bolds = cal.of_runs(index, bolds, every, factor, settings, seen)
    for bold in bold_runs(bolds, seen):
        files = _run_files(index, bold, seen)
        _check_slices(files, settings, seen)
        seen.runs.append(files)
        geometry = seen.headers.get(bold)  # also of a series that is unsound otherwise, so that its pair is checked too
        if geometry is None:
            continue
        choice, spare = _choose(geometry, files.entities.get("session"), star_headers, settings)
        calibration = calibrations.get(bold)
        told = choice.pair is not None or (calibration is not None and not needs_pair(settings.superres))
        if not told and not choice.problems and not stars:
            missing.append(bold)
        _take(choice, settings, seen)
        if files.header is not None and files.tr is not None and files.events is not None:
            run = _make_run(files, files.header, choice, settings, seen)
            run = replace(run, holdout=spare, given=given_run(seen.sources, run, anat, seen), calibration=calibration)
            runs.append(_with_truth(run, settings, seen))
    if missing:
        seen.problems += no_pair(label, missing, settings)
    subject = Subject(label=label, t1w=tuple(t1w), runs=tuple(runs), given=anat)
    if settings.evaluation.retrospective is not None:
        seen.problems += check_retrospective(subject)
    else:
        seen.problems += check_guide(settings.superres, subject)
    return subject


def _choose(
    bold: Header, session: str | None, stars: Sequence[Header], settings: Settings
) -> tuple[Choice, Pair | None]:
    """The pair that a run is trained on, and the one that is held out where that was asked for."""
    superres = settings.superres
    if settings.evaluation.retrospective is not None:  # the factor is by how much the BOLD will be brought down
        superres = replace(superres, factor=None)
    if settings.evaluation.pair_holdout:
        return choose_two(bold, session, stars, superres)
    return choose(bold, session, stars, superres), None


def _with_truth(run: BoldRun, settings: Settings, seen: _Findings) -> BoldRun:
    """The run with its truth, where one was asked for and the factor is known."""
    root = settings.evaluation.truth
    if root is None or not has_factor(run, settings):
        return run
    found = find_truth(
        root, run, factor_of(run, settings), with_timing="slicetiming" not in settings.preprocessing.ignore
    )
    seen.problems += found.problems
    seen.notices += found.notices
    return replace(run, truth=found.truth)


def _take(choice: Choice, settings: Settings, seen: _Findings) -> None:
    """Problems of a pair count only when a pair is needed; otherwise they are told."""
    seen.notices += choice.notices
    new = [problem for problem in choice.problems if problem not in seen.problems]
    if needs_pair(settings.superres) or settings.evaluation.pair_holdout:
        seen.problems += new
    else:
        seen.notices += [Notice(file=p.file, text=f"no pair is used: {p.reason}.") for p in new]


def _t1w(found: Sequence[Path], label: str, settings: Settings, seen: _Findings) -> list[Path]:
    images = magnitudes(found, seen)
    sessions = settings.selection.session_label
    images.sort(key=lambda path: bool(sessions) and entities_of(path).get("session", "") not in sessions)
    for path in images[:1]:
        _volume_header(path, seen)
    if not images:
        text = "there is no T1w image: "
        if settings.activation.roi == "motor":
            text += "the motor area is not known, so the region of interest is the whole brain; "
        elif settings.activation.roi != "brain":
            text += "the ROI file cannot be brought to the BOLD, so the region of interest is the whole brain; "
        seen.tell(f"sub-{label}", text + "nothing is brought to template space.")
    elif len(images) > 1:
        seen.tell(images[0], f"there are {len(images)} T1w images; this one, the first, is used.")
    return images


def _volume_header(path: Path, seen: _Findings) -> Header | None:
    """Header of a single 3D image, or None with a problem."""
    header = seen.header(path)
    if header is None:
        return None
    shape = hd.squeeze_3d(header)
    if len(shape) != 3 or header.complex:
        what = "complex or colored voxels" if header.complex else f"{len(header.shape)} dimensions {header.shape}"
        seen.refuse(path, f"it has {what}; one 3D image of magnitudes is due", "Store the magnitude as a 3D image.")
        return None
    return header


def _run_files(index: Index, bold: Path, seen: _Findings) -> RunFiles:
    """Read header and sidecar of a run; what is unsound becomes a problem and stays None."""
    sidecar = seen.sidecar(index, bold)
    header = seen.header(bold)
    tr = None
    if sidecar is None:
        sidecar, header = {}, None
    if header is not None:
        problems = hd.check_bold_header(header)
        if problems:
            header = None
        else:
            tr, problems, notices = hd.repetition_time(header, sidecar.get("RepetitionTime"))
            seen.notices += notices
        seen.problems += problems
    return RunFiles(
        bold=bold,
        events=index.events(bold),
        entities=entities_of(bold),
        sidecar=sidecar,
        header=header,
        tr=tr,
    )


def _check_slices(files: RunFiles, settings: Settings, seen: _Findings) -> None:
    """Everything downstream takes axes 0 and 1 as in plane."""
    if files.header is None or hd.slice_axis(files.header, files.sidecar) == 2:
        return
    reason = "its slices do not lie along the third axis, which the methods take for that of slices"
    if settings.superres.force:
        seen.tell(files.bold, f"{reason}; --force was given.")
    else:
        seen.refuse(files.bold, reason, "Reorient all images of the participant, or try with --force.")


def _make_run(files: RunFiles, header: Header, choice: Choice, settings: Settings, seen: _Findings) -> BoldRun:
    assert files.tr is not None
    assert files.events is not None
    times = None
    if "slicetiming" not in settings.preprocessing.ignore:
        times, notices = hd.slice_times(header, files.sidecar, files.tr)
        seen.notices += notices
    return BoldRun(
        bold=files.bold,
        events=files.events,
        sidecar=files.sidecar,
        entities=files.entities,
        tr=files.tr,
        slice_timing=times,
        n_volumes=header.shape[3],
        shape=(header.shape[0], header.shape[1], header.shape[2]),
        zooms=header.zooms,
        affine=header.affine,
        pair=choice.pair,
    )


def _type_order(index: Index, bids_dir: Path, task: str, seen: _Findings) -> tuple[str, ...]:
    """Order of trial types that every participant of the data set shares.

    That of Levels in the events sidecar; else of first appearance in the first events table of the data set, whichever
    participants were chosen, so that ``thumbMinusLittle`` has one sign for all.
    """
    for run in seen.runs:
        if run.entities.get("task", "") == task and run.events is not None:
            described = (seen.sidecar(index, run.events) or {}).get("trial_type")
            levels = described.get("Levels") if isinstance(described, dict) else None
            if isinstance(levels, dict):
                return tuple(str(level) for level in levels)
    table = query.first_table(bids_dir, task)
    return tuple(dict.fromkeys(query.column(table, "trial_type"))) if table else ()
