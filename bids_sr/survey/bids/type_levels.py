"""Order of trial types according to ``Levels`` in the sidecars of events tables.

The order determines names and signs of default contrasts, such as ``thumbMinusLittle``. Only
sidecars in the root directory of the data set apply to all participants and sessions, so that only
their order is used. Types that they do not list follow in alphabetical order. ``Levels`` of a
single participant or session are read to report an order that is not used.
"""

from collections.abc import Mapping
from pathlib import Path

from bids_sr.glm.contrasts import list_levels
from bids_sr.survey.bids.entities import parse_entities
from bids_sr.survey.bids.findings import InputError, about, add_notices, warn
from bids_sr.survey.bids.inputs import Levels
from bids_sr.survey.bids.layout import Index


def read_type_order(index: Index, task: str) -> tuple[str, ...]:
    """Return the trial types of a task in the order of ``Levels`` at the root of the data set.

    The sidecar of the task comes before the sidecar of all tasks. Sidecars of certain runs, by
    name, add the types that these two do not list. A sidecar that cannot be read is a problem of
    the whole call.
    """
    names: dict[str, None] = {}
    for sidecar in sorted(index.list_shared_sidecars(), key=_get_precedence):
        if parse_entities(sidecar).get("task", task) == task:
            try:
                names |= dict.fromkeys(list_levels(index.read_sidecar(sidecar)))
            except InputError as error:
                add_notices(error.problems)
    return tuple(names)


def _get_precedence(sidecar: Path) -> tuple[int, str]:
    """Return the sort key of a shared sidecar: of the task, of all tasks, then others by name."""
    entities = parse_entities(sidecar).keys()
    return (0 if entities == {"task"} else 1 if not entities else 2), sidecar.name


def read_unshared_levels(
    index: Index, files_by_run: Mapping[str, tuple[Path, Path | None]]
) -> dict[Path, Levels]:
    """Return the ``Levels`` of a single participant or session that apply to each events table.

    The nearest sidecar takes precedence. Tables without such ``Levels`` are not included. If a
    sidecar cannot be read, it is skipped with a warning, because the order of trial types does not
    depend on it.

    `files_by_run` maps the names of runs to BOLD file and events table.
    """
    shared_sidecars = index.list_shared_sidecars()
    levels_by_table = {}
    for name, (bold, table) in files_by_run.items():
        if table is None:
            continue
        for sidecar in reversed(index.find_sidecars(table)):
            if sidecar in shared_sidecars:
                continue
            types: tuple[str, ...] = ()
            try:
                types = list_levels(index.read_sidecar(sidecar))
            except InputError as error:
                with about(parse_entities(bold)["subject"], name):
                    for problem in error.problems:
                        text = f"the sidecar is not used: {problem.why}. {problem.remedy}"
                        warn(problem.what, text)
            if types:
                levels_by_table[table] = Levels(sidecar=sidecar, types=types)
                break
    return levels_by_table
