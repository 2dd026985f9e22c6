"""Evaluation of a run: whether its finer maps are true, and a verdict."""

from collections.abc import Sequence

from bids_sr.frozen import frozen
from bids_sr.pipeline.artifacts import Facts, File, Map, Rows, Verdict


@frozen
class Judgment:
    """Metrics of a run, flags and the verdict, with what figures need; None where not measured."""

    evaluation: Rows
    verdict: Verdict
    flags: Facts
    one_level_down: Facts
    halves_figures: File | None = None
    uncertainty_maps: Sequence[list[Map]] = ()
