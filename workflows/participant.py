"""One participant: anatomy once, each T2*-weighted pair once, then every run.

The whole graph: which steps every participant takes.
"""

import dataclasses
from collections.abc import Mapping

from bids_sr.bids import Pair, Subject
from bids_sr.bids.fmriprep import SPACES
from bids_sr.config import Settings
from bids_sr.pipeline.flow import Flow, subworkflow
from bids_sr.pipeline.graph import Graph, Scope, scope_of
from bids_sr.pipeline.step import Part
from bids_sr.pipeline.store import store
from bids_sr.preflight.plan import Plan
from bids_sr.region_names import AUTO, BRAIN, is_aal2, region_of_tasks
from bids_sr.steps.figures import draw_anatomy
from bids_sr.workflows.anatomy import fit_anatomy
from bids_sr.workflows.pair import RegisteredPair, TrainedModel, fit_pair
from bids_sr.workflows.run import add_run, subject_facts
from bids_sr.workflows.structural import process_scans
from bids_sr.workflows.wanted import Planned, named

_Models = Mapping[str, Scope]
"""Scope of each series whose model was trained on a pair, members of ensembles among them."""


def add_participant(root: Scope, planned: Planned, subject: Subject) -> None:
    """Place the steps of a participant."""
    template = _template(planned, subject)
    roi = _roi(planned, subject)
    specs_of = {run.bold: planned.wanted(run, with_anat=bool(subject.t1w)) for run in subject.runs}
    made = [one.name for run in subject.runs for one in specs_of[run.bold] if one.stored]
    scope = root.within(
        scope_of(f"sub-{subject.label}"),
        entities={"subject": subject.label},
        provenance={},
        axis_order=(0, 1, 2),
        template_space=template,
        roi=roi,
        n_runs=len(subject.runs),
        subject_facts=subject_facts(
            planned.settings,
            subject,
            ["raw", *made],
            template=template,
            roi=roi,
        ),
    )
    anat = None
    pairs: dict[Pair, tuple[RegisteredPair, dict[str, TrainedModel]]] = {}
    with Flow(scope):
        if subject.t1w:
            outputs = planned.outputs(
                {
                    "subject": subject.label,
                    **named(subject.t1w[0], "session"),
                    "datatype": "anat",
                },
                datasets=planned.datasets(subject.runs),
            )
            with subworkflow("anat_wf"):
                anat = fit_anatomy(planned, subject, outputs, template_space=template, roi=roi)
        learned = [one for specs in specs_of.values() for one in specs]
        for number, pair in enumerate(subject.pairs, 1):
            networks = {one.name: one for one in learned if one.learned_from == "pair"}
            pairs[pair] = fit_pair(planned, subject, pair, number, networks)
    for run in subject.runs:
        registered, models = pairs[run.pair] if run.pair is not None else (None, {})
        add_run(scope, planned, run, specs_of[run.bold], anat, registered, models)
    scope.add(draw_anatomy.summarize_subject)


def _roi(planned: Planned, subject: Subject) -> str:
    """Return a participant's ROI, by the names of its tasks where none was requested."""
    if planned.settings.activation.roi != AUTO:
        return planned.settings.activation.roi
    # regions that tasks tell are groups of its labels
    if not is_aal2(planned.settings.activation.atlas):
        return BRAIN
    return region_of_tasks(
        {run.entities.get("task", "") for run in subject.runs if run.events is not None}
    )


def _template(planned: Planned, subject: Subject) -> str:
    """Return the space that the T1w image is registered to.

    It is the requested one, or one for which there are transforms.
    """
    there = [
        space
        for space in SPACES
        if subject.precomputed is not None and space in subject.precomputed.spaces
    ]
    return [*planned.settings.preprocessing.templates, *there, SPACES[0]][0]


_OPENING = """\
Results included in this manuscript come from *bids-sr* {version}, which is based on \
*Nipype* [@nipype]. {compared} were analyzed in the same way, so that the effect of \
super-resolution can be separated from the effects of interpolation and smoothing.
"""
_OF_SERIES = "The acquired series, its interpolated versions and the super-resolved series"
_OF_SCANS = "The acquired scans, their interpolated versions and the super-resolved scans"


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
    settings_here = {
        "omp_nthreads": settings.resources.omp_nthreads or 1,
        "figures_dir": settings.figures_dir,
    }
    return {**known, **settings_here}


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
    scans = [subject for subject in plan.subjects if subject.has_scans]
    compared = _OF_SCANS if scans else _OF_SERIES
    root.say(Part.OPENING, _OPENING.format(version=version, compared=compared))
    if scans:
        with Flow(root):
            process_scans(planned, scans)
    for subject in plan.subjects:
        if subject not in scans:
            add_participant(root, planned, subject)
    return root


def graph_of(settings: Settings, plan: Plan, version: str) -> Graph:
    """The graph of all participants; nothing is computed, and nipype is not imported.

    `GraphError`: a step is asked for what no other makes, or for a setting that is not there.
    """
    return Graph(place_all(settings, plan, version))
