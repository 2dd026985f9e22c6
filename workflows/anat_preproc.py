"""The T1w image of one participant: bias field, brain, template, tissues, atlas and region of interest."""

from __future__ import annotations

from nipype.interfaces import utility as niu
from nipype.pipeline import engine as pe
from niworkflows.engine.workflows import LiterateWorkflow

from bids_sr.interfaces.anat import (
    CorrectBias,
    DefineRegion,
    LoadTemplate,
    MaskBrain,
    NormalizeT1w,
    SegmentTissues,
)

REGIONS = {
    "motor": "the pre- and postcentral gyri and supplementary motor areas of the AAL2 atlas [@aal2]",
    "brain": "the whole brain",
}


def init_anat_wf(
    *, template: str, roi: str, omp_nthreads: int, seed: int, sloppy: bool, name: str = "anat_wf"
) -> LiterateWorkflow:
    """Prepare the T1w image and bring atlas and region of interest to it.

    Parameters
    ----------
    template : name of the space to register to, e.g. ``MNI152NLin2009aSym``; it must be on this machine
    roi : ``motor``, ``brain`` or the path of a mask in T1w or template space
    omp_nthreads : threads that one node may take; these take one each, because sums over threads are not reproducible
    seed : of everything random
    sloppy : coarser and quicker, for tests
    name : of the workflow

    Inputs
    ------
    t1w
        T1w image: head, defaced head or brain

    Outputs
    -------
    t1w_preproc, t1w_mask
        T1w without bias, and its brain
    t1w_dseg, t1w_tpms
        tissues (1 GM, 2 WM, 3 CSF), and probabilities of GM, WM and CSF
    t1w2std_xfm, std2t1w_xfm
        composite transforms that resample T1w-space images into the template, and back
    roi_t1w, atlas_t1w
        region of interest and AAL2 labels on the T1w grid
    roi_source, roi_xfms
        region in the space in which it was given, and the transforms that take T1w points there (none in T1w space)
    template, template_mask, std_t1w
        skull-stripped template, its brain, and the T1w image in template space
    """
    workflow = LiterateWorkflow(name=name)
    workflow.__desc__ = (
        "The T1-weighted image was corrected for intensity non-uniformity with N4 [@n4] and skull-stripped by carrying "
        f"over the brain mask of the {template} template [@icbm2009], fitted to the tissue. It was registered to the "
        "template by SyN in ANTs [@ants]; gray matter, white matter and CSF were told apart by a Gaussian mixture with "
        f"the template's tissue maps as priors [@unifiedseg; @fast]. The region of interest was "
        f"{REGIONS.get(roi, 'a mask given by the user')}. "
    )
    outputs = [
        "t1w_preproc", "t1w_mask", "t1w_dseg", "t1w_tpms", "t1w2std_xfm", "std2t1w_xfm", "roi_t1w", "atlas_t1w",
        "roi_source", "roi_xfms", "template", "template_mask", "std_t1w",
    ]  # fmt: skip
    inputnode = pe.Node(niu.IdentityInterface(fields=["t1w"]), name="inputnode")
    outputnode = pe.Node(niu.IdentityInterface(fields=outputs), name="outputnode")
    load_template = pe.Node(LoadTemplate(space=template), name="load_template", n_procs=1)
    head_bias = pe.Node(CorrectBias(seed=seed, sloppy=sloppy), name="head_bias", n_procs=1)
    brain = pe.Node(MaskBrain(seed=seed, sloppy=sloppy), name="brain", n_procs=1)
    brain_bias = pe.Node(CorrectBias(seed=seed, sloppy=sloppy), name="brain_bias", n_procs=1)
    normalize = pe.Node(NormalizeT1w(seed=seed, sloppy=sloppy), name="normalize", n_procs=1)
    tissues = pe.Node(SegmentTissues(seed=seed), name="tissues", n_procs=1)
    region = pe.Node(DefineRegion(roi=roi, seed=seed), name="region", n_procs=1)
    workflow.connect([
        (inputnode, head_bias, [("t1w", "in_file")]),
        (head_bias, brain, [("out_file", "in_file")]),
        (load_template, brain, [("template", "template"), ("template_mask", "template_mask")]),
        (head_bias, brain_bias, [("out_file", "in_file")]),
        (brain, brain_bias, [("out_mask", "mask")]),
        (brain_bias, normalize, [("out_file", "t1w")]),
        (brain, normalize, [("out_mask", "mask"), ("affine_xfm", "affine_xfm")]),
        (load_template, normalize, [("template", "template"), ("template_mask", "template_mask")]),
        (brain_bias, tissues, [("out_file", "t1w")]),
        (brain, tissues, [("out_mask", "mask")]),
        (load_template, tissues, [("priors", "priors")]),
        (normalize, tissues, [("std2t1w_xfm", "std2t1w_xfm")]),
        (brain_bias, region, [("out_file", "t1w")]),
        (brain, region, [("out_mask", "mask")]),
        (load_template, region, [("template", "template")]),
        (normalize, region, [("std2t1w_xfm", "std2t1w_xfm")]),
        (brain_bias, outputnode, [("out_file", "t1w_preproc")]),
        (brain, outputnode, [("out_mask", "t1w_mask")]),
        (normalize, outputnode, [
            ("t1w2std_xfm", "t1w2std_xfm"), ("std2t1w_xfm", "std2t1w_xfm"), ("std_t1w", "std_t1w"),
        ]),
        (tissues, outputnode, [("t1w_dseg", "t1w_dseg"), ("t1w_tpms", "t1w_tpms")]),
        (region, outputnode, [
            ("roi_t1w", "roi_t1w"), ("atlas_t1w", "atlas_t1w"), ("roi_source", "roi_source"), ("roi_xfms", "roi_xfms"),
        ]),
        (load_template, outputnode, [("template", "template"), ("template_mask", "template_mask")]),
    ])  # fmt: skip
    return workflow
