"""Settings of one call, and the one kind of refusal; the standard library is all that this imports."""

from bids_sr.config.groups import (
    PAPER_SMOOTHING_MM,
    Activation,
    Evaluation,
    Paths,
    Preprocessing,
    Resources,
    Run,
    Selection,
    SuperRes,
)
from bids_sr.config.settings import Settings, read_toml
from bids_sr.config.values import UsageError, nearest_name, split_named

__all__ = [
    "PAPER_SMOOTHING_MM",
    "Activation",
    "Evaluation",
    "Paths",
    "Preprocessing",
    "Resources",
    "Run",
    "Selection",
    "Settings",
    "SuperRes",
    "UsageError",
    "nearest_name",
    "read_toml",
    "split_named",
]
