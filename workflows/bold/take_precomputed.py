"""Precomputed anatomy, head motion and confounds (fMRIPrep), with the outputs of the workflows that estimate them."""

from __future__ import annotations

from nipype.interfaces import utility as niu
from nipype.pipeline import engine as pe
from niworkflows.engine.workflows import LiterateWorkflow

from bids_sr.interfaces.anat import DefineRegion, LoadTemplate, MaskBrain, NormalizeT1w, SegmentTissues
from bids_sr.interfaces.head_motion import EstimateDummies
from bids_sr.interfaces.precomputed_inputs import (
    FieldToShift,
    ImportAnat,
    ImportConfounds,
    ImportMotion,
    ShowInTemplate,
)
from bids_sr.interfaces.series_images import ImportSeries
from bids_sr.workflows.anat_preproc import REGIONS
from bids_sr.workflows.bold.hmc_workflow import timing_edges, timing_sentence
from bids_sr.workflows.bold.series_maps import Edges


def init_given_anat_wf(
    *,
    origin: str,
    template: str,
    roi: str,
    with_tissues: bool,
    with_transforms: bool,
    with_labels: bool,
    seed: int,
    sloppy: bool,
    name: str = "anat_wf",
) -> LiterateWorkflow:
    """Take over the anatomy, make what is missing of it, and bring atlas and region of interest to it.

    Parameters
    ----------
    origin : program and version that made the anatomy
    template : name of the space of the transforms, e.g. ``MNI152NLin2009cAsym``; it must be on this machine
    roi : ``motor``, ``brain`` or the path of a mask in T1w or template space
    with_tissues, with_transforms, with_labels : whether tissue maps, transforms to the template and labels are given
    seed : of everything random
    sloppy : coarser and quicker, for tests
    name : of the workflow

    Inputs
    ------
    t1w, mask
        T1w image without bias, and its brain
    tpms
        probabilities of GM, WM and CSF, only where they are given
    dseg
        tissues (1 GM, 2 WM, 3 CSF), only where they are given
    t1w2std_xfm, std2t1w_xfm
        resample T1w-space images into the template, and back; only where they are given

    Outputs
    -------
    t1w_preproc, t1w_mask
        T1w without bias, and its brain
    t1w_dseg, t1w_tpms
        tissues (1 GM, 2 WM, 3 CSF), and probabilities of GM, WM and CSF
    t1w2std_xfm, std2t1w_xfm
        transforms that resample T1w-space images into the template, and back
    roi_t1w, atlas_t1w
        region of interest and AAL2 labels on the T1w grid
    roi_source, roi_xfms
        region in the space in which it was given, and the transforms that take T1w points there (none in T1w space)
    template, template_mask, std_t1w
        skull-stripped template, its brain, and the T1w image in template space
    """
    workflow = LiterateWorkflow(name=name)
    workflow.__desc__ = _anat_text(origin, template, roi, with_tissues, with_transforms)
    fields = ["t1w", "mask", *["tpms"] * with_tissues, *["dseg"] * (with_tissues and with_labels)]
    both = ["t1w2std_xfm", "std2t1w_xfm"]
    inputnode = pe.Node(niu.IdentityInterface(fields=[*fields, *both * with_transforms]), name="inputnode")
    outputs = [
        "t1w_preproc", "t1w_mask", "t1w_dseg", "t1w_tpms", *both, "roi_t1w", "atlas_t1w", "roi_source", "roi_xfms",
        "template", "template_mask", "std_t1w",
    ]  # fmt: skip
    outputnode = pe.Node(niu.IdentityInterface(fields=outputs), name="outputnode")
    load_template = pe.Node(LoadTemplate(space=template), name="load_template", n_procs=1)
    anat = pe.Node(ImportAnat(), name="import_anat", n_procs=1)
    region = pe.Node(DefineRegion(roi=roi, seed=seed), name="region", n_procs=1)
    edges: Edges = [
        (inputnode, anat, [(field, field) for field in fields]),
        (anat, region, [("t1w", "t1w"), ("mask", "mask")]),
        (load_template, region, [("template", "template")]),
        (anat, outputnode, [("t1w", "t1w_preproc"), ("mask", "t1w_mask")]),
        (region, outputnode, [(f, f) for f in ("roi_t1w", "atlas_t1w", "roi_source", "roi_xfms")]),
        (load_template, outputnode, [("template", "template"), ("template_mask", "template_mask")]),
    ]
    if with_transforms:
        std = pe.Node(ShowInTemplate(seed=seed), name="std", n_procs=1)
        xfms: pe.Node = inputnode
        edges += [
            (anat, std, [("t1w", "t1w")]),
            (inputnode, std, [("t1w2std_xfm", "t1w2std_xfm")]),
            (load_template, std, [("template", "template")]),
        ]
    else:
        brain = pe.Node(MaskBrain(seed=seed, sloppy=sloppy), name="brain_for_start", n_procs=1)
        std = xfms = pe.Node(NormalizeT1w(seed=seed, sloppy=sloppy), name="normalize", n_procs=1)
        both_parts = [("template", "template"), ("template_mask", "template_mask")]
        edges += [
            (anat, brain, [("t1w", "in_file")]),
            (load_template, brain, both_parts),
            (anat, std, [("t1w", "t1w"), ("mask", "mask")]),
            (brain, std, [("affine_xfm", "affine_xfm")]),
            (load_template, std, both_parts),
        ]
    edges += [
        (xfms, region, [("std2t1w_xfm", "std2t1w_xfm")]),
        (xfms, outputnode, [(field, field) for field in both]),
        (std, outputnode, [("std_t1w", "std_t1w")]),
    ]
    workflow.connect([*edges, *_tissues(anat, xfms, load_template, outputnode, given=with_tissues, seed=seed)])
    return workflow


def _tissues(
    anat: pe.Node, xfms: pe.Node, load_template: pe.Node, outputnode: pe.Node, *, given: bool, seed: int
) -> Edges:
    """Tissue maps, given or told apart here."""
    if given:
        return [(anat, outputnode, [("dseg", "t1w_dseg"), ("tpms", "t1w_tpms")])]
    tissues = pe.Node(SegmentTissues(seed=seed), name="tissues", n_procs=1)
    return [
        (anat, tissues, [("t1w", "t1w"), ("mask", "mask")]),
        (load_template, tissues, [("priors", "priors")]),
        (xfms, tissues, [("std2t1w_xfm", "std2t1w_xfm")]),
        (tissues, outputnode, [("t1w_dseg", "t1w_dseg"), ("t1w_tpms", "t1w_tpms")]),
    ]


def _anat_text(origin: str, template: str, roi: str, with_tissues: bool, with_transforms: bool) -> str:
    """What was taken over and what was made, for the methods text."""
    taken = ["the preprocessed T1-weighted image", "its brain mask"]
    taken += ["its tissue maps"] * with_tissues + [f"its transforms to {template}"] * with_transforms
    text = f"Taken over from {origin} [@fmriprep]: {', '.join(taken[:-1])} and {taken[-1]}. "
    if not with_transforms:
        text += f"The T1-weighted image was registered to the {template} template [@icbm2009] by SyN in ANTs [@ants]. "
    if not with_tissues:
        text += (
            "Tissues were told apart by a Gaussian mixture with the template's maps as priors [@unifiedseg; @fast]. "
        )
    return text + f"The region of interest was {REGIONS.get(roi, 'a mask given by the user')}. "


def init_given_motion_wf(
    *,
    origin: str,
    n_dummy: int | None,
    slice_times: list[float] | None,
    slice_time_ref: float,
    phase_encoding: str | None,
    readout: float,
    name: str = "motion_wf",
) -> LiterateWorkflow:
    """Take over head motion and the field map of a run; correct slice timing in time only.

    Parameters
    ----------
    origin : program and version that estimated them
    n_dummy : volumes at the start that are not steady; None: detected
    slice_times : s after the start of a volume, one a slice as on disk; None: no slice-time correction
    slice_time_ref : time to which slices are brought, 0 (first slice) to 1 (last)
    phase_encoding : as BIDS has it, of a run with a field map; None: there is none
    readout : total readout time (s)
    name : of the workflow

    Inputs
    ------
    bold_file
        series as acquired
    hmc_xfms
        ITK text, one transform a volume, brings it onto the reference
    fieldmap, boldref2fmap_xfm
        field (Hz), and what brings the reference onto it; only with a field map

    Outputs
    -------
    n_dummy
        volumes at the start that are not steady
    boldref
        mean of steady volumes in the frame of the reference, free of distortion where there is a field map
    hmc_xfms
        ITK text, one transform a volume, takes a boldref point to where it lies in that volume
    motion_tsv
        six motion parameters (mm, rad) a volume
    stc_file
        series on the acquired grid, slices brought to one time where slice times are given
    shift_map
        distortion of the volumes, only with a field map
    """
    workflow = LiterateWorkflow(name=name)
    workflow.__desc__ = _motion_text(origin, phase_encoding is not None) + timing_sentence(slice_times, slice_time_ref)
    field = ["fieldmap", "boldref2fmap_xfm"] if phase_encoding is not None else []
    inputnode = pe.Node(niu.IdentityInterface(fields=["bold_file", "hmc_xfms", *field]), name="inputnode")
    made = ["boldref", "hmc_xfms", "motion_tsv"]
    outputs = ["n_dummy", *made, "stc_file", *["shift_map"] * bool(field)]
    outputnode = pe.Node(niu.IdentityInterface(fields=outputs), name="outputnode")
    imported = pe.Node(ImportSeries(), name="import_series", n_procs=1)
    dummies = pe.Node(EstimateDummies(), name="dummies", n_procs=1)
    if n_dummy is not None:
        dummies.inputs.n_dummy = n_dummy
    motion = pe.Node(ImportMotion(), name="import_motion", n_procs=1)
    edges: Edges = [
        (inputnode, imported, [("bold_file", "in_file")]),
        (inputnode, motion, [("hmc_xfms", "hmc_xfms")]),
        (imported, dummies, [("out_file", "in_file")]),
        (imported, motion, [("out_file", "in_file")]),
        (dummies, motion, [("n_dummy", "n_dummy")]),
        (dummies, outputnode, [("n_dummy", "n_dummy")]),
        (motion, outputnode, [(f, f) for f in made]),
    ]
    if phase_encoding is not None:
        shift = pe.Node(FieldToShift(phase_encoding=phase_encoding, readout=readout), name="shift", n_procs=1)
        edges += [
            (inputnode, shift, [(f, f) for f in field]),
            (imported, shift, [("out_file", "in_file")]),
            (shift, motion, [("shift_map", "shift_map")]),
            (shift, outputnode, [("shift_map", "shift_map")]),
        ]
    edges += timing_edges(imported, dummies, outputnode, slice_times, slice_time_ref)
    workflow.connect(edges)
    return workflow


def _motion_text(origin: str, corrected: bool) -> str:
    """What was taken over, for the methods text."""
    text = (
        f"Taken over from {origin} [@fmriprep]: the head-motion transforms of the run; volumes were not resampled at "
        "this stage. The reference of the run is the mean of steady volumes that they bring into register. "
    )
    if corrected:
        text += (
            f"Its field map was taken over from {origin} too: the shift of the signal along phase encoding, field "
            "times total readout time, was undone by the same interpolation as head motion, without changing "
            "intensities; networks saw the distorted volumes as acquired, and guides were carried into them. "
        )
    return text


def init_given_confounds_wf(*, origin: str, name: str = "confounds_wf") -> LiterateWorkflow:
    """Take over the confounds of one run.

    Parameters
    ----------
    origin : program and version that made them
    name : of the workflow

    Inputs
    ------
    confounds_file
        table, one row a volume, under the names of fMRIPrep
    n_dummy
        volumes at the start that are not steady

    Outputs
    -------
    confounds_tsv
        one row a volume
    confounds_json
        description and unit of each column
    """
    workflow = LiterateWorkflow(name=name)
    workflow.__desc__ = (
        f"Taken over from {origin} [@fmriprep]: the confounds, namely motion parameters with their differences, "
        "framewise displacement and DVARS [@power2012], mean signals of brain and tissues, and the first five "
        "components of anatomical CompCor [@behzadi2007]. "
    )
    inputnode = pe.Node(niu.IdentityInterface(fields=["confounds_file", "n_dummy"]), name="inputnode")
    outputnode = pe.Node(niu.IdentityInterface(fields=["confounds_tsv", "confounds_json"]), name="outputnode")
    confounds = pe.Node(ImportConfounds(origin=origin), name="import_confounds", n_procs=1)
    workflow.connect([
        (inputnode, confounds, [("confounds_file", "in_file"), ("n_dummy", "n_dummy")]),
        (confounds, outputnode, [("out_file", "confounds_tsv"), ("out_json", "confounds_json")]),
    ])  # fmt: skip
    return workflow
