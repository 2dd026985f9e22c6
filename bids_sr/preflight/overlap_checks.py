"""Check of the two conditions of ``--overlap`` before processing."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from bids_sr.bids import Findings
from bids_sr.config import Settings, suggest_name
from bids_sr.glm.condition_pair import condition_pair
from bids_sr.glm.contrasts import Contrasts, camel_case, single_conditions


def check_overlap(
    settings: Settings, contrasts: Mapping[Path, Contrasts], findings: Findings
) -> None:
    """Reject conditions that no run maps, and report runs without an overlap figure.

    `contrasts` are by BOLD file, for runs with events.
    """
    names = settings.activation.overlap_names
    if names is None or not contrasts:
        return
    conditions_by_run = {
        bold: single_conditions(run_contrasts)
        for bold, run_contrasts in contrasts.items()
        if condition_pair(names, run_contrasts) is None
    }
    if names and len(conditions_by_run) == len(contrasts):
        all_conditions = (name for conditions in conditions_by_run.values() for name in conditions)
        mapped_conditions = list(dict.fromkeys(all_conditions))
        reason, fix = _explain_unmapped(names, mapped_conditions)
        findings.refuse_option(f"--overlap {' '.join(names)}", reason, fix)
        return
    for bold, conditions in conditions_by_run.items():
        mapped_text = ", ".join(conditions) or "none"
        if names:
            text = (
                f"the overlap of {' and '.join(names)} is not drawn for this run because its"
                f" mapped conditions are {mapped_text}."
            )
        else:
            text = (
                f"the run has {len(conditions)} mapped conditions ({mapped_text}), so no overlap"
                " is drawn. Select two conditions with --overlap A B."
            )
        findings.note(bold, text, code="option")


def _explain_unmapped(names: Sequence[str], mapped_conditions: Sequence[str]) -> tuple[str, str]:
    """Return reason and remedy for conditions that no run maps."""
    unmapped_names = [name for name in names if camel_case(name) not in mapped_conditions]
    if not unmapped_names:
        return "the two conditions are not mapped in the same run", (
            "choose two conditions that are mapped in the same run"
        )
    conditions_text = ", ".join(mapped_conditions) or "none"
    reason = (
        f"no run contains the contrast of {' or '.join(unmapped_names)} against rest (mapped"
        f" conditions: {conditions_text})"
    )
    fix = (
        suggest_name(unmapped_names[0], mapped_conditions)
        or "choose two of these conditions, or add the missing conditions to --contrasts"
    )
    return reason, fix
