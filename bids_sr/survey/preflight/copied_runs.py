"""Runs of a participant that contain the same series, although they have different names.

If both have the same events, the data were probably sent or converted twice, and one of them is
processed. Otherwise it is unknown to which run the series belongs.
"""

from collections.abc import Mapping
from pathlib import Path

from bids_sr.preproc.copied_series import MIN_COPY_CORRELATION, SeriesSample, correlate_series
from bids_sr.survey.bids.findings import about, add_problem
from bids_sr.survey.bids.inputs import BoldRun, Subject
from bids_sr.survey.bids.related_runs import have_same_events

# entities of images that were computed from the same acquisition
_VARIANT_ENTITIES = {"echo", "part", "reconstruction"}


def check_copies(subject: Subject, samples: Mapping[Path, SeriesSample | None]) -> None:
    """Reject runs of a participant that are copies of other runs, or share an echo with them.

    `samples` are voxels of the series.
    """
    compared: list[BoldRun] = []
    for run in subject.runs:
        for other in compared:
            if copies := _find_copies(other, run, samples):
                _report(other, run, copies)
                break
        else:
            if samples.get(run.bold) is not None:
                compared.append(run)


def _find_copies(
    run: BoldRun, other: BoldRun, samples: Mapping[Path, SeriesSample | None]
) -> dict[tuple[Path, Path], float]:
    """Return the series of two runs that are copies of each other, with their correlation."""
    if _identify(run) == _identify(other):
        return {}
    files = ([path for path, _ in one.echoes] or [one.bold] for one in (run, other))
    correlations = {
        (first, second): correlate_series(sample, other_sample)
        for first, second in zip(*files, strict=False)
        if (sample := samples.get(first)) and (other_sample := samples.get(second))
    }
    return {pair: value for pair, value in correlations.items() if value > MIN_COPY_CORRELATION}


def _identify(run: BoldRun) -> dict[str, str]:
    """Return the entities of an acquisition."""
    return {key: label for key, label in run.entities.items() if key not in _VARIANT_ENTITIES}


def _report(run: BoldRun, copy: BoldRun, copies: Mapping[tuple[Path, Path], float]) -> None:
    """Reject a copy of a run; and the run as well if task, events or other echoes differ."""
    is_same = run.entities.get("task") == copy.entities.get("task") and have_same_events(run, copy)
    text = "The events are the same, so the run is left out"
    fix = "Replace the file by the series of this run, or delete it."
    is_one_of_two = is_same and len(copies) == max(len(run.echoes), 1)
    if not is_one_of_two:
        text = "It is unknown to which of the two runs the series belongs"
        fix = "Find out which run the series belongs to, and delete or replace the other file."
    n_reported = 1 if is_one_of_two else len(copies)
    for (path, copied_path), correlation in [*copies.items()][:n_reported]:
        pairs = [(copy, copied_path, path)] + [(run, path, copied_path)] * (not is_one_of_two)
        for rejected, file, source in pairs:
            with about(*rejected.owner):
                add_problem(
                    file,
                    f"the series is a copy of {source.name}: changes between volumes have a"
                    f" correlation of {correlation:.2f} in the head, but the noise of two runs is"
                    f" not correlated. {text}",
                    fix,
                )
