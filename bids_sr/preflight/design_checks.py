"""Whether the model of a run can be built and tells its contrasts, before hours go into what it is fit to."""

from __future__ import annotations

from collections.abc import Mapping

from bids_sr.bids import BoldRun, Problem
from bids_sr.config import Settings

MOST_VOLUMES = 5000  # beyond, the look at the model takes longer than all others


def check_design(run: BoldRun, contrasts: Mapping[str, Mapping[str, float]], settings: Settings) -> list[Problem]:
    """What speaks against the linear model of a run with a sound events table, motion apart.

    Parameters
    ----------
    contrasts : name → trial type → weight
    """
    if "glm" not in settings.activation.kinds or run.n_volumes > MOST_VOLUMES:
        return []
    from bids_sr.stats.glm.design import DesignError, build_design, contrast_vector, read_events

    try:
        events = read_events(run.events)
    except (DesignError, ValueError) as error:  # of pandas, too
        reason = f"it cannot be read as a table ({error})".replace(f"{run.events}: ", "")
        return [Problem(file=str(run.events), reason=reason, fix="Store it as tab-separated text in UTF-8.")]
    problems = []
    try:
        design = build_design(
            events,
            n_volumes=run.n_volumes,
            tr=run.tr,
            n_dummy=settings.preprocessing.dummy_scans or 0,
            high_pass=settings.activation.high_pass,
        )
        for name, weights in contrasts.items():
            contrast_vector(design, name, weights)
    except DesignError as error:
        fix = "Check onsets and durations, or choose others with --contrasts."
        problems.append(Problem(file=str(run.events), reason=f"its linear model does not hold: {error}", fix=fix))
    return problems
