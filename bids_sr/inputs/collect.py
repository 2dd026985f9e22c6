"""Collect the runs of the participants, with pair, T1w image, events and metadata, and all that speaks against them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bids_sr.config import PAIR_BASELINES, Selection, Settings, SuperRes, nearest_name
from bids_sr.inputs import headers as hd
from bids_sr.inputs import query
from bids_sr.inputs.model import (
    BoldRun,
    Header,
    InputError,
    Notice,
    Problem,
    RunFiles,
    Subject,
    Survey,
    Triple,
    entities_of,
)
from bids_sr.inputs.pair import Choice, choose

if TYPE_CHECKING:
    from bids.layout import BIDSLayout


@dataclass(slots=True)
class _Findings:
    """What piles up while the data set is walked through."""

    problems: list[Problem] = field(default_factory=list)
    notices: list[Notice] = field(default_factory=list)
    headers: dict[Path, Header] = field(default_factory=dict)
    runs: list[RunFiles] = field(default_factory=list)

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
    labels, problems = query.participants(bids_dir, selection)
    seen.problems += problems
    filters = query.read_filters(selection.bids_filter_file)
    layout = query.open_layout(bids_dir, labels, selection.bids_database_dir)
    every = {label: query.find(layout, "bold", label, filters) for label in labels}
    chosen = _select(every, selection, seen)
    tables = [Path(p) for p in layout.get(suffix="events", extension=".tsv", return_type="filename")]
    subjects = []
    for label, bolds in chosen.items():
        if not bolds:
            continue
        subject = _subject(layout, label, bolds, tables, filters, settings, seen)
        if subject.runs:
            subjects.append(subject)
    tasks = {run.entities.get("task", "") for run in seen.runs}
    return tuple(subjects), {task: _type_order(layout, bids_dir, task, seen) for task in sorted(tasks)}


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
    layout: BIDSLayout,
    label: str,
    bolds: Sequence[Path],
    tables: Sequence[Path],
    filters: Mapping[str, Mapping[str, Any]],
    settings: Settings,
    seen: _Findings,
) -> Subject:
    t1w = _t1w(query.find(layout, "t1w", label, filters), label, settings, seen)
    stars = _magnitudes(query.find(layout, "t2starw", label, filters), seen)
    star_headers = [h for h in (_volume_header(path, seen) for path in stars) if h is not None]
    runs, missing = [], []
    for bold in _bold_runs(bolds, seen):
        files = _run_files(layout, bold, tables, seen)
        _check_slices(files, settings, seen)
        seen.runs.append(files)
        geometry = seen.headers.get(bold)  # also of a series that is unsound otherwise, so that its pair is checked too
        if geometry is None:
            continue
        choice = choose(geometry, files.entities.get("session"), star_headers, settings.superres)
        if choice.pair is None and not choice.problems and not stars:
            missing.append(bold)
        _take(choice, settings.superres, seen)
        if files.header is not None and files.tr is not None and files.events is not None:
            runs.append(_make_run(files, files.header, choice, settings, seen))
    if missing:
        _no_pair(label, missing, settings, seen)
    return Subject(label=label, t1w=tuple(t1w), runs=tuple(runs))


def needs_pair(superres: SuperRes) -> tuple[str, ...]:
    """Series asked for that need a T2*-weighted pair: methods that learn, and guided baselines that were named."""
    return superres.learned + tuple(name for name in superres.methods if name in PAIR_BASELINES)


def _take(choice: Choice, superres: SuperRes, seen: _Findings) -> None:
    """Problems of a pair count only when a pair is needed; otherwise they are told."""
    seen.notices += choice.notices
    new = [problem for problem in choice.problems if problem not in seen.problems]
    if needs_pair(superres):
        seen.problems += new
    else:
        seen.notices += [Notice(file=p.file, text=f"no pair is used: {p.reason}.") for p in new]


def _no_pair(label: str, bolds: Sequence[Path], settings: Settings, seen: _Findings) -> None:
    superres = settings.superres
    wanted = needs_pair(superres)
    if not wanted:
        if superres.factor is None:
            seen.refuse(
                f"sub-{label}",
                "it has no T2*-weighted pair to tell the factor of super-resolution",
                "Give the factor, for example --sr-factor 2.",
            )
        return
    looked = f"sub-{label}/[ses-*/]anat/*_T2starw.nii.gz"
    seen.refuse(
        f"sub-{label} ({bolds[0].name}{f' and {len(bolds) - 1} more' if len(bolds) > 1 else ''})",
        f"{', '.join(wanted)} needs a pair of T2*-weighted images of the participant, one at the resolution of the "
        f"BOLD and one finer, and there is none: no file matches {looked}",
        "Add the pair as anat/sub-…_acq-highres_T2starw.nii.gz and anat/sub-…_acq-lowres_T2starw.nii.gz; or the "
        "highres image alone (a k-space-truncated copy then takes the place of the lowres one); or run baselines "
        "alone, which need no pair: --sr-method bspline zerofill --sr-factor 2.",
    )


def _t1w(found: Sequence[Path], label: str, settings: Settings, seen: _Findings) -> list[Path]:
    images = _magnitudes(found, seen)
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
        what = "complex or coloured voxels" if header.complex else f"{len(header.shape)} dimensions {header.shape}"
        seen.refuse(path, f"it has {what}; one 3D image of magnitudes is due", "Store the magnitude as a 3D image.")
        return None
    return header


def _magnitudes(paths: Sequence[Path], seen: _Findings) -> list[Path]:
    """Images of magnitude; phase, real and imaginary parts are left out and that is said."""
    parts = [path for path in paths if entities_of(path).get("part", "mag") != "mag"]
    for path in parts:
        seen.tell(path, f"it is part-{entities_of(path)['part']}; only magnitudes are used.")
    return [path for path in paths if path not in parts]


def _bold_runs(paths: Sequence[Path], seen: _Findings) -> list[Path]:
    """One file a run: the magnitude; several echoes, or a phase alone, are refused."""
    groups: dict[tuple[tuple[str, str], ...], list[Path]] = {}
    for path in paths:
        key = tuple((k, v) for k, v in entities_of(path).items() if k not in ("echo", "part"))
        groups.setdefault(key, []).append(path)
    runs = []
    for files in groups.values():
        usable = [path for path in files if entities_of(path).get("part", "mag") == "mag"]
        if not usable:
            seen.refuse(
                files[0], "only phase, real or imaginary parts of this run are there", "Add the magnitude (part-mag)."
            )
            continue
        _magnitudes(files, seen)
        echoes = sorted({entities_of(path).get("echo", "") for path in usable})
        if len(echoes) > 1:
            seen.refuse(
                usable[0],
                f"the run has {len(echoes)} echoes ({', '.join(p.name for p in usable)}), which are not combined here",
                'Combine them beforehand, or choose one with --bids-filter-file and {"bold": {"echo": 2}}.',
            )
        elif len(usable) > 1:
            names = ", ".join(path.name for path in usable)
            seen.refuse(usable[0], f"several files stand for one run ({names})", "Keep one of them.")
        else:
            if echoes != [""]:
                seen.tell(usable[0], f"echo {echoes[0]} alone is used.")
            runs.append(usable[0])
    return runs


def _run_files(layout: BIDSLayout, bold: Path, tables: Sequence[Path], seen: _Findings) -> RunFiles:
    """Read header and sidecar of a run; what is unsound becomes a problem and stays None."""
    sidecar = query.metadata(layout, bold)
    header = seen.header(bold)
    tr = None
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
        events=query.inherited(bold, tables),
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


def factor_of(run: BoldRun, settings: Settings) -> Triple:
    """Factor of super-resolution of a run: that of its pair, or the one given where there is no pair."""
    if run.pair is not None:
        return run.pair.factor
    if settings.superres.factor is None:
        raise ValueError(f"{run.bold}: neither a pair nor --sr-factor tells the factor")
    return settings.superres.factor, settings.superres.factor, 1.0


def _type_order(layout: BIDSLayout, bids_dir: Path, task: str, seen: _Findings) -> tuple[str, ...]:
    """Order of trial types that every participant of the data set shares.

    That of Levels in the events sidecar; else of first appearance in the first events table of the data set, whichever
    participants were chosen, so that ``thumbMinusLittle`` has one sign for all.
    """
    for run in seen.runs:
        if run.entities.get("task", "") == task and run.events is not None:
            described = query.metadata(layout, run.events).get("trial_type")
            levels = described.get("Levels") if isinstance(described, dict) else None
            if isinstance(levels, dict):
                return tuple(str(level) for level in levels)
    table = query.first_table(bids_dir, task)
    return tuple(dict.fromkeys(query.column(table, "trial_type"))) if table else ()
