"""Grids in further output spaces, and reference images of the primary series on these grids."""

from collections.abc import Mapping

from bids_sr.config.spaces import FUNC, Space
from bids_sr.io.grids import BOLDREF
from bids_sr.pipeline.artifacts import Series, SpaceGrid
from bids_sr.pipeline.flow import add_methods_text, subworkflow
from bids_sr.pipeline.outputs import Outputs
from bids_sr.pipeline.step import Part
from bids_sr.steps import primary_dataset, spaces
from bids_sr.workflows.anatomy import Anatomy
from bids_sr.workflows.fit_run import FittedRun
from bids_sr.workflows.run_plan import RunPlan


def make_output_grids(
    plan: RunPlan, fitted_run: FittedRun, anat: Anatomy
) -> dict[Space, SpaceGrid]:
    """Compute the grids of a run in the requested volumetric spaces, except its own space."""
    boldref, xfm = fitted_run.motion.boldref, fitted_run.registration.boldref2t1w_xfm
    assert xfm is not None, "with a T1w image, the run is registered to it"
    grids: dict[Space, SpaceGrid] = {}
    for space in plan.spaces:
        if space.name == FUNC or space.is_surface:
            continue
        with subworkflow("_".join(["space", *space.entities.values()]) + "_wf"):
            if space.is_template:
                template = anat.templates[space.template]
                grids[space] = spaces.grid_in_template(
                    boldref,
                    template.template_mask,
                    xfm,
                    template.t1w2std_xfm,
                    factor=plan.bold.factor,
                    template_space=space.template,
                    resolution=space.resolution,
                    space_entities=space.entities,
                )
            else:
                grids[space] = spaces.grid_in_t1w(
                    boldref,
                    anat.t1w_mask,
                    xfm,
                    factor=plan.bold.factor,
                    space_entities=space.entities,
                )
    if grids:
        add_methods_text(Part.SERIES, spaces.describe_spaces([str(space) for space in grids]))
    return grids


def show_spaces(
    plan: RunPlan,
    fitted_run: FittedRun,
    primary: Series,
    grids: Mapping[Space, SpaceGrid],
    outputs: Outputs,
) -> None:
    """Store the mean image of the primary series in each output space, and brain masks.

    In the space of the run, only the mean image is stored, because `fit_run` exports the mask.

    `primary` is on the high-resolution grid, and `grids` are in other spaces.
    """
    with subworkflow(f"{plan.primary}_shown", high_resolution=True):
        mean = primary_dataset.average_series(primary, n_dummy=fitted_run.n_dummy)
        if plan.in_func:
            outputs.store(
                mean,
                {"space": BOLDREF, "suffix": "boldref"},
                sidecar=primary_dataset.SERIES_MEAN_SIDECAR,
                exported_only=True,
            )
    for space, grid in grids.items():
        with subworkflow("_".join(["shown_in", *space.entities.values()]) + "_wf"):
            boldref, mask = primary_dataset.show_in_space(
                mean, fitted_run.registration.bold_mask_hr, grid
            )
            outputs.store(
                boldref,
                {**space.entities, "suffix": "boldref"},
                sidecar=primary_dataset.SPACE_BOLDREF_SIDECAR,
                exported_only=True,
            )
            outputs.store(
                mask,
                {**space.entities, "desc": "brain", "suffix": "mask"},
                sidecar=primary_dataset.SPACE_MASK_SIDECAR,
                exported_only=True,
            )
