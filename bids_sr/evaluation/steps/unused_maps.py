"""Maps of a run that its page does not name, and that are therefore not stored."""

from collections.abc import Sequence

from bids_sr.engine.artifacts import Facts
from bids_sr.engine.step import Stage, step
from bids_sr.engine.store import LEFT_OUT
from bids_sr.evaluation.run_evidence import StoredEvidence


@step(Stage.EVALUATION, makes="unused_maps", small=True)
def list_unused_maps(
    evidence: StoredEvidence,
    *,
    primary: str,
    contrasts: Sequence[str],
    minus_others: Sequence[str],
) -> Facts:
    """List the unsmoothed maps that the page does not name, as sets of entities.

    These are B-spline effects of contrasts whose detail may be interpreted, maps of the `primary`
    series if it was not applied, and its maps of default contrasts `minus_others` whose detail may
    not be interpreted. Maps of contrasts that the user requested are not listed.
    """
    if primary in evidence.not_applied:
        return {LEFT_OUT: [{"desc": primary, "contrast": name} for name in contrasts]}
    interpretable = {
        name
        for name in contrasts
        if evidence.result.method == primary and evidence.result.select(name).shown is not None
    }
    effects = [
        {"desc": "bspline", "stat": "effect", "contrast": name}
        for name in contrasts
        if name in interpretable
    ]
    others = [
        {"desc": primary, "contrast": name}
        for name in minus_others
        if name not in interpretable and primary != "bspline"
    ]
    return {LEFT_OUT: [*effects, *others]}
