"""HTML of facts (labels and values in two columns), and of messages in boxes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from markupsafe import Markup

from bids_sr.boilerplate import data_of
from bids_sr.engine.number_text import short_number
from bids_sr.report.held_out_text import describe_held_out, describe_initial_weights
from bids_sr.report.markup import render

_MAX_INLINE_CHARACTERS = 24
"""Largest number of characters of an item in a list that is shown in one line."""


def render_labeled(facts: Mapping[str, object], label_group: str) -> Markup:
    """Return facts with a label, in the order of the labels; other facts are skipped.

    `label_group` is the key of these labels in ``facts.json``.
    """
    labels = data_of("facts.json")[label_group]
    return facts_html({label: facts[key] for key, label in labels.items() if key in facts})


def facts_html(facts: Mapping[str, object]) -> Markup:
    """Return facts as a two-column table; nested mappings become nested tables.

    Underscores in keys become spaces.
    """
    return render(
        "facts", {str(key).replace("_", " "): _value_html(value) for key, value in facts.items()}
    )


def _value_html(value: object) -> str:
    """Return the HTML of a value: a text, a list of texts, or a table of facts."""
    if isinstance(value, Mapping):
        return facts_html(value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return short_number(value)
    if isinstance(value, list | tuple):
        if all(
            isinstance(item, int | float | str) and len(str(item)) <= _MAX_INLINE_CHARACTERS
            for item in value
        ):
            return Markup(", ").join(_value_html(item) for item in value) or "none"
        return render("items", [_value_html(item) for item in value])
    return "none" if value is None else str(value)


def messages_html(kind: str, messages: Iterable[str]) -> Markup:
    """Render messages in separate boxes; "" if there are no messages.

    `kind` is ``warning`` or ``note``.
    """
    return render("messages", kind, list(messages))


def card_html(card: Mapping[str, object]) -> Markup:
    """Return a paragraph on held-out scores and initial weights; "" if there are none."""
    sentences = " ".join(filter(None, (describe_held_out(card), describe_initial_weights(card))))
    return Markup("<p>{}</p>").format(sentences) if sentences else Markup("")
