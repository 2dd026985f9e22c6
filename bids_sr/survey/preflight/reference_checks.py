"""Check that a high-resolution reference can be compared with some map."""

from collections.abc import Sequence

from bids_sr.config import Settings
from bids_sr.survey.bids import Findings, Subject


def note_unused_reference(
    settings: Settings, subjects: Sequence[Subject], findings: Findings
) -> None:
    """Report known activation that is not used because no linear model is fitted."""
    if "glm" in settings.activation.kinds:
        return
    truths = [run.truth for subject in subjects for run in subject.runs if run.truth is not None]
    for truth in truths:
        if truth.activations and truth.series is None:
            findings.note(
                str(truth.root),
                "known activation can only be compared with maps from the linear model, so"
                " accuracy is not measured. Add these maps with"
                " --set 'activation.kinds=[cc, glm]'.",
                code="reference",
            )
