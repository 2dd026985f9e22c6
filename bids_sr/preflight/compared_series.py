"""Series of other programs compared with a run (``--compare``): names, files and grids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from bids_sr.bids import BoldRun, Findings, Subject, entities_of
from bids_sr.bids.companions import companion, series_named
from bids_sr.bids.entities import ENTITIES, RUN_KEYS
from bids_sr.config import Settings
from bids_sr.config.values import split_named
from bids_sr.series import ACQUIRED_BAND, BASELINES, kind_of
from bids_sr.sr.method import offered_methods

_LABEL = ":desc-"


def _why_no_name(name: str) -> str:
    """Why a name cannot be that of a compared series; "" where it can.

    >>> why_no_name("NORDIC")
    ''
    """
    if not (name.isascii() and name.isalnum()):
        return f"the name {name!r} contains characters other than letters and digits"
    if kind_of(name) != "method" or name in {each.replace("-", "") for each in offered_methods()}:
        return f"the name {name!r} is reserved for a series computed by bids-sr"
    return ""


def _split(text: str) -> tuple[str, Path, str]:
    """Name, path and label of ``NAME=PATH`` or ``NAME=PATH:desc-LABEL``.

    >>> _split("tedana=out:desc-optcomDenoised")
    ('tedana', PosixPath('out'), 'optcomDenoised')
    """
    name, where = split_named(text)
    path = Path(where)
    label = ""
    if not path.exists() and _LABEL in where:
        folder, _, label = where.rpartition(_LABEL)
        path = Path(folder)
    return name, path.absolute(), label


def with_compared(
    subjects: Sequence[Subject], settings: Settings, findings: Findings
) -> tuple[Subject, ...]:
    """Return participants with the series their runs are compared with, and report problems."""
    named_files = [_split(text) for text in settings.evaluation.compare]
    if not named_files or not _named_well(named_files, settings, findings):
        return tuple(subjects)
    runs = [run for subject in subjects for run in subject.runs]
    if len(runs) > 1 and (files := [path for _, path, _ in named_files if path.is_file()]):
        fix = (
            "Select the corresponding run (--participant-label, --task-id, --run-id), or specify"
            " a BIDS derivatives directory."
        )
        names = ", ".join(run.stem for run in runs[:4]) + (" …" if len(runs) > 4 else "")
        reason = f"{files[0].name} is a single series, but {len(runs)} runs are selected ({names})"
        findings.refuse_option("--compare", reason, fix)
        return tuple(subjects)
    out = []
    for name, path, _ in named_files:
        if path.is_dir() and not any(_candidates(path, run) for run in runs):
            there = (
                ", ".join(each.name for each in sorted(path.rglob("func/*_bold.nii*"))[:4])
                or "none"
            )
            fix = (
                f"Specify the file with --compare {name}=FILE, or the directory that contains the"
                " sub-… directories."
            )
            findings.refuse_option(
                f"--compare {name}={path}",
                (
                    "the directory does not contain a series for any of the selected runs"
                    f" (series found: {there})"
                ),
                fix,
            )
    for subject in subjects:
        found_runs = []
        for run in subject.runs:
            with findings.about(subject.label, run.stem):
                compared = _series_of(run, named_files, findings)
                other = _another_run(run, settings, findings) if compared else None
            found_runs.append(replace(run, compared=compared, another=other))
        out.append(replace(subject, runs=tuple(found_runs)))
    return tuple(out)


def _another_run(run: BoldRun, settings: Settings, findings: Findings) -> BoldRun | None:
    """Return the nearest-numbered other acquired run of the same task, grid and trial types."""
    if run.events is None or run.echoes:
        return None
    keys = set(ENTITIES.values()) - {"run"}
    root = settings.paths.bids_dir.absolute()
    fitting = [
        one
        for path in series_named(run.bold.parent, run.entities, keys, "*_bold.nii*")
        if path != run.bold
        # what does not qualify is passed over
        and (one := companion("another", path, root, run, Findings())) is not None
    ]

    def number(run: BoldRun) -> int:
        return int(label) if (label := run.entities.get("run", "0")).isdigit() else 0

    chosen = min(
        fitting, key=lambda one: (abs(number(one) - number(run)), one.bold.name), default=None
    )
    if chosen is not None:
        text = (
            f"series that other programs computed from {run.bold.name} are compared with this run"
            " below the acquired Nyquist frequency."
        )
        findings.tell(chosen.bold, text)
    return chosen


def _named_well(
    compared: Sequence[tuple[str, Path, str]], settings: Settings, findings: Findings
) -> bool:
    """Whether names and paths can be used at all."""
    before = len(findings.problems)
    names = [name for name, _, _ in compared]
    for name, path, label in compared:
        option = f"--compare {name}={path}"
        if why := _why_no_name(name):
            taken = f"{', '.join(BASELINES)}, {', '.join(offered_methods())}, raw, measured"
            findings.refuse_option(
                option,
                why,
                (
                    "Choose another name that consists of letters and digits. These names are"
                    f" reserved: {taken}."
                ),
            )
        elif names.count(name) > 1:
            findings.refuse_option(
                option,
                f"the name {name} is used for several series",
                "Use a different name for each series.",
            )
        if not path.exists():
            findings.refuse_option(
                option, "the file or directory was not found", "Check the path."
            )
        elif label and path.is_file():
            findings.refuse_option(
                option,
                f"desc-{label} selects one series in a directory, but the path is a file",
                f"Remove :desc-{label} from the option.",
            )
    if ACQUIRED_BAND not in settings.superres.series:
        fix = f"Add {ACQUIRED_BAND} to --sr-method."
        findings.refuse_option(
            "--compare",
            (
                f"--compare requires {ACQUIRED_BAND}, which represents the acquired series in the"
                " comparison"
            ),
            fix,
        )
    return len(findings.problems) == before


def _series_of(
    run: BoldRun, compared: Sequence[tuple[str, Path, str]], findings: Findings
) -> dict[str, BoldRun]:
    """The compared series of a run that can be used, by their names."""
    out = {}
    for name, path, label in compared:
        misfits = Findings()
        file = path if path.is_file() else _found_in(path, label, name, run, misfits)
        root = path if path.is_dir() else path.parent
        one = None if file is None else companion("compared", file, root, run, misfits)
        findings.add_all(misfits)
        if one is not None:
            out[name] = one
    return out


def _candidates(folder: Path, run: BoldRun) -> list[Path]:
    """Series of a run in a folder of derivatives, whatever was done to them."""
    keys = [
        key
        for key in RUN_KEYS
        if key in ("subject", "session", "task", "run") or key in run.entities
    ]
    return series_named(folder / f"sub-{run.entities['subject']}", run.entities, keys)


def _found_in(
    folder: Path, label: str, name: str, run: BoldRun, findings: Findings
) -> Path | None:
    """Return a run's series in a derivatives folder; report and skip runs without one."""
    mine = _candidates(folder, run)
    if not mine:
        findings.tell(
            folder,
            f"the directory does not contain a series for {run.stem}, so this run is not compared"
            f" with {name}.",
        )
        return None
    chosen = (
        [path for path in mine if entities_of(path).get("desc", "") == label] if label else mine
    )
    if not chosen:
        there = ", ".join(sorted({f"desc-{entities_of(path).get('desc', '')}" for path in mine}))
        findings.refuse(
            folder,
            f"the directory does not contain a desc-{label} series for {run.stem}",
            f"Available: {there}.",
        )
        return None
    # in a template's space nothing lies on the grid of the run
    native = [
        path
        for path in chosen
        if not entities_of(path).get("space", "").startswith(("MNI", "fs", "T1w"))
    ]
    native = native or chosen
    if len(native) > 1:
        listed = ", ".join(path.name for path in native)
        labels = sorted({entities_of(path).get("desc", "") for path in native} - {""})
        fix = (
            f"--compare {name}={folder}{_LABEL}{labels[0]}"
            if len(labels) > 1
            else f"--compare {name}=FILE"
        )
        findings.refuse(
            folder,
            f"several series in this directory match {run.stem}: {listed}",
            f"Select one of these series with {fix}.",
        )
        return None
    return native[0]
