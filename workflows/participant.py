"""One participant: anatomy once, each T2*-weighted pair once, then every run.

The whole graph: which steps every participant takes.
"""

import dataclasses
from collections.abc import Mapping

from bids_sr.bids import Pair, Subject
from bids_sr.bids.fmriprep import SPACES
from bids_sr.config import Settings
from bids_sr.pipeline.flow import Flow
from bids_sr.pipeline.graph import Graph, Maker, Scope, scope_of
from bids_sr.pipeline.step import Part
from bids_sr.pipeline.store import store
from bids_sr.preflight.plan import Plan
from bids_sr.region_names import AUTO, BRAIN, is_aal2, region_labels, region_of_tasks
from bids_sr.steps import anatomy, imported, registration, training
from bids_sr.steps.figures import draw_anatomy, draw_evaluation
from bids_sr.workflows.report_run import subject_facts
from bids_sr.workflows.run import NO_ATLAS, add_run
from bids_sr.workflows.scans import add_other_spaces
from bids_sr.workflows.structural import process_scans
from bids_sr.workflows.wanted import Planned, Wanted, named

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
    anat = _add_anatomy(scope, planned, subject, template) if subject.t1w else None
    pairs: dict[Pair, tuple[Scope, _Models]] = {}
    for number, pair in enumerate(subject.pairs, 1):
        learned = [one for each in specs_of.values() for one in each if one.learned_from == "pair"]
        pairs[pair] = _add_pair(
            scope, planned, subject, pair, number, {one.name: one for one in learned}
        )
    for run in subject.runs:
        pair_scope, models = pairs[run.pair] if run.pair is not None else (None, {})
        add_run(scope, planned, run, specs_of[run.bold], anat, pair_scope, models)
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


def _add_anatomy(scope: Scope, planned: Planned, subject: Subject, template: str) -> Scope:
    """Add the steps of the T1w image that make what is not given.

    They are bias field, brain, template, tissues, atlas and region of interest.

    Every step takes one thread, because sums over threads are not reproducible.
    """
    t1w = subject.t1w[0]
    precomputed = subject.precomputed
    files = precomputed.files(template) if precomputed else {}
    anat = scope.within(
        "anat_wf",
        entities={"subject": subject.label, **named(t1w, "session"), "datatype": "anat"},
        datasets=planned.datasets(subject.runs),
        alias={"reference": "t1w_preproc"},
    )
    anat.give(t1w_file=files.get("t1w_preproc", t1w))
    anat.give(**{f"given_{name}": path for name, path in files.items()})
    anat.add(anatomy.load_template)
    if precomputed is None:
        anat.add(anatomy.correct_head, anatomy.mask_brain, anatomy.correct_brain)
    else:
        anat.say(
            Part.ANATOMY,
            anatomy.describe_imported_anatomy(precomputed.origin.text, template, files),
        )
        anat.add(imported.import_anatomy)
        # the mask is known, but not where the search for the template begins
        if "t1w2std_xfm" not in files:
            anat.add(anatomy.find_start)
    anat.add(imported.show_in_template if "t1w2std_xfm" in files else anatomy.normalize_t1w)
    if "gm" in files:
        anat.give(given_tpms=[files[each] for each in ("gm", "wm", "csf")])
        anat.add(imported.import_tissues)
    else:
        anat.add(anatomy.segment_tissues, quiet=precomputed is not None)
    anat.add(anatomy.label_tissues)
    anat.add(anatomy.place_atlas)
    by_name = region_labels(str(scope.setting("roi")), planned.settings.activation.atlas)
    anat.add(anatomy.define_region, wires={} if by_name else NO_ATLAS)
    add_other_spaces(anat, planned, subject)
    scope.within("anat_figures_wf", beside=(anat,)).add(
        draw_anatomy.draw_brain, draw_anatomy.draw_normalization
    )
    return anat


_SECOND = {
    "train_highres": "second_highres",
    "train_lowres": "second_lowres",
    "pair_mask": "second_mask",
}
"""Inputs of the training that show the members of a held-out pair in its log."""


def _add_pair(
    scope: Scope,
    planned: Planned,
    subject: Subject,
    pair: Pair,
    number: int,
    learned: Mapping[str, Wanted],
) -> tuple[Scope, _Models]:
    """Add one T2*-weighted pair: registration, models, derivatives and figures.

    There is one model for each method and for each member.
    """
    place = named(pair.highres, "session", "run")
    twins = [each for each in subject.pairs if named(each.highres, "session", "run") == place]
    # one image may serve runs of two resolutions: two models
    tag = f"pair{number}" if len(twins) > 1 else ""
    common = {"subject": subject.label, **place, **({"acquisition": tag} if tag else {})}
    pair_scope = _registered(scope, planned, pair, f"pair_{number}_wf", common, tag, keep=True)
    methods = [one for one in learned.values() if one.stored]
    held_out = subject.holdouts.get(pair)
    members: dict[str, Maker] = {}
    if held_out is not None and methods:
        other = _registered(
            scope, planned, held_out, f"holdout_{number}_wf", common, tag, keep=False
        )
        members = {name: other[name] for name in ("train_highres", "train_lowres", "pair_mask")}
    models: dict[str, Scope] = {}
    for spec in (each for each in learned.values() if not each.placebo):
        models[spec.name] = pair_scope.within(
            spec.name, planned.model_settings(spec), factor=pair.factor
        )
        shown = members if held_out is not None and held_out.factor == pair.factor else {}
        models[spec.name].add(
            training.train_on_pair,
            keep=spec.stored,
            quiet=not spec.stored,
            wires={_SECOND[name]: maker for name, maker in shown.items()} if spec.stored else {},
        )
        if spec.stored:
            models[spec.name].add(
                draw_evaluation.draw_training, method_label=spec.name if len(methods) > 1 else ""
            )
    pair_scope.add(draw_anatomy.draw_pair)
    if held_out is not None and methods:
        for spec in methods:
            models[spec.name].add(training.score_pair, wires=members, factor=held_out.factor)
    return pair_scope, models


def _registered(
    scope: Scope,
    planned: Planned,
    pair: Pair,
    name: str,
    common: Mapping[str, str],
    tag: str,
    *,
    keep: bool,
) -> Scope:
    """The members of a pair in one frame."""
    inner = scope.within(
        name,
        entities={**common, "datatype": "anat"},
        pair_tag=tag,
        alias={"reference": "train_lowres"},
        factor=pair.factor,
        axis_order=pair.orders[1],
        highres_order=pair.orders[0],
        lowres_order=pair.orders[1],
        highres_entities=named(pair.highres, "acquisition"),
        lowres_entities=named(pair.lowres or pair.highres, "acquisition"),
    )
    inner.give(highres_file=pair.highres, lowres_file=pair.lowres)
    inner.add(
        registration.truncate_pair if pair.lowres is None else registration.register_pair,
        keep=keep,
    )
    return inner


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
