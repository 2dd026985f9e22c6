"""The whole graph: which steps every participant takes."""

import dataclasses

from bids_sr.config import Settings
from bids_sr.pipeline.graph import Graph, Scope
from bids_sr.pipeline.step import Part
from bids_sr.pipeline.store import store
from bids_sr.preflight.plan import Plan
from bids_sr.workflows.participant import add_participant
from bids_sr.workflows.planned import Planned
from bids_sr.workflows.scans import add_structural

_OPENING = """\
Results included in this manuscript come from *bids-sr* {version}, which is based on \
*Nipype* [@nipype]. {compared} went through the same analysis, so that the effect of \
super-resolution can be separated from those of interpolation and smoothing.
"""
_OF_SERIES = "The acquired series, plain interpolations of it and super-resolved series"
_OF_SCANS = "The acquired scans, plain interpolations of them and super-resolved scans"


def _settings_by_name(settings: Settings) -> dict[str, object]:
    """Return all settings by name for the outermost scope.

    Names are unique over the groups.
    """
    groups = (getattr(settings, group.name) for group in dataclasses.fields(settings))
    known = {
        item.name: getattr(group, item.name)
        for group in groups
        for item in dataclasses.fields(group)
    }
    own = {
        "omp_nthreads": settings.resources.omp_nthreads or 1,
        "figures_dir": settings.figures_dir,
    }
    return {**known, **own}


def primary_series(graph: Graph) -> list[str]:
    """The series of all runs that other programs are given, each once."""
    return sorted(
        {str(one.settings["primary"]) for one in graph.scope.inward() if "primary" in one.settings}
    )


def stores_atlas(graph: Graph) -> bool:
    """Whether the labels of an atlas are among all results."""
    kept = (
        placed
        for placed in graph.placed
        if placed.step is graph.scope.store and placed.name == "keep_atlas_t1w"
    )
    return any(graph.settings[placed]["in_output"] for placed in kept)


def place_all(settings: Settings, plan: Plan, version: str) -> Scope:
    """Place the steps of all participants; they are not connected yet."""
    planned = Planned(settings=settings, plan=plan, version=version)
    root = Scope("bids_sr_wf", _settings_by_name(settings), store=store, uri=planned.uri)
    scans = [subject for subject in plan.subjects if subject.structural]
    compared = _OF_SCANS if scans else _OF_SERIES
    root.say(Part.OPENING, _OPENING.format(version=version, compared=compared))
    if scans:
        add_structural(root, planned, scans)
    for subject in plan.subjects:
        if not subject.structural:
            add_participant(root, planned, subject)
    return root


def graph_of(settings: Settings, plan: Plan, version: str) -> Graph:
    """The graph of all participants; nothing is computed, and nipype is not imported.

    `GraphError`: a step is asked for what no other makes, or for a setting that is not there.
    """
    return Graph(place_all(settings, plan, version))
