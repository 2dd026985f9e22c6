"""Names of decisions, statuses, regions, bands, references and measures, and format of values.

Sentences are in `bids_sr.evaluation.statements`.
"""

from collections.abc import Mapping
from typing import NamedTuple

from bids_sr.engine.metric_rows import MISSING, MetricRow
from bids_sr.engine.number_text import estimate
from bids_sr.evaluation.evidence import ACQUIRED_ACTIVE, STRONGEST, parse_tenths
from bids_sr.io.metric_registry import statistic

BANDS: Mapping[str, str] = {
    "beyond": "detail",
    "all": "signal units",
}
"""Frequency bands in words; the band ``all`` is not limited, and has the name of its unit."""
EFFECT_UNIT = "% of the brain's mean signal"
"""Unit of effects in figures and tables of the page."""
_ACQUIRED_THRESHOLD = "|t| > 4"
"""Threshold of the region `ACQUIRED_ACTIVE`."""
_VOLUME_STATISTIC = "psnr"
"""Statistic that compares volumes; all other statistics of references compare effects."""
_REFERENCE_WORDS = {
    (reference.name, reference.statistic == _VOLUME_STATISTIC): reference.words
    for references in STRONGEST.values()
    for reference in references
}
"""Reference in words, by its name and whether volumes (True) or effects (False) are compared."""


class DecisionWords(NamedTuple):
    """Symbol and label of a difference, and its verb phrase."""

    symbol: str
    label: str
    verb_phrase: str


DECISIONS: Mapping[str, DecisionWords] = {
    "better": DecisionWords("▲", "higher", "is more accurate than"),
    "same": DecisionWords("=", "equivalent", "is equivalent to"),
    "worse": DecisionWords("▼", "lower", "is less accurate than"),
    "unclear": DecisionWords("?", "no detectable difference", "does not differ detectably from"),
    # Sizes of active regions may be larger or smaller, but neither is better.
    "larger": DecisionWords("", "larger", "is larger than"),
    "smaller": DecisionWords("", "smaller", "is smaller than"),
}
"""Words for the decision on a difference."""


def capitalize(text: str) -> str:
    """Return a text with its first letter capitalized."""
    return text[:1].upper() + text[1:]


def active_words(region: str) -> tuple[str, str]:
    """Return the short name of a region, and its definition ("" if the name says it all).

    >>> active_words("acquired40")
    ('active voxels', '|t| > 4 in the acquired run')
    >>> active_words("brain")
    ('whole brain', '')
    """
    if tenths := parse_tenths(region):
        return "active voxels", f"{_threshold_text(tenths)} in one half of the reference"
    if region == ACQUIRED_ACTIVE:
        return "active voxels", f"{_ACQUIRED_THRESHOLD} in the acquired run"
    return region_text(region), ""


def region_text(region: str) -> str:
    """Return a region in words; the name itself if it has no words, "" for n/a."""
    if tenths := parse_tenths(region):
        return f"voxels active in one half of the reference ({_threshold_text(tenths)})"
    region_names = {
        ACQUIRED_ACTIVE: f"voxels active in the acquired run ({_ACQUIRED_THRESHOLD})",
        "roi": "region of interest",
        "active": "truly active voxels",
        "brain": "whole brain",
        MISSING: "",
    }
    return region_names.get(region, region)


def _threshold_text(tenths: int) -> str:
    """Return the threshold of active voxels, which is given in tenths of t."""
    return f"|t| > {tenths / 10:g}"


def reference_phrase(row: MetricRow) -> str:
    """Return the phrase that names the reference of a value; "" if it has no reference."""
    reference_words = _REFERENCE_WORDS.get((row.reference, row.statistic == _VOLUME_STATISTIC))
    return f"relative to {reference_words}" if reference_words else ""


def measure_text(row: MetricRow) -> str:
    """Return the name of a row's statistic, followed by its frequency band if it has one."""
    name = statistic(row.statistic).label or row.statistic
    return f"{name} ({BANDS[row.band]})" if row.band == "beyond" else name


def value_text(row: MetricRow, form: str = "") -> str:
    """Return a value with its interval and unit.

    `form` is the format of the numbers, such as ``.2f``; "" uses the default format.
    """
    return estimate(row.value, row.lower, row.upper, form) + (" dB" if row.unit == "dB" else "")
