"""Results in spaces other than a run's: registration to further templates, and grids.

The grids are in T1w and in templates; surfaces are those of the participant or of fsaverage.
"""

from collections.abc import Iterable

from bids_sr.bids import (
    Subject,
)
from bids_sr.config.spaces import FSAVERAGE, FUNC, T1W, Space
from bids_sr.io.dataset_description import template_uri
from bids_sr.pipeline.graph import Maker, Scope
from bids_sr.pipeline.step import Part
from bids_sr.steps import anatomy, imported, registration
from bids_sr.workflows.wanted import Planned, RunOf


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
            space=space,
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
