"""Verdicts of participants, from their files: of all runs together, or of their only run.

Results paragraph, group page and index take their numbers from these records.
"""

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from bids_sr.engine.metric_rows import VerdictFacts
from bids_sr.io.atomic_files import read_json
from bids_sr.io.frozen import frozen

VERDICT_SUFFIX = "_desc-verdict_metrics.json"


@frozen
class StoredVerdict:
    """Verdict with participant (label), task, and the start of its file names."""

    participant: str
    task: str
    stem: str
    facts: VerdictFacts

    @property
    def runs(self) -> frozenset[str]:
        """Starts of the file names of the runs that the verdict is on."""
        return frozenset(self.facts.get("runs", ()) or (self.stem,))

    @property
    def shown(self) -> Mapping[str, Any] | None:
        """Result for the contrast with most acquired activation; None if there is none."""
        contrasts = self.facts.get("contrasts", ())
        return next((c for c in contrasts if c["contrast"] == self.facts.get("shown")), None)


def read_verdicts(
    root: Path, label: str = "*", runs: Collection[str] | None = None
) -> list[StoredVerdict]:
    """Return the verdicts below an output directory, sorted by file.

    The verdict of all runs replaces the verdicts of its runs. `label` is of the participant
    without ``sub-``; by default, all participants. Verdicts on other runs than `runs`, the starts
    of their file names, are omitted; None for all runs.
    """
    verdicts = [
        verdict
        for verdict in _read_all(root, label)
        if runs is None or verdict.runs.issubset(runs)
    ]
    return [
        verdict for verdict in verdicts if not any(verdict.runs < other.runs for other in verdicts)
    ]


def _read_all(root: Path, label: str) -> Iterator[StoredVerdict]:
    """Yield all verdicts."""
    for folder in ("func", "ses-*/func"):
        for file in sorted(root.glob(f"sub-{label}/{folder}/*{VERDICT_SUFFIX}")):
            stem = file.name.removesuffix(VERDICT_SUFFIX)
            entities = dict(part.partition("-")[::2] for part in stem.split("_"))
            yield StoredVerdict(
                participant=entities["sub"],
                task=entities.get("task", ""),
                stem=stem,
                facts=cast("VerdictFacts", read_json(file)),
            )
