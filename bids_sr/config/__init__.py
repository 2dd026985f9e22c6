"""Settings of one call, and the one kind of refusal; the standard library is all that this imports."""

from bids_sr.config.settings import (
    BASELINES,
    PAIR_BASELINES,
    PAPER_SMOOTHING_MM,
    Activation,
    Paths,
    Preprocessing,
    Resources,
    Run,
    Selection,
    Settings,
    SuperRes,
    method_names,
    read_toml,
)
from bids_sr.config.values import UsageError, nearest_name

__all__ = [
    "BASELINES",
    "PAIR_BASELINES",
    "PAPER_SMOOTHING_MM",
    "Activation",
    "Paths",
    "Preprocessing",
    "Resources",
    "Run",
    "Selection",
    "Settings",
    "SuperRes",
    "UsageError",
    "method_names",
    "nearest_name",
    "read_toml",
]
