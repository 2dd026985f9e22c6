"""Runs of a participant that contain the same series, although they have different names.

If both have the same events, the data were probably sent or converted twice, and one of them is
processed. Otherwise it is unknown to which run the series belongs, and both are processed, unless
their echoes would be combined with echoes of another run.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

from bids_sr.io.notices import Notice
from bids_sr.preproc.copied_series import NoiseRecord, find_copies
from bids_sr.survey.bids.inputs import BoldRun, Subject
from bids_sr.survey.bids.related_runs import have_same_events
from bids_sr.survey.notices import attribute, problem, warning

# entities of images that were computed from the same acquisition
_VARIANT_ENTITIES = {"echo", "part", "reconstruction"}


def check_copies(subject: Subject, records: Mapping[Path, NoiseRecord]) -> Iterator[Notice]:
    """Reject runs that are copies of earlier runs or share an echo with them, or warn of them.

    `records` contain the noise of intact series by file.
    """
    runs = {
        path: index
        for index, run in enumerate(subject.runs)
        for path in ([path for path, _ in run.echoes] or [run.bold])
        if path in records
    }
    files = list(runs)
    copies: dict[tuple[int, int], list[tuple[Path, Path, float]]] = defaultdict(list)
    for first, second, correlation in find_copies([records[path] for path in files]):
        pair = files[first], files[second]
        copies[runs[pair[0]], runs[pair[1]]].append((*pair, correlation))
    rejected: set[int] = set()
    for (index, copy_index), series in sorted(copies.items()):
        run, copy = subject.runs[index], subject.runs[copy_index]
        if _identify(run) == _identify(copy) or not rejected.isdisjoint({index, copy_index}):
            continue
        if len(series) < len(run.echoes):
            rejected |= {index, copy_index}
            for path, copied_path, correlation in series:
                yield from attribute([_reject_echo(path, copied_path, correlation)], *run.owner)
                yield from attribute([_reject_echo(copied_path, path, correlation)], *copy.owner)
            continue
        path, copied_path, correlation = series[0]
        reason = _describe(path, correlation)
        if run.entities["task"] == copy.entities["task"] and have_same_events(run, copy):
            rejected.add(copy_index)
            notice = problem(
                copied_path,
                f"{reason}. The events are the same, so {path.name} is processed, and this"
                " run is left out",
                "Replace the file by the series of this run, or delete it.",
            )
        else:
            notice = warning(
                copied_path,
                f"{reason}. It is unknown to which of the two runs the series belongs, so"
                " both are processed, and the maps of one of them are wrong. Find out which"
                " run the series belongs to, and delete or replace the other file.",
            )
        yield from attribute([notice], *copy.owner)


def _reject_echo(path: Path, source: Path, correlation: float) -> Notice:
    """Reject the run of an echo that may be of another run, with which it would be combined."""
    return problem(
        path,
        f"{_describe(source, correlation)}. It is unknown to which of the two runs the echo"
        " belongs",
        "Find out which run the echo belongs to, and delete or replace the other file.",
    )


def _describe(path: Path, correlation: float) -> str:
    """Return why a series is a copy of another file."""
    return (
        f"the series is a copy of {path.name}: the noise has a correlation of {correlation:.2f},"
        " but the noise of two runs is not correlated"
    )


def _identify(run: BoldRun) -> dict[str, str]:
    """Return the entities of an acquisition."""
    return {key: label for key, label in run.entities.items() if key not in _VARIANT_ENTITIES}
