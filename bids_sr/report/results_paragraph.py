"""Paragraph on the results of a task, for the results section of a paper.

It is made from the stored verdicts of the runs, in the page of a participant and in CITATION.md.
"""

import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from bids_sr.engine.metric_rows import VerdictFacts
from bids_sr.engine.number_text import interval, interval_ends, number, p_value
from bids_sr.evaluation.result_text import REGIONS, list_places, quote_contrast
from bids_sr.evaluation.statements import Statement
from bids_sr.io.atomic_files import read_json
from bids_sr.io.frozen import frozen
from bids_sr.io.tables import read_frame
from bids_sr.io.word_lists import add_counts, enumerate_unique, format_count
from bids_sr.report.evaluation_rows import series_text
from bids_sr.report.run_summaries import VERDICT_SUFFIX

if TYPE_CHECKING:
    import pandas as pd

RESULTS_HEADING = "## Results"
"""Heading of the paragraphs in CITATION.md, which follow the methods text."""
_STATES: Mapping[str, Statement] = {
    "recovered": Statement.PAPER_YES,
    "not supported": Statement.PAPER_NO,
    "not testable": Statement.PAPER_NOT_TESTABLE,
    "not tested": Statement.PAPER_NOT_TESTED,
}
_Values = tuple[float, float, float]
"""Explained variance, and both ends of its 95 % interval."""


@frozen
class _RunVerdict:
    """Verdict of a run, with participant (label) and task."""

    participant: str
    task: str
    facts: VerdictFacts

    @property
    def shown(self) -> Mapping[str, Any] | None:
        """Result for the contrast with most acquired activation; None if there is none."""
        contrasts = self.facts.get("contrasts", ())
        return next((c for c in contrasts if c["contrast"] == self.facts.get("shown")), None)

    @property
    def is_decided(self) -> bool:
        """Whether the detail of a contrast has a value, measured or tested."""
        return any(
            _has_value(contrast[region])
            for contrast in self.facts.get("contrasts", ())
            for region in REGIONS
        )


def results_markdown(root: Path) -> str:
    """Return the results of all tasks below an output directory as Markdown; "" if none."""
    paragraphs = "\n\n".join(write_paragraphs(root).values())
    return f"\n\n{RESULTS_HEADING}\n\n{paragraphs}\n" if paragraphs else ""


def write_paragraphs(root: Path, label: str = "*") -> dict[str, str]:
    """Return the paragraph of each task, from the verdicts below an output directory.

    `label` is of the participant without ``sub-``; by default, all participants.
    """
    by_task: dict[str, list[_RunVerdict]] = {}
    for file, entities in _find_files(root, label, VERDICT_SUFFIX):
        verdict = _RunVerdict(
            participant=entities["sub"],
            task=entities.get("task", ""),
            facts=cast("VerdictFacts", read_json(file)),
        )
        by_task.setdefault(verdict.task, []).append(verdict)
    differences: dict[str, list[pd.DataFrame]] = {}
    for file, entities in _find_files(root, label, "_desc-regions_metrics.tsv"):
        differences.setdefault(entities.get("task", ""), []).append(read_frame(file))
    return {
        task: " ".join(
            [*_write_sentences(task, runs), *_write_differences(differences.get(task, []))]
        )
        for task, runs in sorted(by_task.items())
    }


def _find_files(root: Path, label: str, suffix: str) -> Iterable[tuple[Path, dict[str, str]]]:
    """Yield the files of participants with a suffix, and their entities."""
    for folder in ("func", "ses-*/func"):
        for file in sorted(root.glob(f"sub-{label}/{folder}/*{suffix}")):
            parts = file.name.split("_")[:-1]
            yield file, dict(part.partition("-")[::2] for part in parts)


def _write_differences(tables: Iterable["pd.DataFrame"]) -> Iterable[str]:
    """Yield a sentence per difference between runs in a region, from tables of regions.

    The region is the first region of interest, or else the atlas label with the smallest q if
    there is one map of the difference.
    """
    shown: dict[tuple[str, str], list[Any]] = {}
    for table in tables:
        if "smallest_change" not in table:
            continue
        narrow = table[table["fwhm_mm"] == table["fwhm_mm"].min()]
        ranked = narrow.sort_values("q", na_position="first", kind="stable")
        for row in ranked.drop_duplicates("contrast").itertuples():
            region = "" if row.origin == "atlas" else row.region
            shown.setdefault((row.contrast, region), []).append(row)
    for (contrast, region), rows in shown.items():
        row = rows[0]
        if not region and len(rows) > 1:
            continue
        value = f"{number(row.effect)} % (95 % interval {interval(row.lower, row.upper)})"
        if len(rows) > 1:
            effects = [row.effect for row in rows]
            value = (
                f"{number(min(effects))} to {number(max(effects))} % (median"
                f" {number(statistics.median(effects))}, {len(rows)} maps)"
            )
        yield Statement.PAPER_DIFFERENCE.format(
            contrast=quote_contrast(contrast),
            region=region or f"{row.region} (atlas label with the smallest q, {p_value(row.q)})",
            value=value,
            change=number(statistics.median(row.smallest_change for row in rows)),
            detail=enumerate_unique(row.detail for row in rows),
        )


def _write_sentences(task: str, runs: Sequence[_RunVerdict]) -> Iterable[str]:
    """Yield the sentences on the runs of one task."""
    methods = enumerate_unique(name for run in runs if (name := run.facts.get("best")))
    n_participants = len({run.participant for run in runs})
    subject = f"In the run of the task {task}"
    if len(runs) > 1:
        participants = format_count(n_participants, "participant")
        subject = f"In {len(runs)} runs of the task {task} ({participants})"
    sizes = enumerate_unique(
        f"{run.facts['acquired']} to {run.facts['final']}" for run in runs if "final" in run.facts
    )
    if not methods:
        yield Statement.PAPER_NOT_APPLIED.format(subject=subject)
        return
    yield Statement.PAPER_METHOD.format(
        subject=subject, sizes=f" from {sizes}" if sizes else "", series=methods
    )
    measured = [run for run in runs if run.facts.get("reference")]
    others = [run for run in runs if not run.facts.get("reference")]
    for group in (measured, [run for run in others if run.is_decided]):
        if group:
            yield from _write_explained(group)
    untested = [run for run in others if run.facts.get("best") and not run.is_decided]
    if untested:
        yield Statement.PAPER_UNTESTED.format(
            series=enumerate_unique(run.facts["best"] for run in untested),
            n="" if len(untested) == len(runs) else f" in {len(untested)} of {len(runs)} runs",
        )
    yield from _write_contrasts([run for run in runs if run.is_decided])
    unapplied = [run for run in runs if run.facts.get("status") == "not applied"]
    if unapplied:
        yield Statement.PAPER_UNAPPLIED.format(n=len(unapplied), total=len(runs))


def _write_explained(runs: Sequence[_RunVerdict]) -> Iterable[str]:
    """Yield sentences on the explained detail of runs with, or of runs without a reference."""
    facts = runs[0].facts
    is_measured = bool(facts.get("reference"))
    yield (
        Statement.PAPER_REFERENCE.format(reference=facts["reference"])
        if is_measured
        else Statement.PAPER_TEST.format(
            final=facts.get("final", "the final resolution"),
            reduced=facts.get("reduced", "half the resolution"),
            acquired=facts.get("acquired", "the acquired resolution"),
        )
    )
    shown = [(run, contrast) for run in runs if (contrast := run.shown) is not None]
    if not shown:
        yield Statement.PAPER_NONE
        return
    values = {
        region: _summarize([_select_values(contrast, region) for _, contrast in shown])
        for region in ("active", "brain")
    }
    brain = f" and {values['brain']} in the whole brain" if values["brain"] else ""
    yield Statement.PAPER_EXPLAINED.format(
        series=enumerate_unique(run.facts["best"] for run, _ in shown),
        value=values["active"],
        selecting="acquired" if is_measured else "downsampled",
        contrast=enumerate_unique(_name_contrast(contrast) for _, contrast in shown),
        brain=brain,
        n="" if len(shown) == len(runs) else f" (in {len(shown)} of {len(runs)} runs)",
    )
    baselines = [run.facts["baseline"] for run, _ in shown if run.facts.get("baseline")]
    if baselines:
        yield Statement.PAPER_BASELINE.format(
            series=enumerate_unique(series_text(str(facts["series"])) for facts in baselines),
            value=_summarize([_parse_values(facts) for facts in baselines]),
        )


def _has_value(region: Mapping[str, Any]) -> bool:
    """Return whether the detail of a contrast was measured or tested in a region."""
    return any("reference" in facts for facts in (region, region.get("test", {})))


def _name_contrast(contrast: Mapping[str, Any]) -> str:
    """Return the name of a contrast; verdicts of earlier versions have no names."""
    return str(contrast.get("name") or quote_contrast(contrast["map"]))


def _select_values(contrast: Mapping[str, Any], region: str) -> _Values | None:
    """Return the explained variance of a contrast in a region; None if it has no interval.

    A measured value without an interval did not decide; the value of the test is then returned.
    """
    facts = contrast[region]
    return _parse_values(facts) or _parse_values(facts.get("test", {}))


def _parse_values(facts: Mapping[str, Any]) -> _Values | None:
    """Return an explained variance and its interval; None if one of them is not defined."""
    cells = [facts.get(key) for key in ("explained_variance", "lower", "upper")]
    return None if None in cells else cast("_Values", tuple(cells))


def _summarize(values: Sequence[_Values | None]) -> str:
    """Return the value with its interval, or the range and median over several runs."""
    defined = [item for item in values if item is not None]
    if not defined:
        return ""
    if len(defined) == 1:
        value, lower, upper = defined[0]
        ends = " to ".join(interval_ends(lower, upper, ".0%"))
        return f"{number(value, '.0%')} (95 % interval {ends} %)"
    numbers = [value for value, _, _ in defined]
    low, median, high = min(numbers), statistics.median(numbers), max(numbers)
    return (
        f"{number(low, '.0%')} to {number(high, '.0%')} (median {number(median, '.0%')},"
        f" {len(defined)} runs)"
    )


def _write_contrasts(runs: Sequence[_RunVerdict]) -> Iterable[str]:
    """Yield a sentence per state on the contrasts with this state, with numbers of runs."""
    for state, statement in _STATES.items():
        names = {}
        for region in REGIONS:
            counts = Counter(
                _name_contrast(contrast)
                for run in runs
                for contrast in run.facts.get("contrasts", ())
                if state
                == (contrast[region]["state"] if _has_value(contrast[region]) else "not tested")
            )
            names[region] = add_counts(counts.items(), "runs") if len(runs) > 1 else list(counts)
        if places := list_places(names):
            yield statement.format(contrasts=places)
