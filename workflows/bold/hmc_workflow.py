"""Head motion, reference, slice timing and confounds of one BOLD run; nothing is interpolated in space here."""

from nipype.pipeline import engine as pe
from niworkflows.engine.workflows import LiterateWorkflow

from bids_sr.interfaces.head_motion import (
    BoldMask,
    Confounds,
    EstimateDummies,
    EstimateMotion,
    ImportSeries,
    MakeBoldRef,
    SliceTiming,
)
from bids_sr.interfaces.precomputed_inputs import FieldToShift, ImportConfounds, ImportMotion
from bids_sr.workflows.plans import Acquisition, Precomputed
from bids_sr.workflows.wiring import Part, new_stage, one_step, same, set_given


def init_motion_wf(*, acquisition: Acquisition, name: str = "motion_wf") -> LiterateWorkflow:
    """Estimate head motion on the acquired series, or take it over; correct slice timing in time only.

    Inputs
    ------
    bold_file : series as acquired

    Outputs
    -------
    n_dummy : volumes at the start that are not steady
    boldref : mean of realigned steady volumes, on the acquired grid; free of distortion where there is a field map
    hmc_xfms : ITK text, one affine a volume, takes a boldref point to where it lies in that volume
    motion_tsv : six motion parameters (mm, rad) a volume
    stc_file : series on the acquired grid, slices brought to one time where slice times are given
    shift_map : distortion of the volumes, only with a field map
    """
    precomputed, times = acquisition.precomputed, acquisition.slice_times
    text = _motion_text(acquisition.n_dummy)
    if precomputed is not None:
        text = _precomputed_text(precomputed, acquisition.corrected)
    if times is not None:
        text += (
            "Slice timing was corrected by cubic spline interpolation in time, to "
            f"{acquisition.slice_time_ref:g} of the slice acquisition range (0: first slice, 1: last). "
        )
    outputs = ["n_dummy", "boldref", "hmc_xfms", "motion_tsv", "stc_file"]
    if acquisition.corrected:
        outputs.append("shift_map")
    workflow, inputnode, outputnode = new_stage(
        name, text, inputs=["bold_file"], outputs=outputs, part=Part.PREPROCESSING
    )
    imported = pe.Node(ImportSeries(axis_order=acquisition.axis_order, tr=acquisition.tr), name="import_series")
    dummies = pe.Node(EstimateDummies(), name="dummies")
    set_given(dummies, {"n_dummy": acquisition.n_dummy})
    if precomputed is None:
        motion = pe.Node(EstimateMotion(), name="estimate_motion")
        boldref = pe.Node(MakeBoldRef(), name="boldref")
        mask = pe.Node(BoldMask(), name="bold_mask")
        workflow.connect([
            (imported, boldref, same(out_file="in_file")),
            (dummies, boldref, same("n_dummy")),
            (boldref, mask, same(out_file="boldref")),
            (boldref, motion, same(out_file="boldref")),
            (mask, motion, same(out_mask="mask")),
            (boldref, outputnode, same(out_file="boldref")),
        ])  # fmt: skip
    else:
        motion = pe.Node(ImportMotion(axis_order=acquisition.axis_order), name="import_motion")
        kept = precomputed.files.get("hmc_xfms")
        set_given(motion, {"hmc_xfms": kept} if kept else {"in_table": precomputed.files["confounds_tsv"]})
        workflow.connect([(motion, outputnode, same("boldref"))])
    if precomputed is not None and acquisition.corrected:
        shift = pe.Node(
            FieldToShift(
                phase_encoding=acquisition.phase_encoding, readout=precomputed.readout,
                fieldmap=precomputed.files["fieldmap"], boldref2fmap_xfm=precomputed.files["boldref2fmap_xfm"],
            ),
            name="shift",
        )  # fmt: skip
        workflow.connect([
            (imported, shift, same(out_file="in_file")),
            (shift, motion, same("shift_map")),
            (shift, outputnode, same("shift_map")),
        ])  # fmt: skip
    if times is None:
        workflow.connect([(imported, outputnode, same(out_file="stc_file"))])
    else:
        timing = pe.Node(SliceTiming(slice_times=list(times), ref_fraction=acquisition.slice_time_ref),
                         name="slice_timing")  # fmt: skip
        workflow.connect([
            (imported, timing, same(out_file="in_file")),
            (dummies, timing, same("n_dummy")),
            (timing, outputnode, same(out_file="stc_file")),
        ])  # fmt: skip
    workflow.connect([
        (inputnode, imported, same(bold_file="in_file")),
        (imported, dummies, same(out_file="in_file")),
        (imported, motion, same(out_file="in_file")),
        (dummies, motion, same("n_dummy")),
        (dummies, outputnode, same("n_dummy")),
        (motion, outputnode, same("hmc_xfms", "motion_tsv")),
    ])  # fmt: skip
    return workflow


def _motion_text(n_dummy: int | None) -> str:
    if n_dummy is None:
        dummies = "Volumes before the steady state were detected from the global signal"
    else:
        dummies = f"The first {n_dummy} volumes were taken as not in steady state"
    return (
        f"{dummies} and left out of all estimates. The reference of the run is the mean of steady volumes after "
        "registration to one another. Rigid head motion of each volume against it was estimated by Gauss-Newton "
        "minimization of squared differences with the gradients of the reference [@bakermatthews2004], together with a "
        "gain and a quadratic intensity bias; volumes were not resampled at this stage. "
    )


def _precomputed_text(precomputed: Precomputed, corrected: bool) -> str:
    what = "the head-motion transforms of the run"
    if "hmc_xfms" not in precomputed.files:
        what = "the head motion of the run, its transforms rebuilt from the six parameters that MCFLIRT reported"
    text = (
        f"Taken over from {precomputed.origin} [@fmriprep]: {what}; volumes were not resampled at this stage. The "
        "reference of the run is the mean of steady volumes that they bring into register. "
    )
    if corrected:
        text += (
            f"Its field map was taken over from {precomputed.origin} too: the shift of the signal along phase "
            "encoding, field times total readout time, was undone by the same interpolation as head motion, without "
            "changing intensities; networks saw the distorted volumes as acquired, and guides were carried into them. "
        )
    return text


def init_confounds_wf(
    *, with_anat: bool, precomputed: Precomputed | None = None, name: str = "confounds_wf"
) -> LiterateWorkflow:
    """Gather the confounds of one run, or take them over.

    Parameters
    ----------
    precomputed : with the table of another program (under the names of fMRIPrep), or None

    Inputs
    ------
    n_dummy : volumes at the start that are not steady
    preproc_file, bold_mask : motion-corrected series on the acquired grid, and its brain; these and what follows only
        where no table is given
    tpms_bold, registration_json : gray matter, white matter, cerebrospinal fluid on its grid, and whether the brain
        that they come from is doubtful; only with a T1w image
    motion_tsv : six motion parameters a volume

    Outputs
    -------
    confounds_tsv, confounds_json : one row a volume; description and unit of each column
    """
    if precomputed is None:
        text = (
            "Confounds were the six motion parameters with their backward differences, framewise displacement and "
            "DVARS [@power2012], standardized DVARS [@nichols2017], the mean signals of brain, white matter and "
            "cerebrospinal fluid, and the first five components of anatomical CompCor [@behzadi2007]. "
        )
        step = pe.Node(Confounds(), name="confounds")
        inputs = same("motion_tsv", "n_dummy", preproc_file="in_file", bold_mask="mask")
        if with_anat:
            inputs += same("registration_json", tpms_bold="tpms")
    else:
        text = (
            f"Taken over from {precomputed.origin} [@fmriprep]: the confounds, namely motion parameters with their "
            "differences, framewise displacement and DVARS [@power2012], mean signals of brain and tissues, and the "
            "first five components of anatomical CompCor [@behzadi2007]. "
        )
        step = pe.Node(ImportConfounds(origin=precomputed.origin, in_file=precomputed.files["confounds_tsv"]),
                       name="import_confounds")  # fmt: skip
        inputs = same("n_dummy")
    return one_step(
        name, text, step, part=Part.PREPROCESSING,
        inputs=inputs, outputs=same(out_file="confounds_tsv", out_json="confounds_json"),
    )  # fmt: skip
