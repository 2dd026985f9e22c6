"""Order of trial types according to ``Levels`` in the sidecars of events tables.

The order determines names and signs of default contrasts, such as ``thumbMinusLittle``. Only
sidecars in the root directory of the data set apply to all participants and sessions, so that only
their order is used. Types that they do not list follow in alphabetical order.
"""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from bids_sr.glm.contrasts import list_levels
from bids_sr.io.notices import Notice
from bids_sr.survey.bids.entities import parse_entities
from bids_sr.survey.bids.layout import Index
from bids_sr.survey.notices import InputError, warning


def read_type_order(index: Index, task: str) -> tuple[str, ...]:
    """Return the trial types of a task in the order of ``Levels`` at the root of the data set.

    The sidecar of the task comes before the sidecar of all tasks. Sidecars of certain runs, by
    name, add the types that these two do not list. Unreadable sidecars are skipped.
    """
    names: dict[str, None] = {}
    for sidecar in sorted(_list_sidecars_of_task(index, task), key=_get_precedence):
        with suppress(InputError):
            names |= dict.fromkeys(list_levels(index.read_sidecar(sidecar)))
    return tuple(names)


def refuse_unreadable_sidecars(index: Index, task: str) -> Iterator[Notice]:
    """Yield the problem of each shared sidecar of a task that cannot be read."""
    for sidecar in _list_sidecars_of_task(index, task):
        try:
            index.read_sidecar(sidecar)
        except InputError as error:
            yield from error.problems


def _list_sidecars_of_task(index: Index, task: str) -> list[Path]:
    """Return the sidecars at the root of the data set that apply to the events of a task."""
    return [
        sidecar
        for sidecar in index.list_shared_sidecars()
        if parse_entities(sidecar).get("task", task) == task
    ]


def _get_precedence(sidecar: Path) -> tuple[int, str]:
    """Return the sort key of a shared sidecar: of the task, of all tasks, then others by name."""
    entities = parse_entities(sidecar).keys()
    return (0 if entities == {"task"} else 1 if not entities else 2), sidecar.name


def warn_of_unreadable_sidecars(index: Index, table: Path) -> Iterator[Notice]:
    """Warn of unreadable sidecars of an events table below the root of the data set.

    They are no problem, because the order of trial types does not depend on them.
    """
    shared_sidecars = index.list_shared_sidecars()
    for sidecar in index.find_sidecars(table):
        if sidecar in shared_sidecars:
            continue
        try:
            index.read_sidecar(sidecar)
        except InputError as error:
            for problem in error.problems:
                text = f"the sidecar is not used: {problem.why}. {problem.remedy}"
                yield warning(problem.what, text)
