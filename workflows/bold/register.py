"""Registration: the T2*-weighted pair to itself; BOLD to T1w and to the pair; masks and regions on the BOLD's grids."""

from nipype.pipeline import engine as pe
from niworkflows.engine.workflows import LiterateWorkflow

from bids_sr.interfaces.coregistration import (
    MaskBold,
    MergeFacts,
    PreparePair,
    RegionToBold,
    RegisterBoldToT1w,
    RegisterPairToBold,
    TissuesToBold,
)
from bids_sr.interfaces.precomputed_inputs import ImportCoreg, ImportMask
from bids_sr.workflows.node_names import enumerated
from bids_sr.workflows.plans import AS_STORED, AxisOrder, Factor, Precomputed
from bids_sr.workflows.wiring import Part, Source, joined, new_stage, one_step, same


def init_pair_wf(
    *, factor: Factor, truncate: bool, seed: int, orders: tuple[AxisOrder, AxisOrder] = (AS_STORED, AS_STORED),
    name: str = "pair_wf",
) -> LiterateWorkflow:  # fmt: skip
    """Bring the members of the T2*-weighted pair into one frame.

    All nodes take one thread, because sums over threads are not reproducible.

    Parameters
    ----------
    factor : low-resolution over high-resolution voxel size, by axis
    truncate : there is no lowres image; it is made from highres by truncating k-space
    orders : axis of the file of highres, and of lowres, that each axis of the runs is

    Inputs
    ------
    highres : T2*-weighted image at high resolution
    lowres : the same at low resolution; not used where it is made from highres

    Outputs
    -------
    train_highres : highres in the frame of lowres, on its high-resolution grid; interpolated only where it was out of
        register
    train_lowres : lowres
    pair_mask : head on the grid of lowres
    highres2lowres_xfm : ITK text; takes a lowres point to its point in highres as acquired
    pair_json : offset of the pair; whether it was resampled or truncated
    """
    text = (
        "The low-resolution member of the T2*-weighted pair was made from the other by truncating its k-space. "
        if truncate
        else "The T2*-weighted pair was registered rigidly by mutual information in ANTs [@ants] and then by "
        "Gauss-Newton on intensities, with the k-space of the high-resolution image truncated; where the images were "
        "out of register, the high-resolution image was interpolated once. "
    )
    step = PreparePair(factor=factor, truncate=truncate, seed=seed, highres_order=orders[0], lowres_order=orders[1])
    prepare = pe.Node(step, name="prepare")
    return one_step(
        name, text, prepare, part=Part.PAIR, inputs=same("highres", "lowres"),
        outputs=same("train_highres", "train_lowres", "pair_mask", "highres2lowres_xfm", "pair_json"),
    )  # fmt: skip


def init_bold_registration_wf(
    *,
    with_anat: bool,
    with_pair: bool,
    factor: Factor,
    seed: int,
    precomputed: Precomputed | None = None,
    name: str = "bold_registration_wf",
) -> LiterateWorkflow:
    """Register one run's reference to T1w and pair; bring brain, tissues and region of interest to its grids.

    All nodes take one thread, because sums over threads are not reproducible.

    Parameters
    ----------
    factor : low-resolution over high-resolution voxel size, by axis
    precomputed : what another program has made; its brain mask and its registration to the T1w image are taken over

    Inputs
    ------
    boldref : reference volume of the run
    t1w_preproc, t1w_mask, t1w_tpms, brain_json : from the anatomical stage, only with a T1w image
    roi_source, roi_xfms : region of interest, and what takes T1w points to its space; only with a T1w image
    highres, highres2lowres_xfm : from the pair, only with a pair

    Outputs
    -------
    bold_mask, bold_mask_hr : brain on the grid of boldref, and on its high-resolution grid
    roi_bold, roi_bold_hr : region of interest on the two grids; the brain without a T1w image
    registration_json : size and quality of the registrations, share of the region in the field of view
    boldref2t1w_xfm : ITK text; takes a T1w point to its boldref point; only with a T1w image
    tpms_bold : fractions of GM, WM and CSF on the grid of boldref; only with a T1w image
    highres2boldref_xfm : ITK text; takes a boldref point to its point in highres as acquired; only with a pair
    guide_hr : highres on the high-resolution grid of boldref, for the report; only with a pair
    """
    files = {} if precomputed is None else precomputed.files
    masked, placed = "bold_mask" in files, with_anat and "boldref2t1w_xfm" in files
    inputs = ["boldref"]
    outputs = ["bold_mask", "bold_mask_hr", "roi_bold", "roi_bold_hr", "registration_json"]
    if with_anat:
        inputs += ["t1w_preproc", "t1w_mask", "t1w_tpms", "brain_json", "roi_source", "roi_xfms"]
        outputs += ["boldref2t1w_xfm", "tpms_bold"]
    if with_pair:
        inputs += ["highres", "highres2lowres_xfm"]
        outputs += ["highres2boldref_xfm", "guide_hr"]
    text = _text(with_anat, with_pair, placed)
    if precomputed is not None and (masked or placed):
        taken = {"the brain mask of the run": masked, "its registration to the T1-weighted image": placed}
        text += f"Taken over from {precomputed.origin} [@fmriprep]: {' and '.join(k for k, v in taken.items() if v)}. "
    workflow, inputnode, outputnode = new_stage(name, text, inputs=inputs, outputs=outputs, part=Part.PREPROCESSING)
    mask = pe.Node(MaskBold(factor=factor), name="mask")
    if precomputed is not None and masked:
        mask = pe.Node(ImportMask(factor=factor, origin=precomputed.origin, in_mask=files["bold_mask"]), name="mask")
    facts: list[Source] = [(mask, "out_json")]
    workflow.connect([
        (inputnode, mask, same("boldref")),
        (mask, outputnode, same("bold_mask", "bold_mask_hr")),
    ])  # fmt: skip
    if with_anat:
        coreg = pe.Node(RegisterBoldToT1w(seed=seed), name="coreg")
        if precomputed is not None and placed:
            coreg = pe.Node(ImportCoreg(origin=precomputed.origin, in_xfm=files["boldref2t1w_xfm"]), name="coreg")
        tissues = pe.Node(TissuesToBold(), name="tissues")
        region = pe.Node(RegionToBold(seed=seed), name="region")
        facts += [(inputnode, "brain_json"), (coreg, "out_json"), (region, "out_json")]
        workflow.connect([
            (inputnode, coreg, same("boldref", "t1w_preproc", "t1w_mask")),
            (inputnode, tissues, same("boldref", t1w_tpms="tpms")),
            (coreg, tissues, same("boldref2t1w_xfm")),
            (inputnode, region, same("roi_source", "roi_xfms")),
            (coreg, region, same("boldref2t1w_xfm")),
            (mask, region, same("bold_mask", "bold_mask_hr")),
            (coreg, outputnode, same("boldref2t1w_xfm")),
            (tissues, outputnode, same("tpms_bold")),
            (region, outputnode, same("roi_bold", "roi_bold_hr")),
        ])  # fmt: skip
        if not masked:
            workflow.connect([(inputnode, mask, same("t1w_mask")), (coreg, mask, same("boldref2t1w_xfm"))])
    else:
        workflow.connect([(mask, outputnode, same(bold_mask="roi_bold", bold_mask_hr="roi_bold_hr"))])
    if with_pair:
        pair = pe.Node(RegisterPairToBold(factor=factor, seed=seed), name="pair")
        facts.append((pair, "out_json"))
        workflow.connect([
            (inputnode, pair, same("boldref", "highres", "highres2lowres_xfm")),
            (pair, outputnode, same("highres2boldref_xfm", "guide_hr")),
        ])  # fmt: skip
    merge_facts = pe.Node(MergeFacts(), name="merge_facts", run_without_submitting=True)
    workflow.connect([
        (joined(workflow, "facts", facts), merge_facts, same(out="in_files")),
        (merge_facts, outputnode, same(out_json="registration_json")),
    ])  # fmt: skip
    return workflow


def _text(with_anat: bool, with_pair: bool, placed: bool) -> str:
    others = ["to the T1-weighted brain"] if with_anat and not placed else []
    others += ["to the high-resolution T2*-weighted image"] if with_pair else []
    text = ""
    if others:
        text = f"The BOLD reference was registered rigidly {enumerated(others)} by mutual information in ANTs [@ants]. "
    if with_anat:
        text += "The region of interest was resampled to the BOLD by a single, concatenated transform. "
    return text
