"""Rules on all runs of a call together: events tables, tedana, and series of runs at rest."""

import re
from collections.abc import Iterator, Sequence

from bids_sr.config import Settings
from bids_sr.config.tedana import INSTALL_TEDANA, is_tedana_installed
from bids_sr.io.notices import Notice
from bids_sr.survey.bids.entities import parse_entities
from bids_sr.survey.bids.inputs import BoldRun, Survey
from bids_sr.survey.bids.similar_names import describe_similar
from bids_sr.survey.notices import attribute, option_problem, problem, warning


def missing_events(data_set: Survey, settings: Settings) -> Iterator[Notice]:
    """Warn of task runs without events, which are mapped as resting-state runs.

    BIDS identifies resting-state runs by the task label.
    """
    if "events" in settings.preprocessing.ignore:
        return
    for name, (bold, table) in data_set.files_by_run.items():
        if table is not None:
            continue
        similar_text = describe_similar(bold, "events", ".tsv", "event")
        if similar_text or not is_rest(parse_entities(bold).get("task", "rest")):
            text = (
                f"{name}_events.tsv was not found, so the run is analyzed as resting state"
                " (seed-based connectivity). To map task activation, add the events table and"
                " run the program again. If the run is a resting-state run, use --ignore events."
            )
            fault = warning(bold, " ".join(filter(None, (similar_text, text))))
            yield from attribute([fault], parse_entities(bold)["subject"], name, code="events")


def is_rest(task: str) -> bool:
    """Return whether a task label denotes rest by one of its words (in camel case).

    A word that only contains "rest" does not count.

    >>> [is_rest(label) for label in ("rest", "restingstate", "preRest", "forest", "restaurant")]
    [True, True, True, False, False]
    """
    return any(
        re.fullmatch(r"rest(ing)?(state)?|resteyes(open|closed)?|rs|rsfmri", word.lower())
        for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+", task)
    )


def missing_tedana(runs: Sequence[BoldRun], _settings: Settings) -> Iterator[Notice]:
    """Stop the call if echoes are combined but tedana is not installed.

    Only the first multi-echo run is named, and the problem is not attributed to it: otherwise, the
    run would be skipped.
    """
    first_run = next((run for run in runs if run.echoes), None)
    if first_run is not None and not is_tedana_installed():
        yield problem(
            first_run.bold,
            f"the {len(first_run.echoes)} echoes cannot be combined because tedana is not"
            " installed",
            f"{INSTALL_TEDANA}, or select a single echo with --echo-idx N.",
        )


def unstored_series(runs: Sequence[BoldRun], settings: Settings) -> Iterator[Notice]:
    """Refuse to omit the series of runs at rest."""
    if not settings.run.store_series and any(run.events is None for run in runs):
        yield option_problem(
            "--set run.store_series=false",
            "runs at rest are analyzed further with their series",
            "Omit the option, or select task runs with --task-id.",
        )


RUN_SET_RULES = (missing_tedana, unstored_series)
"""Rules on all runs together, from their headers and sidecars."""
