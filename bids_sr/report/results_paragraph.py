"""Paragraph on the results of a task, for the results section of a paper.

It is made from the stored verdicts of the participants, in the page of a participant and in
CITATION.md.
"""

import math
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from bids_sr.engine.number_text import interval_ends, number
from bids_sr.evaluation.result_text import REGIONS, list_places, quote_contrast
from bids_sr.evaluation.statements import Statement
from bids_sr.evaluation.tested_detail import HALF_RESOLUTION
from bids_sr.io.word_lists import enumerate_unique, enumerate_words, format_count
from bids_sr.report.evaluation_rows import series_text
from bids_sr.report.stored_verdicts import StoredVerdict, read_verdicts

RESULTS_HEADING = "## Results"
"""Heading of the paragraphs in CITATION.md, which follow the methods text."""
_STATES: Mapping[str, Statement] = {
    "recovered": Statement.PAPER_YES,
    "not supported": Statement.PAPER_NO,
    "not testable": Statement.PAPER_NOT_TESTABLE,
    "not tested": Statement.PAPER_NOT_TESTED,
}
_Values = tuple[float, float, float]
"""Explained variance, and both ends of its 95 % interval; NaN without an interval."""


def results_markdown(root: Path) -> str:
    """Return the results of all tasks below an output directory as Markdown; "" if none."""
    paragraphs = "\n\n".join(write_paragraphs(root).values())
    return f"\n\n{RESULTS_HEADING}\n\n{paragraphs}\n" if paragraphs else ""


def write_paragraphs(root: Path, label: str = "*") -> dict[str, str]:
    """Return the paragraph of each task, from the verdicts below an output directory.

    `label` is of the participant without ``sub-``; by default, all participants.
    """
    by_task: dict[str, list[StoredVerdict]] = {}
    for verdict in read_verdicts(root, label):
        by_task.setdefault(verdict.task, []).append(verdict)
    return {
        task: " ".join([*_write_sentences(task, verdicts), *_write_changes(verdicts)])
        for task, verdicts in sorted(by_task.items())
    }


def _write_changes(verdicts: Iterable[StoredVerdict]) -> Iterable[str]:
    """Yield a sentence per contrast over runs, with the participants that changed."""
    by_name: dict[str, dict[str, Mapping[str, Any]]] = {}
    for verdict in verdicts:
        for change in verdict.facts.get("changes", ()):
            by_name.setdefault(change["name"], {})[f"sub-{verdict.participant}"] = change
    for name, changes in by_name.items():
        if len(changes) == 1:
            ((participant, change),) = changes.items()
            yield f"In {participant}, {change['text']}"
            continue
        by_region: dict[str, list[str]] = {}
        for participant, change in changes.items():
            for region in change["regions"]:
                if region["is_found"]:
                    by_region.setdefault(region["region"], []).append(participant)
        regions = [
            f"{region} in {len(found)} of {len(changes)} participants ({enumerate_words(found)})"
            for region, found in by_region.items()
        ]
        nothing = f"no region in any of {len(changes)} participants"
        yield Statement.PAPER_CHANGES.format(contrast=name, regions="; ".join(regions) or nothing)


def _is_decided(verdict: StoredVerdict) -> bool:
    """Return whether the detail of a contrast has a value, measured or tested."""
    return any(
        _has_value(contrast[region])
        for contrast in verdict.facts.get("contrasts", ())
        for region in REGIONS
    )


def _write_sentences(task: str, verdicts: Sequence[StoredVerdict]) -> Iterable[str]:
    """Yield the sentences on the runs of one task."""
    methods = enumerate_unique(name for item in verdicts if (name := item.facts.get("best")))
    n_runs = sum(len(item.runs) for item in verdicts)
    subject = f"In the run of the task {task}"
    if n_runs > 1:
        n_participants = len({item.participant for item in verdicts})
        participants = format_count(n_participants, "participant")
        subject = f"In {n_runs} runs of the task {task} ({participants})"
    if not methods:
        yield Statement.PAPER_NOT_APPLIED.format(subject=subject)
        return
    sizes = enumerate_unique(
        f"{item.facts['acquired']} to {item.facts['final']}" for item in verdicts
    )
    yield Statement.PAPER_METHOD.format(subject=subject, sizes=f" from {sizes}", series=methods)
    measured = [item for item in verdicts if item.facts.get("reference")]
    others = [item for item in verdicts if not item.facts.get("reference")]
    for group in (measured, [item for item in others if _is_decided(item)]):
        if group:
            yield from _write_explained(group)
    untested = [item for item in others if item.facts.get("best") and not _is_decided(item)]
    if untested:
        yield Statement.PAPER_UNTESTED.format(
            series=enumerate_unique(item.facts["best"] for item in untested),
            n="" if len(untested) == len(verdicts) else f" in {len(untested)} of {len(verdicts)}",
        )
    yield from _write_contrasts([item for item in verdicts if _is_decided(item)])
    skipped = dict.fromkeys(
        series
        for item in verdicts
        if item.facts.get("best")
        for series in item.facts.get("not_applied", ())
    )
    if skipped:
        were = "were" if len(skipped) > 1 else "was"
        yield Statement.PAPER_SKIPPED.format(series=enumerate_unique(skipped), were=were)
    unapplied = [item for item in verdicts if item.facts.get("status") == "not applied"]
    if unapplied:
        yield Statement.PAPER_UNAPPLIED.format(n=len(unapplied), total=len(verdicts))


def _write_explained(verdicts: Sequence[StoredVerdict]) -> Iterable[str]:
    """Yield sentences on the explained detail, with or without a reference."""
    facts = verdicts[0].facts
    is_measured = bool(facts.get("reference"))
    yield (
        Statement.PAPER_REFERENCE.format(reference=facts["reference"])
        if is_measured
        else Statement.PAPER_TEST.format(
            final=facts["final"],
            reduced=facts.get("reduced", "half the resolution"),
            acquired=facts["acquired"],
            halves="runs" if facts.get("runs") else "blocks",
        )
    )
    shown = [(item, contrast) for item in verdicts if (contrast := item.shown) is not None]
    if not shown:
        yield Statement.PAPER_NONE
        return
    (name, _), *_ = Counter(_name_contrast(contrast) for _, contrast in shown).most_common(1)
    shown = [(item, contrast) for item, contrast in shown if _name_contrast(contrast) == name]
    values = {
        region: _summarize([_parse_values(contrast[region]) for _, contrast in shown])
        for region in REGIONS
    }
    brain = f" and {values['brain']} in the whole brain" if values["brain"] else ""
    yield Statement.PAPER_EXPLAINED.format(
        series=enumerate_unique(item.facts["best"] for item, _ in shown),
        value=values["active"],
        selecting="acquired" if is_measured else "downsampled",
        contrast=name,
        brain=brain,
        n="" if len(shown) == len(verdicts) else f" (in {len(shown)} of {len(verdicts)})",
    )
    if is_measured:
        yield from _count_tested(verdicts)
    baselines = [item.facts["baseline"] for item, _ in shown if item.facts.get("baseline")]
    if baselines:
        yield Statement.PAPER_BASELINE.format(
            series=enumerate_unique(series_text(str(facts["series"])) for facts in baselines),
            value=_summarize([_parse_values(facts) for facts in baselines]),
        )


def _count_tested(verdicts: Iterable[StoredVerdict]) -> Iterable[str]:
    """Yield a sentence on answers that the test decided, although a reference exists."""
    deciding = [
        decided["reference"]
        for verdict in verdicts
        for contrast in verdict.facts.get("contrasts", ())
        for region in REGIONS
        if (decided := contrast[region].get("decided"))
    ]
    if n_tested := deciding.count(HALF_RESOLUTION):
        yield Statement.PAPER_BY_TEST.format(n=n_tested, total=len(deciding))


def _has_value(region: Mapping[str, Any]) -> bool:
    """Return whether the detail of a contrast was measured or tested in a region."""
    return any("reference" in facts for facts in (region, region.get("test", {})))


def _name_contrast(contrast: Mapping[str, Any]) -> str:
    """Return the name of a contrast; verdicts of earlier versions have no names."""
    return str(contrast.get("name") or quote_contrast(contrast["map"]))


def _parse_values(facts: Mapping[str, Any]) -> _Values | None:
    """Return an explained variance and its interval; None if it is not defined."""
    cells = [facts.get(key) for key in ("explained_variance", "lower", "upper")]
    if cells[0] is None:
        return None
    return cast("_Values", tuple(math.nan if cell is None else cell for cell in cells))


def _summarize(values: Sequence[_Values | None]) -> str:
    """Return the value with its interval, or the range and median over several verdicts."""
    defined = [item for item in values if item is not None]
    if not defined:
        return ""
    if len(defined) == 1:
        value, lower, upper = defined[0]
        ends = " to ".join(interval_ends(lower, upper, ".0%"))
        return f"{number(value, '.0%')} ({f'95 % interval {ends} %' if ends else 'no interval'})"
    numbers = [value for value, _, _ in defined]
    low, median, high = min(numbers), statistics.median(numbers), max(numbers)
    return (
        f"{number(low, '.0%')} to {number(high, '.0%')} (median {number(median, '.0%')},"
        f" n = {len(defined)})"
    )


def _write_contrasts(verdicts: Sequence[StoredVerdict]) -> Iterable[str]:
    """Yield a sentence per state on the contrasts with this state, with numbers of verdicts."""
    for state, statement in _STATES.items():
        names = {}
        for region in REGIONS:
            counts = Counter(
                _name_contrast(contrast)
                for verdict in verdicts
                for contrast in verdict.facts.get("contrasts", ())
                if state
                == (contrast[region]["state"] if _has_value(contrast[region]) else "not tested")
            )
            names[region] = (
                [f"{name} ({count} of {len(verdicts)})" for name, count in counts.items()]
                if len(verdicts) > 1
                else list(counts)
            )
        if places := list_places(names):
            yield statement.format(contrasts=places)
