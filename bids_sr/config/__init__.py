"""Settings of one call, and the one kind of refusal; the standard library is all that this imports."""

from bids_sr.config.groups import (
    PAPER_SMOOTHING_MM,
    PERCEPTUAL,
    Activation,
    Evaluation,
    Paths,
    Preprocessing,
    Resources,
    Run,
    Selection,
    SuperRes,
    offered_methods,
)
from bids_sr.config.method_facts import (
    REMOVED,
    MethodFacts,
    method_facts,
    method_names,
    patch_of,
)
from bids_sr.config.settings import Settings, read_toml
from bids_sr.config.values import UsageError, nearest_name, split_named

__all__ = [
    "PAPER_SMOOTHING_MM",
    "PERCEPTUAL",
    "REMOVED",
    "Activation",
    "Evaluation",
    "MethodFacts",
    "Paths",
    "Preprocessing",
    "Resources",
    "Run",
    "Selection",
    "Settings",
    "SuperRes",
    "UsageError",
    "method_facts",
    "method_names",
    "nearest_name",
    "offered_methods",
    "patch_of",
    "read_toml",
    "split_named",
]
