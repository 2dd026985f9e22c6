"""Reference images of the primary series in the output spaces."""

from bids_sr.engine.artifacts import Series
from bids_sr.engine.flow import subworkflow
from bids_sr.engine.outputs import Outputs
from bids_sr.io.grids import BOLDREF
from bids_sr.report import primary_dataset
from bids_sr.workflows.model_run import ModeledRun


def show_spaces(run: ModeledRun, primary: Series, outputs: Outputs) -> None:
    """Store the mean image of the primary series in each output space, and brain masks.

    In the space of the run, only the mean image is stored, because `fit_run` exports the mask.

    `primary` is on the high-resolution grid.
    """
    plan = run.plan
    with subworkflow(f"{plan.primary}_shown", high_resolution=True):
        mean = primary_dataset.average_series(primary, n_dummy=run.fitted.n_dummy)
        if plan.in_func:
            outputs.store(
                mean,
                {"space": BOLDREF, "suffix": "boldref"},
                sidecar=primary_dataset.SERIES_MEAN_SIDECAR,
                exported_only=True,
            )
    for space, grid in run.model.grids.items():
        with subworkflow("_".join(["shown_in", *space.entities.values()]) + "_wf"):
            boldref, mask = primary_dataset.show_in_space(mean, run.fitted.bold_mask_hr, grid)
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
