"""Files of each run: echoes, and magnitude images among parts."""

from collections.abc import Sequence
from pathlib import Path

from bids_sr.survey.bids.entities import (
    EntityKey,
    is_magnitude,
    parse_entities,
    parse_owner,
    without_entities,
)
from bids_sr.survey.bids.findings import about, add_problem, note

_WITHOUT_ECHO = '{"bold": {"echo": null}}'  # filter that selects series without echo


def group_files_by_run(paths: Sequence[Path], echo: int | None) -> list[tuple[Path, ...]]:
    """Return the files of each run: its series, all its echoes, or the selected echo.

    A run with only phase, real or imaginary images is a problem. `paths` are series of one or
    several participants, with all echoes and parts. `echo` is the number of the echo to use; None
    to use all echoes.
    """
    runs = []
    for files in _group_by_run(paths):
        with about(*parse_owner(files[0])):
            runs.append(_select_files_of_run(files, echo))
    return [run for run in runs if run]


def leave_out_combined(paths: Sequence[Path], echo: int | None) -> list[Path]:
    """Return the series without those that a scanner combined from echoes of the same run.

    Such a series has the name of the run without ``echo``. It is left out with a note, because the
    results of the echoes have the same names. `paths` are series of one or several participants,
    with all echoes and parts. If `echo` is not None, the number of the echo to use, there is no
    note.
    """
    left_out = set()
    for files in _group_by_run(paths):
        magnitudes = [path for path in files if is_magnitude(path)]
        echoes = [path for path in magnitudes if "echo" in parse_entities(path)]
        if not echoes:
            continue
        for path in (magnitude for magnitude in magnitudes if magnitude not in echoes):
            left_out.add(path)
            if echo is None:
                text = (
                    "the series is not used because its name contains no echo-, but echoes of the"
                    f" same run exist ({len(echoes)} files, such as {echoes[0].name}). It was"
                    " probably combined by the scanner. To process this series instead of the"
                    f" echoes, use --bids-filter-file with {_WITHOUT_ECHO}."
                )
                with about(*parse_owner(path)):
                    note(path, text)
    return [path for path in paths if path not in left_out]


def _group_by_run(paths: Sequence[Path]) -> list[list[Path]]:
    """Return the series of each run, with all echoes and parts, in the order of the paths."""
    groups: dict[EntityKey, list[Path]] = {}
    for path in paths:
        key = without_entities(parse_entities(path), ["echo", "part"])
        groups.setdefault(key, []).append(path)
    return list(groups.values())


def _select_files_of_run(files: Sequence[Path], echo: int | None) -> tuple[Path, ...]:
    """Return the files of a run in the order of echoes; empty with a problem."""
    if not any(map(is_magnitude, files)):
        reason = "only phase, real or imaginary images were found for this run"
        add_problem(files[0], reason, "Add the magnitude image (part-mag).")
        return ()
    usable_files = sorted(
        select_magnitudes(files), key=lambda path: (_parse_echo_number(path), path.name)
    )
    file_names = ", ".join(path.name for path in usable_files)
    echoes = [_parse_echo_number(path) for path in usable_files]
    if echo is not None and echoes == [0]:
        note(files[0], f"--echo-idx {echo} has no effect because the run has a single echo.")
    elif echo is not None:
        usable_files = [path for path in usable_files if _parse_echo_number(path) == echo]
        if not usable_files:
            add_problem(
                files[0],
                f"echo {echo} was not found among the files of the run ({file_names})",
                "Select another echo with --echo-idx.",
            )
            return ()
        echoes = [echo] * len(usable_files)
    if len(set(echoes)) < len(echoes):
        add_problem(
            usable_files[0],
            f"several files have the same run and echo entities ({file_names})",
            "Keep only one of these files.",
        )
        return ()
    if echo is None and len(usable_files) == 1 and echoes != [0]:
        note(usable_files[0], f"only echo {echoes[0]} was found and is used.")
    return tuple(usable_files)


def select_magnitudes(paths: Sequence[Path]) -> list[Path]:
    """Return the magnitude images; phase, real and imaginary parts are dropped with a note."""
    for path in paths:
        if not is_magnitude(path):
            note(
                path,
                f"the part-{parse_entities(path)['part']} image is ignored because only magnitude"
                " images are used.",
            )
    return [path for path in paths if is_magnitude(path)]


def _parse_echo_number(path: Path) -> int:
    """Return the echo number of a series, 0 if it has none."""
    label = parse_entities(path).get("echo", "")
    return int(label) if label.isdigit() else 0
