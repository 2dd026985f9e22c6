"""Runs of a participant that contain the same series, although they have different names.

If both have the same events, the data were probably sent or converted twice, and one of them is
processed. Otherwise it is unknown to which run the series belongs.
"""

from collections.abc import Mapping
from pathlib import Path

from bids_sr.preproc.copied_series import (
    MIN_COPY_CORRELATION,
    SeriesSample,
    correlate_series,
)
from bids_sr.survey.bids import BoldRun, Findings, Subject
from bids_sr.survey.bids.related_runs import have_same_events

# entities of images that were computed from the same acquisition
_VARIANT_ENTITIES = {"echo", "part", "reconstruction"}


def check_copies(
    subject: Subject, samples: Mapping[Path, SeriesSample | None], findings: Findings
) -> None:
    """Reject runs of a participant that are copies of other runs.

    `samples` are voxels of the series.
    """
    compared: list[tuple[BoldRun, SeriesSample]] = []
    for run in subject.runs:
        sample = samples.get(run.bold)
        if sample is None:
            continue
        for other, other_sample in compared:
            if _identify(run) == _identify(other):
                continue
            correlation = correlate_series(other_sample, sample)
            if correlation > MIN_COPY_CORRELATION:
                _report(other, run, correlation, findings)
                break
        else:
            compared.append((run, sample))


def _identify(run: BoldRun) -> dict[str, str]:
    """Return the entities of an acquisition."""
    return {key: label for key, label in run.entities.items() if key not in _VARIANT_ENTITIES}


def _report(run: BoldRun, copy: BoldRun, correlation: float, findings: Findings) -> None:
    """Reject a copy of a run, and the run as well if task or events differ."""
    is_same = run.entities.get("task") == copy.entities.get("task")
    pairs = [(copy, run)]
    text = "The events are the same, so the run is left out"
    fix = "Replace the file by the series of this run, or delete it."
    if not (is_same and have_same_events(run, copy)):
        pairs.append((run, copy))
        text = "The events differ, so it is unknown to which of the two runs the series belongs"
        fix = "Find out which run the series belongs to, and delete or replace the other file."
    for rejected, other in pairs:
        with findings.about(rejected.entities["subject"], rejected.stem):
            findings.add_problem(
                rejected.bold,
                f"the series is a copy of {other.bold.name}: changes between volumes have a"
                f" correlation of {correlation:.2f} in the head, but the noise of two runs is not"
                f" correlated. {text}",
                fix,
            )
