"""The T1w image of one participant: bias field, brain, template, tissues, atlas and region of interest."""

from nipype.interfaces import utility as niu
from nipype.pipeline import engine as pe
from niworkflows.engine.workflows import LiterateWorkflow

from bids_sr.interfaces.anat import CorrectBias, DefineRegion, LoadTemplate, MaskBrain, NormalizeT1w, SegmentTissues
from bids_sr.interfaces.precomputed_inputs import ImportAnat, ShowInTemplate
from bids_sr.workflows.plans import Precomputed
from bids_sr.workflows.wiring import Part, new_stage, same, set_given

REGIONS = {
    "motor": "the pre- and postcentral gyri and supplementary motor areas of the AAL2 atlas [@aal2]",
    "brain": "the whole brain",
}
TEMPLATE = ("template", "template_mask")
XFMS = ("t1w2std_xfm", "std2t1w_xfm")
REGION = ("roi_t1w", "atlas_t1w", "roi_source", "roi_xfms")
OUTPUTS = ("t1w_preproc", "t1w_mask", "t1w_dseg", "t1w_tpms", *XFMS, *REGION, *TEMPLATE, "std_t1w", "brain_json")


def init_anat_wf(
    *, template: str, roi: str, seed: int, sloppy: bool, precomputed: Precomputed | None = None, name: str = "anat_wf"
) -> LiterateWorkflow:
    """Prepare the T1w image, or take over what has been prepared, and bring atlas and region of interest to it.

    Every node takes one thread, because sums over threads are not reproducible.

    Parameters
    ----------
    template : name of the space to register to, e.g. ``MNI152NLin2009aSym``; it must be on this machine
    roi : ``brain``, names of regions joined by commas, or the path of a mask in T1w or template space
    precomputed : what another program has made; what it lacks of tissues and transforms is made here

    Inputs
    ------
    t1w : T1w image: head, defaced head or brain; where it is precomputed, without bias

    Outputs
    -------
    t1w_preproc, t1w_mask : T1w without bias, and its brain
    t1w_dseg, t1w_tpms : tissues (1 GM, 2 WM, 3 CSF), and probabilities of GM, WM and CSF
    t1w2std_xfm, std2t1w_xfm : composite transforms that resample T1w-space images into the template, and back
    roi_t1w, atlas_t1w : region of interest and AAL2 labels on the T1w grid
    roi_source, roi_xfms : region in the space in which it was given, and the transforms that take T1w points there
        (none in T1w space)
    brain_json : figures of the brain mask, and what speaks against it
    template, template_mask, std_t1w : skull-stripped template, its brain, and the T1w image in template space
    """
    files = {} if precomputed is None else precomputed.files
    text = _text(template) if precomputed is None else _precomputed_text(precomputed, template)
    text += f"The region of interest was {_region_text(roi)}. "
    workflow, inputnode, outputnode = new_stage(name, text, inputs=["t1w"], outputs=OUTPUTS, part=Part.ANATOMY)
    load_template = pe.Node(LoadTemplate(space=template), name="load_template")
    brain = pe.Node(niu.IdentityInterface(fields=["t1w", "mask"]), name="brain_buffer")
    xfms = pe.Node(niu.IdentityInterface(fields=list(XFMS)), name="xfms_buffer")
    region = pe.Node(DefineRegion(roi=roi, seed=seed), name="region")
    if precomputed is None:
        head_bias = pe.Node(CorrectBias(seed=seed, sloppy=sloppy), name="head_bias")
        start = pe.Node(MaskBrain(seed=seed, sloppy=sloppy), name="brain")
        brain_bias = pe.Node(CorrectBias(seed=seed, sloppy=sloppy), name="brain_bias")
        workflow.connect([
            (inputnode, head_bias, same(t1w="in_file")),
            (head_bias, start, same(out_file="in_file")),
            (head_bias, brain_bias, same(out_file="in_file")),
            (start, brain_bias, same(out_mask="mask")),
            (start, brain, same(out_mask="mask")),
            (brain_bias, brain, same(out_file="t1w")),
            (start, outputnode, same(out_json="brain_json")),
        ])  # fmt: skip
    else:
        anat = pe.Node(ImportAnat(mask=files["t1w_mask"]), name="import_anat")
        set_given(anat, {"dseg": files.get("t1w_dseg") if "gm" in files else None})
        workflow.connect([(inputnode, anat, same("t1w")), (anat, brain, same("t1w", "mask"))])
        workflow.connect([(anat, outputnode, same(out_json="brain_json"))])
    if XFMS[0] in files:
        xfms.inputs.trait_set(**{xfm: files[xfm] for xfm in XFMS})
        std = pe.Node(ShowInTemplate(seed=seed), name="std")
        workflow.connect([(load_template, std, same("template")), (xfms, std, same("t1w2std_xfm"))])
    else:
        std = pe.Node(NormalizeT1w(seed=seed, sloppy=sloppy), name="normalize")
        if precomputed is not None:  # the mask is known, but not where the search for the template begins
            start = pe.Node(MaskBrain(seed=seed, sloppy=sloppy), name="brain_for_start")
            workflow.connect([(brain, start, same(t1w="in_file"))])
        workflow.connect([
            (brain, std, same("mask")),
            (start, std, same("affine_xfm")),
            (load_template, start, same(*TEMPLATE)),
            (load_template, std, same(*TEMPLATE)),
            (std, xfms, same(*XFMS)),
        ])  # fmt: skip
    if "gm" in files:
        anat.inputs.tpms = [files[tissue] for tissue in ("gm", "wm", "csf")]
        workflow.connect([(anat, outputnode, same(dseg="t1w_dseg", tpms="t1w_tpms"))])
    else:
        tissues = pe.Node(SegmentTissues(seed=seed), name="tissues")
        workflow.connect([
            (brain, tissues, same("t1w", "mask")),
            (load_template, tissues, same("priors")),
            (xfms, tissues, same("std2t1w_xfm")),
            (tissues, outputnode, same("t1w_dseg", "t1w_tpms")),
        ])  # fmt: skip
    workflow.connect([
        (brain, region, same("t1w", "mask")),
        (brain, std, same("t1w")),
        (brain, outputnode, same(t1w="t1w_preproc", mask="t1w_mask")),
        (load_template, region, same("template")),
        (load_template, outputnode, same(*TEMPLATE)),
        (xfms, region, same("std2t1w_xfm")),
        (xfms, outputnode, same(*XFMS)),
        (std, outputnode, same("std_t1w")),
        (region, outputnode, same(*REGION)),
    ])  # fmt: skip
    return workflow


def _text(template: str) -> str:
    return (
        "The T1-weighted image was corrected for intensity non-uniformity with N4 [@n4] and skull-stripped with the "
        f"brain mask of the {template} template [@icbm2009], transformed to the image and fitted to the tissue. "
        "It was registered to the template by SyN in ANTs [@ants]; gray matter, white matter and CSF were segmented by "
        "a Gaussian mixture with the template's tissue maps as priors [@unifiedseg; @fast]. "
    )


def _precomputed_text(precomputed: Precomputed, template: str) -> str:
    taken = ["the preprocessed T1-weighted image", "its brain mask"]
    made = ""
    if "gm" in precomputed.files:
        taken.append("its tissue maps")
    else:
        made = "Tissues were segmented by a Gaussian mixture with the template's maps as priors [@unifiedseg; @fast]. "
    if XFMS[0] in precomputed.files:
        taken.append(f"its transforms to {template}")
    else:
        registered = f"registered to the {template} template [@icbm2009] by SyN in ANTs [@ants]"
        made = f"The T1-weighted image was {registered}. {made}"
    return f"Taken over from {precomputed.origin} [@fmriprep]: {', '.join(taken[:-1])} and {taken[-1]}. {made}"


def _region_text(roi: str) -> str:
    """The region of interest in words."""
    of_atlas = "a mask given by the user" if "/" in roi else f"{roi.replace(',', ', ')} of the AAL2 atlas [@aal2]"
    return REGIONS.get(roi, of_atlas)
