"""Files of each run: echoes, and magnitude images among parts."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from bids_sr.io.notices import Notice
from bids_sr.survey.bids.entities import (
    EntityKey,
    is_magnitude,
    parse_entities,
    parse_owner,
    without_entities,
)
from bids_sr.survey.notices import Choice, attribute, input_error, note

_WITHOUT_ECHO = '{"bold": {"echo": null}}'  # filter that selects series without echo


def group_by_run(paths: Sequence[Path]) -> list[list[Path]]:
    """Return the series of each run, with all echoes and parts, in the order of the paths."""
    groups: dict[EntityKey, list[Path]] = {}
    for path in paths:
        key = without_entities(parse_entities(path), ["echo", "part"])
        groups.setdefault(key, []).append(path)
    return list(groups.values())


def find_combined(paths: Sequence[Path]) -> dict[Path, list[Path]]:
    """Return the echoes of each series that a scanner combined from echoes of the same run.

    Such a series has the name of the run without ``echo``. It is left out, because the results of
    the echoes have the same names. `paths` are series of one or several participants, with all
    echoes and parts.
    """
    combined: dict[Path, list[Path]] = {}
    for files in group_by_run(paths):
        magnitudes = [path for path in files if is_magnitude(path)]
        echoes = [path for path in magnitudes if "echo" in parse_entities(path)]
        if echoes:
            combined |= {path: echoes for path in magnitudes if path not in echoes}
    return combined


def note_combined(combined: Mapping[Path, Sequence[Path]]) -> Iterator[Notice]:
    """Note the series that `find_combined` returns, which are left out."""
    for path, echoes in combined.items():
        text = (
            "the series is not used because its name contains no echo-, but echoes of the"
            f" same run exist ({len(echoes)} files, such as {echoes[0].name}). It was"
            " probably combined by the scanner. To process this series instead of the"
            f" echoes, use --bids-filter-file with {_WITHOUT_ECHO}."
        )
        yield from attribute([note(path, text)], *parse_owner(path))


def choose_files(files: Sequence[Path], echo: int | None) -> Choice[tuple[Path, ...]]:
    """Choose the files of a run among its series: the magnitudes, in the order of echoes.

    Raises `InputError` for a run with only phase, real or imaginary images, or without the
    selected echo. `echo` is the number of the echo to use; None to use all echoes.
    """
    magnitudes = select_magnitudes(files)
    if not magnitudes:
        reason = "only phase, real or imaginary images were found for this run"
        raise input_error(files[0], reason, "Add the magnitude image (part-mag).")
    magnitudes.sort(key=lambda path: (_parse_echo_number(path), path.name))
    echoes = {path: _parse_echo_number(path) for path in magnitudes}
    file_names = ", ".join(path.name for path in magnitudes)
    notices = [*note_parts(files)]
    if echo is not None and [*echoes.values()] == [0]:
        text = f"--echo-idx {echo} has no effect because the run has a single echo."
        notices.append(note(files[0], text))
    elif echo is not None:
        echoes = {path: number for path, number in echoes.items() if number == echo}
        if not echoes:
            raise input_error(
                files[0],
                f"echo {echo} was not found among the files of the run ({file_names})",
                "Select another echo with --echo-idx.",
            )
    chosen = tuple(echoes)
    if len(set(echoes.values())) < len(echoes):
        raise input_error(
            chosen[0],
            f"several files have the same run and echo entities ({file_names})",
            "Keep only one of these files.",
        )
    if echo is None and len(chosen) == 1 and echoes[chosen[0]] != 0:
        text = f"only echo {echoes[chosen[0]]} was found and is used."
        notices.append(note(chosen[0], text))
    return Choice(value=chosen, notices=tuple(notices))


def select_magnitudes(paths: Sequence[Path]) -> list[Path]:
    """Return the magnitude images, without phase, real and imaginary parts."""
    return [path for path in paths if is_magnitude(path)]


def note_parts(paths: Sequence[Path]) -> Iterator[Notice]:
    """Note that phase, real and imaginary parts among images are not used."""
    for path in paths:
        if not is_magnitude(path):
            yield note(
                path,
                f"the part-{parse_entities(path)['part']} image is ignored because only magnitude"
                " images are used.",
            )


def _parse_echo_number(path: Path) -> int:
    """Return the echo number of a series, 0 if it has none."""
    label = parse_entities(path).get("echo", "")
    return int(label) if label.isdigit() else 0
