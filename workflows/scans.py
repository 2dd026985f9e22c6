"""Structural scans of participants, super-resolved jointly, measured and shown.

The scans are fused as channels.

Results in spaces other than a run's: registration to further templates, and grids.

The grids are in T1w and in templates; surfaces are those of the participant or of fsaverage.
"""

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

from bids_sr.bids import (
    LowresScan,
    Pair,
    Subject,
    entities_of,
    input_of_models,
    pretrained_for,
    vgg_weights_for,
)
from bids_sr.bids.fmriprep import SPACES
from bids_sr.bids.lesion_references import entities_of_scans, lesion_reference
from bids_sr.config import Settings
from bids_sr.config.spaces import FSAVERAGE, FUNC, T1W, Space
from bids_sr.io.dataset_description import template_uri
from bids_sr.pipeline.graph import Maker, Scope, Wires, scope_of
from bids_sr.pipeline.step import Part
from bids_sr.sr.recipe_changes import changes_of
from bids_sr.steps import anatomy, imported, registration, structural
from bids_sr.steps.anatomy import load_template
from bids_sr.steps.figures import draw_anatomy
from bids_sr.workflows.wanted import Planned, RunOf

_MODEL = ("made_scans", "model_file", "card_file", "log_file")


def add_structural(root: Scope, planned: Planned, subjects: Sequence[Subject]) -> None:
    """Place the steps of participants with structural scans.

    All heads are prepared in scopes of their own, because networks may be trained on the heads of
    others.
    """
    paired = [subject for subject in subjects if subject.structural]
    prepared = {subject.label: _add_prepared(root, planned, subject) for subject in paired}
    for subject in subjects:
        if subject.controls:
            _add_controls(root, planned, subject)
        if subject.lowres:
            _add_lowres(root, planned, subject)
    for subject in paired:
        own = subject.label
        heads = {own: prepared[own]}
        if planned.settings.superres.train_on == "others":
            contrasts = _suffixes(subject.structural)
            alike = {each.label for each in paired if _suffixes(each.structural) == contrasts}
            alike -= {own}
            heads = {label: scope for label, scope in prepared.items() if label in alike}
        _add_participant(root, planned, subject, prepared[own], heads)


def _suffixes(scans: Sequence[Pair | LowresScan]) -> tuple[str, ...]:
    return tuple(pair.contrast for pair in scans)


def _scope(
    outer: Scope,
    name: str,
    planned: Planned,
    subject: Subject,
    provenance: Mapping[str, str] = MappingProxyType({}),
    scans: Sequence[Pair | LowresScan] = (),
) -> Scope:
    """A scope whose artifacts are stored among the structural scans of a participant.

    `scans`: scans of one session with one resolution; empty: the pairs of the participant.
    """
    scans = scans or subject.structural
    template = next(iter(planned.settings.preprocessing.templates), SPACES[0])
    return outer.within(
        name,
        entities={
            **entities_of_scans(planned.settings, subject, scans),
            "datatype": "anat",
        },
        provenance=dict(provenance),
        suffixes=_suffixes(scans),
        anat_scale=planned.settings.superres.scaling_of_scans,
        template_space=template,
    )


def _add_prepared(root: Scope, planned: Planned, subject: Subject) -> Scope:
    """The scans of one head in one frame."""
    scope = _scope(root, scope_of(f"sub-{subject.label}_scans"), planned, subject)
    scope.give(
        highres_files=[pair.highres for pair in subject.structural],
        lowres_files=[pair.lowres for pair in subject.structural],
    )
    scope.add(load_template, structural.prepare_scans)
    return scope


def _add_participant(
    root: Scope, planned: Planned, subject: Subject, prepared: Scope, heads: Mapping[str, Scope]
) -> None:
    """Add each method's network, what it makes of the prepared scans, and their metrics.

    Each network is trained on the heads that it learns from.
    """
    superres = planned.settings.superres
    scope = root.within(
        scope_of(f"sub-{subject.label}"),
        beside=(prepared,),
        entities={"subject": subject.label},
        provenance={},
        subject_facts=_facts(planned.settings, subject),
    )
    measured = _scope(scope, "measured", planned, subject, planned.made_by)
    if superres.lesion_template is not None:
        measured.give(given_lesion_template=superres.lesion_template)
    if (edited := lesion_reference(planned.settings, subject)) is not None:
        measured.give(given_wmh_reference=edited)
    learned: Wires = {
        "heads_fine": [head["fine_scans"] for head in heads.values()],
        "heads_coarse": [head["coarse_scans"] for head in heads.values()],
        "heads_masks": {f"sub-{label}": head["scan_mask"] for label, head in heads.items()},
    }
    _add_methods(planned, measured, scope, learned)
    measured.add(structural.measure_scans)
    scope.add(
        draw_anatomy.draw_scans,
        wires={name: measured[name] for name in ("scan_metrics", "scan_classes")},
    )
    scope.add(draw_anatomy.summarize_subject)


def _add_methods(planned: Planned, scans: Scope, figures: Scope, learned: Wires) -> None:
    """Add the network of each method, its scans, and figures that explain them.

    `scans`, `figures`: scopes that results and figures are added to. `learned`: heads that
    networks are trained on; empty if all are given.
    """
    superres = planned.settings.superres
    for method in superres.chosen:
        scope = scans.within(
            method,
            method=method,
            pretrained=pretrained_for(superres, method),
            recipe_changes=changes_of(superres.recipe_changes, method),
            vgg_weights=vgg_weights_for(superres, method),
            model_dir=superres.models_to_reuse(planned.settings.paths.output_dir),
        )
        scope.add(structural.train_on_scans, wires=learned)
        scope.add(structural.super_resolve_scans)
        figures.add(
            draw_anatomy.explain_scans,
            name=f"explain_{method}",
            wires={name: scope[name] for name in _MODEL},
            rename={"explain_scans": f"explain_{method}"},
            method_label=method if len(superres.chosen) > 1 else "",
        )


def _add_lowres(root: Scope, planned: Planned, subject: Subject) -> None:
    """Add super-resolved scans of each session of a participant with low-resolution scans only."""
    settings = planned.settings
    given = input_of_models(settings.superres)
    assert given is not None, "participants without high-resolution scans require trained models"
    scope = root.within(
        scope_of(f"sub-{subject.label}"),
        entities={"subject": subject.label},
        provenance={},
        subject_facts={
            "Participant": subject.label,
            "Target": "structural scans (low resolution only)",
            "Contrasts used together": list(given.contrasts),
            "Scans": [scan.path.name for scans in subject.lowres for scan in scans],
            "Alignment of the scans": settings.superres.anat_align,
            "Intensities": settings.superres.scaling_of_scans,
            "Methods": list(settings.superres.chosen),
            "Trained on": "other participants (see the model card)",
            "Random seed": settings.resources.random_seed,
        },
    )
    for scans in subject.lowres:
        session = entities_of(scans[0].path).get("session", "")
        name = f"lowres_{session}" if session else "lowres"
        own = _scope(scope, name, planned, subject, planned.made_by, scans)
        prepared = own.within("prepared", grid_mm=given.mm, grid_orientation=given.orientation)
        prepared.give(lowres_files=[scan.path for scan in scans])
        prepared.add(load_template, structural.prepare_lowres)
        made = own.within("made", beside=(prepared,))
        _add_methods(planned, made, made, {})
        made.add(draw_anatomy.draw_lowres, session=session)
    scope.add(draw_anatomy.summarize_subject)


def _add_controls(root: Scope, planned: Planned, subject: Subject) -> None:
    """Add tissue volumes of each session of a participant with high-resolution scans only."""
    settings = planned.settings
    scope = root.within(
        scope_of(f"sub-{subject.label}"),
        entities={"subject": subject.label},
        provenance={},
        subject_facts={
            "Participant": subject.label,
            "Target": "structural scans (high resolution only)",
            "Scans": [scan.highres.name for scans in subject.controls for scan in scans],
            "Alignment of the scans": settings.superres.anat_align,
            "Intensities": settings.superres.scaling_of_scans,
            "Random seed": settings.resources.random_seed,
        },
    )
    for scans in subject.controls:
        session = entities_of(scans[0].highres).get("session", "")
        name = f"control_{session}" if session else "control"
        own = _scope(scope, name, planned, subject, planned.made_by, scans)
        own.give(highres_files=[scan.highres for scan in scans])
        if settings.superres.lesion_template is not None:
            own.give(given_lesion_template=settings.superres.lesion_template)
        own.add(load_template, structural.prepare_control, structural.measure_control)
        own.add(draw_anatomy.draw_control, session=session)
    scope.add(draw_anatomy.summarize_subject)


def _facts(settings: Settings, subject: Subject) -> dict[str, object]:
    """What was found and what will be done, for the first section of the report."""
    others = settings.superres.train_on == "others"
    return {
        "Participant": subject.label,
        "Target": "structural scans",
        "Contrasts used together": list(_suffixes(subject.structural)),
        "Scans": [path.name for pair in subject.structural for path in pair.images],
        "Alignment of the scans": settings.superres.anat_align,
        "Intensities": settings.superres.scaling_of_scans,
        "Methods": list(settings.superres.chosen),
        "Trained on": "all other participants of this command" if others else "the same scans",
        "Training recipe": settings.superres.recipe_text,
        "Random seed": settings.resources.random_seed,
    }


def spaces_of(planned: Planned, *, with_anat: bool) -> tuple[Space, ...]:
    """Return the spaces that a run has results in.

    Without a T1w image that is its own alone, else those that were requested.
    """
    asked = planned.settings.preprocessing.spaces
    return asked if with_anat else (Space(name=FUNC),)


def add_other_spaces(anat: Scope, planned: Planned, subject: Subject) -> None:
    """Add what leads from the T1w image to the spaces that results are asked for in.

    `subject`: participant, whose transforms and surfaces may be given.
    """
    surfaces = {} if subject.precomputed is None else subject.precomputed.surfaces
    by_spheres = {"white", "pial", "sphere"} <= surfaces.keys()
    preprocessing = planned.settings.preprocessing
    through = () if by_spheres or FSAVERAGE not in preprocessing.spaces else (FSAVERAGE.template,)
    _add_templates(anat, dict.fromkeys(preprocessing.templates + through), subject)
    templates = _templates(anat)
    ribbon = [path for name in ("white", "pial") for path in surfaces.get(name, ())]
    ending = "hemi-{}_den-10k_white.surf.gii"
    whites = {
        "fsnative": [planned.uri(path) for path in ribbon[:2]],
        FSAVERAGE.name: [template_uri(FSAVERAGE.name, ending=ending.format(s)) for s in "LR"],
    }
    for space in preprocessing.spaces:
        if space.name in (FUNC, T1W):
            continue
        space_scope = anat.within(
            "_".join(["anat_in", *space.entities.values()]) + "_wf",
            beside=(templates.get(space.template, anat),),
            space_entities=space.entities,
            resolution=space.resolution,
            template_space=space.template,
            surface_uris=whites.get(space.name, ()),
        )
        if space.is_template:
            space_scope.add(anatomy.mask_in_template)
        elif space == FSAVERAGE:
            if by_spheres:
                space_scope.give(given_surfaces=ribbon, given_spheres=list(surfaces["sphere"]))
            space_scope.add(registration.place_fsaverage)
        else:
            space_scope.give(surfaces=ribbon)


def _add_templates(anat: Scope, templates: Iterable[str], subject: Subject) -> None:
    """Register the T1w image to the templates beyond the first, each in a scope of its own."""
    precomputed = subject.precomputed
    for template in templates:
        if template == anat.setting("template_space"):
            continue
        template_scope = anat.within(
            f"template_{template.replace('+', '_')}_wf", template_space=template
        )
        template_scope.add(anatomy.load_template, quiet=True)
        if precomputed is not None and template in precomputed.spaces:
            there, back = precomputed.spaces[template]
            template_scope.give(given_t1w2std_xfm=there, given_std2t1w_xfm=back)
            template_scope.add(imported.show_in_template, quiet=True)
        else:
            template_scope.add(anatomy.find_start, anatomy.normalize_t1w, quiet=True)


def _templates(anat: Scope) -> dict[object, Scope]:
    """Scopes with the transforms to a template, by its name."""
    return {
        one.setting("template_space"): one for one in anat.inward() if "t1w2std_xfm" in one.makers
    }


def add_spaces(run: RunOf, anat: Scope) -> list[Maker]:
    """Add the run's grids in the requested spaces, and return the steps that make them.

    The images that describe the grids are placed with them.

    Makers of the grids; empty where no other space was requested.
    """
    spaces = spaces_of(run.planned, with_anat=True)
    placed_spaces = [space for space in spaces if space.name != FUNC and not space.is_surface]
    templates = _templates(anat)
    grids = []
    for space in placed_spaces:
        space_scope = run.scope.within(
            "_".join(["space", *space.entities.values()]) + "_wf",
            beside=(templates.get(space.template, anat),),
            space_entities=space.entities,
            resolution=space.resolution,
            template_space=space.template,
        )
        space_scope.add(
            registration.grid_in_template if space.is_template else registration.grid_in_t1w
        )
        grids.append(space_scope["space_grid"])
    if grids:
        run.scope.say(
            Part.SERIES, registration.spaces_text([str(space) for space in placed_spaces])
        )
    return grids


def show_spaces(run: RunOf) -> None:
    """Show the primary series' reference and brain in each space, once the series is there."""
    scope = run.scope
    series = run.series[str(scope.setting("primary"))]
    series.add(anatomy.average_series, keep=bool(scope.setting("in_func")))
    # of which the series itself is made
    for grid in [each for each in scope.inner if "space_grid" in each.makers]:
        own = scope.within(
            f"shown_in_{grid.name}", beside=(grid,), space_entities=grid.setting("space_entities")
        )
        own.add(anatomy.show_in_space, wires={"series_mean": series["series_mean"]})
