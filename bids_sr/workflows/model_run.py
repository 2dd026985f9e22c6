"""Linear model of a BOLD run, with its region of interest and output grids."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

from bids_sr.config.spaces import FUNC, Space
from bids_sr.engine.artifacts import Confounds, Facts, Mask, Series
from bids_sr.engine.flow import add_methods_text, describe_step, subworkflow
from bids_sr.engine.outputs import Outputs
from bids_sr.engine.step import Part
from bids_sr.glm.regressors import Regressors
from bids_sr.glm.steps import region_growth, seeds, spaces, task_events
from bids_sr.glm.steps.linear_models import DesignInputs, LinearModel
from bids_sr.glm.steps.seeds import SeedTemplate
from bids_sr.io.frozen import frozen
from bids_sr.io.grids import BOLDREF
from bids_sr.io.series import ACQUIRED
from bids_sr.preproc.steps import imported, run_confounds, temporal_model
from bids_sr.spatial.output_grids import OutputGrid
from bids_sr.sr.steps import resampled_series
from bids_sr.workflows.anatomy import Anatomy
from bids_sr.workflows.fit_run import FittedRun
from bids_sr.workflows.run_plan import RunPlan

_SERIES_ENTITIES = frozenset({"echo", "part", "chunk"})
"""Entities of series that BIDS does not allow in names of events tables."""


@frozen
class RunModel:
    """Result of `model_run`: everything that all series of a run are mapped with.

    The model is made from `preproc`, the motion-corrected acquired series. `linear` is
    the linear model, with events, or time series of seeds or components. `censoring` has the
    censored volumes; None if there is no temporal model. `roi` and `roi_hr` are the region of
    interest on the acquired and on the high-resolution grid, after region growing if requested.
    `grids` are in other spaces.
    """

    preproc: Series
    linear: LinearModel
    roi: Mask
    roi_hr: Mask
    grids: Mapping[Space, OutputGrid]
    censoring: Facts | None = None

    @property
    def confounds(self) -> Confounds:
        """Confounds of the run, one row per volume."""
        confounds = self.linear.inputs.confounds
        assert confounds is not None, "the program always computes or imports confounds"
        return confounds


@frozen
class ModeledRun:
    """Run with its plan, estimates, and linear model; `anat` is None if missing."""

    plan: RunPlan
    fitted: FittedRun
    model: RunModel
    anat: Anatomy | None


def model_run(
    plan: RunPlan, fitted_run: FittedRun, anat: Anatomy | None, outputs: Outputs
) -> ModeledRun:
    """Make the linear model, the region of interest and the output grids of a run.

    `anat` is None if missing.
    """
    grids = {} if anat is None else _make_output_grids(plan, fitted_run, anat)
    preproc = resample_acquired(fitted_run)
    outputs.store(
        preproc,
        {"space": BOLDREF, "desc": ACQUIRED, "suffix": "bold"},
        sidecar=make_series_sidecar(plan, ACQUIRED),
        facts=fitted_run.outliers,
        level="minimal",
    )
    confounds, censoring = _prepare_confounds(plan, fitted_run, preproc, outputs)
    regressors = _find_regressors(plan, fitted_run, anat, preproc, confounds, outputs)
    inputs = DesignInputs(
        regressors=regressors,
        confounds=confounds,
        n_dummy=fitted_run.n_dummy,
        design=plan.design,
    )
    roi, roi_hr = _grow_region(plan, fitted_run, preproc, inputs, outputs)
    run_model = RunModel(
        preproc=preproc,
        linear=LinearModel(inputs=inputs, contrasts=plan.contrasts, nuisance=plan.nuisance),
        roi=roi,
        roi_hr=roi_hr,
        grids=grids,
        censoring=censoring,
    )
    return ModeledRun(plan=plan, fitted=fitted_run, model=run_model, anat=anat)


def _grow_region(
    plan: RunPlan, fitted_run: FittedRun, preproc: Series, inputs: DesignInputs, outputs: Outputs
) -> tuple[Mask, Mask]:
    """Return the region of interest on both grids of a run, grown around active voxels if asked.

    A grown region is stored.
    """
    roi, roi_hr = fitted_run.roi_bold, fitted_run.roi_bold_hr
    if not plan.regions.is_grown:
        return roi, roi_hr
    roi, roi_hr, grown_facts = region_growth.grow_region(
        preproc,
        fitted_run,
        roi,
        roi_hr,
        # correlations only use the conditions, so that growth does not depend on drift
        replace(inputs, design=replace(inputs.design, high_pass=0.0)),
        contrasts=plan.contrasts,
        smoothing=plan.maps.smoothing,
        low_pass=plan.maps.low_pass,
    )
    add_methods_text(Part.MAPS, region_growth.describe_growth(plan.maps.smoothing))
    outputs.store(
        roi, {"space": BOLDREF, "label": "roigrown", "suffix": "mask"}, facts=grown_facts
    )
    return roi, roi_hr


def _make_output_grids(
    plan: RunPlan, fitted_run: FittedRun, anat: Anatomy
) -> dict[Space, OutputGrid]:
    """Compute the grids of a run in the requested volumetric spaces, except its own space."""
    xfm = fitted_run.boldref2t1w_xfm
    assert xfm is not None, "with a T1w image, the run is registered to it"
    grids: dict[Space, OutputGrid] = {}
    for space in plan.spaces:
        if space.name == FUNC or space.is_surface:
            continue
        with subworkflow("_".join(["space", *space.entities.values()]) + "_wf"):
            if space.is_template:
                template = anat.templates[space.template]
                grids[space] = spaces.grid_in_template(
                    fitted_run.boldref,
                    template.template_mask,
                    xfm,
                    template.t1w2std_xfm,
                    factor=fitted_run.factor,
                    template_space=space.template,
                    resolution=space.resolution,
                    space_entities=space.entities,
                )
            else:
                grids[space] = spaces.grid_in_t1w(
                    fitted_run.boldref,
                    anat.t1w_mask,
                    xfm,
                    factor=fitted_run.factor,
                    space_entities=space.entities,
                )
    if grids:
        add_methods_text(Part.SERIES, spaces.describe_spaces([str(space) for space in grids]))
    return grids


def resample_acquired(fitted_run: FittedRun) -> Series:
    """Correct head motion of the acquired series of a run."""
    return resampled_series.correct_motion(
        fitted_run.stc,
        fitted_run.boldref,
        fitted_run.hmc_xfms,
        fitted_run.distortion,
    )


def make_series_sidecar(plan: RunPlan, name: str, resolution: str = "") -> dict[str, object]:
    """Return the sidecar of a series of a run.

    `resolution` describes the resolution; "" for the acquired grid.
    """
    grid_text = (
        "on the acquired grid"
        if name == ACQUIRED
        else f"on the high-resolution grid, computed with {name}"
    )
    smoothing = plan.correction.input_smoothing
    return {
        "Description": f"BOLD series corrected for head motion, {grid_text}",
        "TaskName": plan.task_name,
        "RepetitionTime": plan.bold.tr,
        "SkullStripped": False,
        **({"InputSmoothingFWHM": smoothing} if smoothing else {}),
        "SliceTimingCorrected": plan.corrects_slice_timing or plan.bold.is_corrected,
        "StartTime": round(plan.correction.start_time, 6),
        **({"Resolution": resolution} if resolution else {}),
    }


def _prepare_confounds(
    plan: RunPlan, fitted_run: FittedRun, preproc: Series, outputs: Outputs
) -> tuple[Confounds, Facts | None]:
    """Compute or import the confounds of a run, and add the columns of a temporal model.

    Returns the confounds and the censored volumes; None if the run has no temporal model.
    """
    confounds, columns = _gather_confounds(plan, fitted_run, preproc)
    censoring = None
    if plan.temporal is not None:
        confounds, columns, _, censoring = temporal_model.add_temporal_regressors(
            confounds,
            columns,
            model=plan.temporal,
            high_pass=plan.design.high_pass,
            n_regressors=plan.n_regressors,
            nuisance=plan.nuisance,
            at_rest=plan.at_rest,
            tr=plan.bold.tr,
            n_dummy=fitted_run.n_dummy,
        )
        add_methods_text(
            Part.PREPROCESSING,
            temporal_model.describe_time_model(plan.temporal),
            output=confounds,
            describe=partial(temporal_model.describe_censored, plan.temporal),
        )
        outputs.store(censoring, {"desc": "censoring", "suffix": "metrics"}, level="minimal")
    outputs.store(
        confounds,
        {"desc": "confounds", "suffix": "timeseries"},
        facts=columns,
        exported_as={},
        level="minimal",
    )
    return confounds, censoring


def _gather_confounds(
    plan: RunPlan, fitted_run: FittedRun, preproc: Series
) -> tuple[Confounds, Facts]:
    """Compute or import the confounds of a run, with the description of their columns."""
    precomputed = plan.bold.precomputed
    if precomputed is not None and precomputed.confounds is not None:
        origin = precomputed.origin.text
        add_methods_text(Part.PREPROCESSING, imported.describe_confounds(origin))
        return imported.import_confounds(
            precomputed.confounds, fitted_run.outliers, origin=origin, n_dummy=fitted_run.n_dummy
        )
    return run_confounds.gather_confounds(
        preproc,
        fitted_run,
        fitted_run.motion,
        fitted_run.tpms_bold,
        fitted_run.registration_facts,
        n_dummy=fitted_run.n_dummy,
        settings=plan.confounds,
    )


def _find_regressors(
    plan: RunPlan,
    fitted_run: FittedRun,
    anat: Anatomy | None,
    preproc: Series,
    confounds: Confounds,
    outputs: Outputs,
) -> Regressors:
    """Return the events of a task run, or seed or component time series of a resting-state run."""
    if plan.bold.events is not None:
        # other programs search the events next to the series
        outputs.store(
            task_events.copy_events(plan.bold.events),
            {"suffix": "events", **dict.fromkeys(_SERIES_ENTITIES & outputs.entities.keys(), "")},
            sidecar={"Description": "Events of the run, as in the linear model"}
            | dict(plan.bold.events_sidecar),
            exported_as={},
            level="minimal",
        )
        return task_events.select_events(
            plan.bold.events, levels=plan.bold.levels, pauses=plan.bold.pauses
        )
    if plan.seeds:
        regressors, columns = seeds.seed_series(
            preproc,
            fitted_run.bold_mask,
            confounds,
            template=make_seed_template(plan, fitted_run, anat),
            seeds=plan.seeds,
            n_dummy=fitted_run.n_dummy,
            design=plan.design,
            nuisance=plan.nuisance,
        )
        describe = partial(seeds.describe_seeds, plan.seeds, plan.atlas)
        describe_step(Part.PREPROCESSING, regressors, describe)
    else:
        regressors, columns = seeds.component_series(
            preproc,
            fitted_run.bold_mask,
            confounds=confounds,
            n_dummy=fitted_run.n_dummy,
        )
        add_methods_text(Part.PREPROCESSING, seeds.COMPONENTS_TEXT)
    outputs.store(regressors, {"desc": "seeds", "suffix": "timeseries"}, facts=columns)
    return regressors


def make_seed_template(plan: RunPlan, fitted_run: FittedRun, anat: Anatomy | None) -> SeedTemplate:
    """Return the transforms from a run to the template, and the atlas if seeds have labels."""
    if anat is None:
        return SeedTemplate()
    xfm, template = fitted_run.boldref2t1w_xfm, anat.template.t1w2std_xfm
    atlas = anat.atlas if any(seed.labels for seed in plan.seeds) else None
    return SeedTemplate(boldref2t1w_xfm=xfm, t1w2std_xfm=template, atlas=atlas)
