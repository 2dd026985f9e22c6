"""Check before any work that the runs have the two conditions of ``--overlap``."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from bids_sr.bids import Findings
from bids_sr.config import Settings, nearest_name
from bids_sr.glm.condition_pair import condition_pair
from bids_sr.glm.contrasts import Contrasts, camel, single_conditions


def check_overlap(
    settings: Settings, contrasts: Mapping[Path, Contrasts], findings: Findings
) -> None:
    """Refuse conditions that no run maps; note the runs of which no overlap is drawn.

    Parameters
    ----------
    settings : Settings
        Settings of the call.
    contrasts : Mapping[Path, Contrasts]
        Contrasts of each run that has events, by its series.
    findings : Findings
        Where problems and notes are added.
    """
    names = settings.activation.overlap_names
    if names is None or not contrasts:
        return
    without = {
        bold: single_conditions(found)
        for bold, found in contrasts.items()
        if condition_pair(names, found) is None
    }
    if names and len(without) == len(contrasts):
        mapped = list(dict.fromkeys(name for own in without.values() for name in own))
        findings.refuse_option(f"--overlap {' '.join(names)}", *_why_unknown(names, mapped))
        return
    for bold, conditions in without.items():
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
        findings.tell(bold, text, code="option")


def _why_unknown(names: Sequence[str], mapped: Sequence[str]) -> tuple[str, str]:
    """Return reason and remedy for conditions that no run maps."""
    unknown = [name for name in names if camel(name) not in mapped]
    if not unknown:
        return "the two conditions are not mapped in the same run", (
            "choose two conditions that are mapped in the same run"
        )
    listed = ", ".join(mapped) or "none"
    why = (
        f"no run contains the contrast of {' or '.join(unknown)} against rest (mapped conditions:"
        f" {listed})"
    )
    fix = (
        nearest_name(unknown[0], mapped)
        or "choose two of these conditions, or add the missing conditions to --contrasts"
    )
    return why, fix
