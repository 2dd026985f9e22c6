"""HTML of the report's sections.

The sections are summary, facts, model card, metrics, registration, calibration and structural
scans.
"""

from collections.abc import Iterable, Mapping

from markupsafe import Markup

from bids_sr.boilerplate import data_of
from bids_sr.io.json_values import real, texts
from bids_sr.metrics.number_text import number, short
from bids_sr.reports.markup import render
from bids_sr.reports.text.training_text import held_out_text, started_text

_Value = object


def _label_html(value: _Value) -> str:
    """A value of a summary: text, a list of texts, or a table of facts."""
    if isinstance(value, Mapping):
        return facts_html(value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return short(value)
    if isinstance(value, list | tuple):
        if all(isinstance(item, int | float | str) and len(str(item)) < 25 for item in value):
            return Markup(", ").join(_label_html(item) for item in value) or "none"
        return render("items", [_label_html(item) for item in value])
    return "none" if value is None else str(value)


def facts_html(facts: Mapping[str, _Value]) -> Markup:
    """Return labels and values in two columns; nested mappings become tables within.

    `facts`: values by key; underscores in keys become spaces.
    """
    return render(
        "facts", {str(key).replace("_", " "): _label_html(value) for key, value in facts.items()}
    )


def messages_html(kind: str, messages: Iterable[str]) -> Markup:
    """Render prominent messages, each in its own box; ``kind`` is ``warning`` or ``note``.

    Markup of the boxes; empty for none.
    """
    return render("messages", kind, list(messages))


def card_html(card: Mapping[str, _Value]) -> Markup:
    """What the held-out slices say, and what training began with.

    Paragraph, or empty markup where the card tells neither.
    """
    numbers = " ".join(filter(None, (held_out_text(card), started_text(card))))
    return Markup("<p>{}</p>").format(numbers) if numbers else Markup("")


def labeled_html(facts: Mapping[str, _Value], of: str) -> Markup:
    """Return facts that have a label, in the order of the labels; others are left out."""
    labels = data_of("facts.json")[of]
    return facts_html({label: facts[key] for key, label in labels.items() if key in facts})


def registration_warnings(facts: Mapping[str, object]) -> list[str]:
    """What seems wrong with a run's registrations.

    Warnings, that of the T1w brain first; empty for none.
    """
    told = {
        "bold_t1w_kept": (
            "BOLD and T1w keep the alignment of their headers: registration did not improve it."
        ),
        "bold_t1w_poor": (
            "The registration of BOLD and T1w looks poor; atlas regions may lie in the wrong"
            " place."
        ),
        "bold_pair_poor": (
            "The registration of T2* and BOLD looks poor; inject and ratio depend on it."
        ),
        "roi_is_brain": (
            "The region of interest lies outside the field of view; the whole brain is used"
            " instead."
        ),
    }
    warnings = [text for key, text in told.items() if facts.get(key)]
    if facts.get("brain_doubts"):
        why = "; ".join(texts(facts["brain_doubts"]))
        told_brain = (
            f"The brain of the T1w image looks wrong: {why}. Do not trust its tissues, atlas and"
            " region of "
        )
        told_brain += "interest; aCompCor and tissue signals were left out of the confounds."
        warnings.insert(0, told_brain)
    return warnings


def registration_html(facts: Mapping[str, object]) -> Markup:
    """Return facts of a run's registrations in words, warnings first, unknown keys left out."""
    warnings = messages_html("warning", registration_warnings(facts))
    return warnings + labeled_html(facts, "registration")


_FAIR_OVERLAP = 0.9
_MOSTLY_NOISE = 0.9
_HALF = 0.5  # of the run's voxel: edges farther apart are not in register, or distorted otherwise


def calibration_html(facts: Mapping[str, object], voxel_mm: float) -> Markup:
    """Render the facts of a calibration, warnings first.

    Unknown keys are left out. `voxel_mm` is the run's in-plane voxel size.
    """
    warnings = messages_html("warning", _calibration_warnings(facts, voxel_mm))
    known = {key: value for key, value in facts.items() if value is not None}
    return warnings + labeled_html(known, "calibration")


def _calibration_warnings(facts: Mapping[str, object], voxel_mm: float) -> list[str]:
    """What the reader has to know before the calibration is believed."""
    if not facts["usable"]:
        return [
            f"The calibration is left out: {facts['reason']}. The run's own variance is used"
            " instead, as without one."
        ]
    found = []
    overlap, apart = real(facts.get("overlap"), 1.0), real(facts.get("edges_apart_mm"), 0.0)
    noise = real(facts.get("noise_share"), 0.0)
    if overlap < _FAIR_OVERLAP:
        found.append(f"Only {number(overlap, '.0%')} of the run's brain lies in the calibration.")
    if apart > _HALF * voxel_mm:
        found.append(
            f"Edges of the calibration and of the run lie {apart:.1f} mm apart (median), more than"
            " half a voxel of the run: their distortion differs, or the registration failed."
        )
    if noise > _MOSTLY_NOISE:
        found.append(
            f"{number(noise, '.0%')} of the variance is thermal noise; a longer calibration, or"
            " larger voxels, would help."
        )
    return found
