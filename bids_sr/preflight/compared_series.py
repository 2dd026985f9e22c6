"""Series of other programs compared with a run (``--compare``): names, files and grids."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from bids_sr.bids import BoldRun, Findings, Subject, entities_of
from bids_sr.bids.companions import companion, series_named
from bids_sr.bids.inputs import ENTITIES, RUN_KEYS
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
        return f"{name!r} holds more than letters and digits"
    if kind_of(name) != "method" or name in {each.replace("-", "") for each in offered_methods()}:
        return f"{name!r} stands for a series of the program"
    return ""


def _split(text: str) -> tuple[str, Path, str]:
    """Name, path and label of ``NAME=PATH`` or ``NAME=PATH:desc-LABEL``.

    >>> _split("tedana=out:desc-optcomDenoised")
    ('tedana', PosixPath('out'), 'optcomDenoised')
    """
    name, where = split_named(text)
    path, label = Path(where), ""
    if not path.exists() and _LABEL in where:
        folder, _, label = where.rpartition(_LABEL)
        path = Path(folder)
    return name, path.absolute(), label


def with_compared(
    subjects: Sequence[Subject], settings: Settings, found: Findings
) -> tuple[Subject, ...]:
    """Return participants with the series their runs are compared with, and report problems."""
    given = [_split(text) for text in settings.evaluation.compare]
    if not given or not _named_well(given, settings, found):
        return tuple(subjects)
    runs = [run for subject in subjects for run in subject.runs]
    if len(runs) > 1 and (files := [path for _, path, _ in given if path.is_file()]):
        fix = (
            "Choose its run (--participant-label, --task-id, --run-id), or give a folder of BIDS"
            " derivatives."
        )
        names = ", ".join(run.stem for run in runs[:4]) + (" …" if len(runs) > 4 else "")
        reason = f"{files[0].name} is one series, and {len(runs)} runs are selected ({names})"
        found.refuse_option("--compare", reason, fix)
        return tuple(subjects)
    out = []
    for name, path, _ in given:
        if path.is_dir() and not any(_candidates(path, run) for run in runs):
            there = (
                ", ".join(each.name for each in sorted(path.rglob("func/*_bold.nii*"))[:4])
                or "no series at all"
            )
            fix = (
                f"Give its file (--compare {name}=FILE), or the folder that holds the sub-…"
                " directories."
            )
            found.refuse_option(
                f"--compare {name}={path}",
                f"no series of a run that is selected is in it ({there})",
                fix,
            )
    for subject in subjects:
        own = []
        for run in subject.runs:
            with found.about(subject.label, run.stem):
                compared = _series_of(run, given, found)
                other = _another_run(run, settings, found) if compared else None
            own.append(replace(run, compared=compared, another=other))
        out.append(replace(subject, runs=tuple(own)))
    return tuple(out)


def _another_run(run: BoldRun, settings: Settings, found: Findings) -> BoldRun | None:
    """Return the nearest-numbered other acquired run of the same task, grid and trial types."""
    if run.events is None or run.echoes:
        return None
    keys, root = set(ENTITIES.values()) - {"run"}, settings.paths.bids_dir.absolute()
    fitting = [
        one
        for path in series_named(run.bold.parent, run.entities, keys, "*_bold.nii*")
        if path != run.bold
        # what does not qualify is passed over
        and (one := companion("another", path, root, run, Findings())) is not None
    ]

    def number(one: BoldRun) -> int:
        return int(label) if (label := one.entities.get("run", "0")).isdigit() else 0

    chosen = min(
        fitting, key=lambda one: (abs(number(one) - number(run)), one.bold.name), default=None
    )
    if chosen is not None:
        text = (
            f"series of other programs made of {run.bold.name} are held against it within the"
            " acquired band."
        )
        found.tell(chosen.bold, text)
    return chosen


def _named_well(
    given: Sequence[tuple[str, Path, str]], settings: Settings, found: Findings
) -> bool:
    """Whether names and paths can be used at all."""
    before, names = len(found.problems), [name for name, _, _ in given]
    for name, path, label in given:
        option = f"--compare {name}={path}"
        if why := _why_no_name(name):
            taken = f"{', '.join(BASELINES)}, {', '.join(offered_methods())}, raw, measured"
            found.refuse_option(
                option, why, f"Take another name of letters and digits, none of: {taken}."
            )
        elif names.count(name) > 1:
            found.refuse_option(
                option, f"the name {name} is given twice", "Give each series a name of its own."
            )
        if not path.exists():
            found.refuse_option(option, "there is no such file or folder", "Check the path.")
        elif label and path.is_file():
            found.refuse_option(
                option,
                f"desc-{label} chooses among the series of a folder, and this is a file",
                "Leave it.",
            )
    if ACQUIRED_BAND not in settings.superres.series:
        fix = f"Add {ACQUIRED_BAND} to --sr-method."
        found.refuse_option(
            "--compare",
            f"{ACQUIRED_BAND}, which stands for the acquired series, is not among the series",
            fix,
        )
    return len(found.problems) == before


def _series_of(
    run: BoldRun, given: Sequence[tuple[str, Path, str]], found: Findings
) -> dict[str, BoldRun]:
    """The compared series of a run that can be used, by their names."""
    out = {}
    for name, path, label in given:
        own = Findings()
        file = path if path.is_file() else _found_in(path, label, name, run, own)
        root = path if path.is_dir() else path.parent
        one = None if file is None else companion("compared", file, root, run, own)
        found.add_all(own)
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


def _found_in(folder: Path, label: str, name: str, run: BoldRun, found: Findings) -> Path | None:
    """Return a run's series in a derivatives folder; report and skip runs without one."""
    mine = _candidates(folder, run)
    if not mine:
        found.tell(folder, f"it holds no series of {run.stem}, which is not compared with {name}.")
        return None
    chosen = (
        [path for path in mine if entities_of(path).get("desc", "") == label] if label else mine
    )
    if not chosen:
        there = ", ".join(sorted({f"desc-{entities_of(path).get('desc', '')}" for path in mine}))
        found.refuse(
            folder, f"no series of {run.stem} has desc-{label} in it", f"There are: {there}."
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
        how = (
            f"--compare {name}={folder}{_LABEL}{labels[0]}"
            if len(labels) > 1
            else f"--compare {name}=FILE"
        )
        found.refuse(
            folder,
            f"several series could be meant for {run.stem}: {listed}",
            f"Choose one: {how}.",
        )
        return None
    return native[0]
