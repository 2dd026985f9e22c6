"""One super-resolved, baseline or raw series of a run, and the measured one brought through the same steps."""

from collections.abc import Sequence

from nipype.pipeline import engine as pe
from niworkflows.engine.workflows import LiterateWorkflow

from bids_sr.interfaces.head_motion import ImportSeries, SliceTiming
from bids_sr.interfaces.learning.method_steps import SuperResolve
from bids_sr.series import BASELINES
from bids_sr.workflows.plans import Extra, RunPlan
from bids_sr.workflows.wiring import Part, new_stage, one_step, same, set_given


def series_inputs(series: str, run: RunPlan, extra: Extra | None = None) -> list[str]:
    """Inputs that a series needs of the run beside those of all, of the model and of the pair."""
    plan = run.series
    wanted = {
        "model_file": extra is not None or series in plan.trained,
        "highres": plan.takes_guide(series),
        "highres2boldref_xfm": plan.takes_guide(series),
        "temporal_file": series in plan.on_run,
        "precision": extra is None and series in plan.checked,
        "shift_map": run.acquisition.corrected,
    }
    return [field for field, needed in wanted.items() if needed]


def init_series_wf(
    *, series: str, run: RunPlan, extra: Extra | None = None, name: str = "series_wf"
) -> LiterateWorkflow:
    """One series of a run with head motion undone by a single interpolation: raw, a baseline or a method.

    Parameters
    ----------
    series : "raw" stays on the acquired grid, through the same code with a factor of 1; every other comes out on the
        boldref's high-resolution grid
    extra : the variant of the series that is made for the evaluation alone, or None

    Inputs
    ------
    stc_file : series on the acquired grid, corrected in time only
    boldref, bold_mask : reference of the run, and brain on that grid, which sets the intensity scale
    hmc_xfms : ITK text, one transform a volume
    model_file : weights, only of a method
    highres, highres2boldref_xfm : high-resolution image as acquired, and what takes a boldref point to its point; only
        where its static detail is added
    temporal_file : mean, standard deviation and components of the run, only with variance maps of it
    precision : of the network, only where a lower one was tried
    shift_map : distortion of the volumes, only where that is known; it is undone by the same interpolation

    Outputs
    -------
    series_file : in signal units
    consistency_file : one row a volume
    """
    plan, own = run.series, series_inputs(series, run, extra)
    threads = run.omp_nthreads if "model_file" in own else 1
    resolve = pe.Node(
        SuperResolve(
            series=series, factor=(1.0, 1.0, 1.0) if series == "raw" else run.acquisition.factor,
            data_consistency=plan.data_consistency if extra is None else "off", precision=plan.precision,
            device=plan.device if "model_file" in own else "cpu", threads=threads,
            force=plan.training.force or extra is not None,  # a placebo need not fit: that is what makes it one
        ),
        name="resolve", n_procs=threads,
    )  # fmt: skip
    set_given(resolve, {"displace": extra.displace or None if extra else None})
    return one_step(
        name, _series_text(series, series in plan.on_run, run.acquisition.corrected), resolve,
        part=Part.PREPROCESSING if series == "raw" else Part.SERIES,
        inputs=same("boldref", "hmc_xfms", *own, stc_file="in_file", bold_mask="mask"),
        outputs=same("consistency_file", out_file="series_file"),
    )  # fmt: skip


def _series_text(series: str, of_run: bool, corrected: bool) -> str:
    """Methods text of one series; baselines stand together in `series_text`."""
    if series == "raw":
        return f"The acquired series was resampled once on its own grid to undo {_undone(corrected)}. "
    if series in BASELINES:
        return ""
    if of_run:
        return (
            "The estimate for each volume, with the variance map moved to its head position, was added to the "
            "zero-filled volume outside the acquired band of k-space.\n"
        )
    return f"{series} was applied to every volume on its acquired grid.\n"


def _undone(corrected: bool) -> str:
    return f"head motion{' and susceptibility distortion together' if corrected else ''}"


def series_text(names: Sequence[str], corrected: bool) -> str:
    """Methods text of what all series beside the acquired one share, and of the baselines among them."""
    listed = [f"{BASELINES[name]} ({name})" for name in names if name in BASELINES]
    baselines = f" Baselines: {'; '.join(listed)}." if listed else ""
    return (
        "Every other series was brought to the high-resolution grid by a single interpolation of each volume, which "
        f"also undid {_undone(corrected)}.{baselines}\n"
    )


def init_truth_wf(*, run: RunPlan, name: str = "truth_wf") -> LiterateWorkflow:
    """Bring the measured run through slice timing and the head motion of the run under test.

    Nothing is estimated from the measured volumes, so that they stay a reference: transforms, brain mask and model are
    those of the run under test.

    Inputs
    ------
    truth_file : measured high-resolution series, as acquired
    n_dummy : volumes left out at the start, only with slice times of the measured run
    hmc_xfms : ITK text, one transform a volume, of the run under test
    shift_map : distortion of its volumes, only where that is known
    reference : image on the high-resolution grid of the boldref; its grid is taken

    Outputs
    -------
    series_file : on that grid, head motion undone by one interpolation, signal units
    consistency_file : one row a volume; n/a, as nothing was acquired beneath it
    """
    times = run.evaluation.truth_slice_times
    own = ["hmc_xfms", "shift_map"] if run.acquisition.corrected else ["hmc_xfms"]
    inputs = ["truth_file", "reference", *own]
    if times is not None:
        inputs.append("n_dummy")
    workflow, inputnode, outputnode = new_stage(
        name,
        "The measured high-resolution series went through the same slice timing correction, head motion transforms, "
        "single interpolation, mask and model as the series under test; nothing was estimated from it.\n",
        inputs=inputs, outputs=["series_file", "consistency_file"], part=Part.SERIES,
    )  # fmt: skip
    read = pe.Node(ImportSeries(axis_order=run.evaluation.truth_axis_order, tr=run.acquisition.tr), name="read")
    resample = pe.Node(SuperResolve(series="raw", factor=(1.0, 1.0, 1.0), data_consistency="off", threads=1),
                       name="resample")  # fmt: skip
    workflow.connect([
        (inputnode, read, same(truth_file="in_file")),
        (inputnode, resample, [("reference", "boldref"), ("reference", "mask"), *same(*own)]),
        (resample, outputnode, same("consistency_file", out_file="series_file")),
    ])  # fmt: skip
    if times is None:
        workflow.connect([(read, resample, same(out_file="in_file"))])
    else:
        timing = pe.Node(SliceTiming(slice_times=list(times), ref_fraction=run.acquisition.slice_time_ref),
                         name="slicetiming")  # fmt: skip
        workflow.connect([
            (inputnode, timing, same("n_dummy")),
            (read, timing, same(out_file="in_file")),
            (timing, resample, same(out_file="in_file")),
        ])  # fmt: skip
    return workflow
