"""Registration: the T2*-weighted pair to itself; BOLD to T1w and to the pair; masks and regions on the BOLD's grids."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from nipype.interfaces import utility as niu
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

Factor = tuple[float, float, float]


def init_pair_wf(
    *, factor: Factor, truncate: bool, omp_nthreads: int, seed: int, name: str = "pair_wf"
) -> LiterateWorkflow:
    """Bring the members of the T2*-weighted pair into one frame.

    Parameters
    ----------
    factor : low-resolution over high-resolution voxel size, by axis
    truncate : there is no lowres image; it is made from highres by truncating k-space
    omp_nthreads : threads that one node may take; this takes one, because sums over threads are not reproducible
    seed : of everything random
    name : of the workflow

    Inputs
    ------
    highres
        T2*-weighted image at high resolution
    lowres
        the same at low resolution; not used where it is made from highres

    Outputs
    -------
    train_highres
        highres in the frame of lowres, on its high-resolution grid; interpolated only where it was out of register
    train_lowres
        lowres
    pair_mask
        head on the grid of lowres
    highres2lowres_xfm
        ITK text; takes a lowres point to its point in highres as acquired
    pair_json
        offset of the pair; whether it was resampled or truncated
    """
    workflow = LiterateWorkflow(name=name)
    workflow.__desc__ = (
        "The low-resolution member of the T2*-weighted pair was made from the other by truncating its k-space. "
        if truncate
        else "The T2*-weighted pair was registered rigidly by mutual information in ANTs [@ants] and then by "
        "Gauss-Newton on intensities after truncating the k-space of the finer image; where they were out of register "
        "the finer image was interpolated once. "
    )
    outputs = ["train_highres", "train_lowres", "pair_mask", "highres2lowres_xfm", "pair_json"]
    inputnode = pe.Node(niu.IdentityInterface(fields=["highres", "lowres"]), name="inputnode")
    outputnode = pe.Node(niu.IdentityInterface(fields=outputs), name="outputnode")
    prepare = pe.Node(PreparePair(factor=factor, truncate=truncate, seed=seed), name="prepare", n_procs=1)
    workflow.connect([
        (inputnode, prepare, [("highres", "highres"), ("lowres", "lowres")]),
        (prepare, outputnode, [(field, field) for field in outputs]),
    ])  # fmt: skip
    return workflow


def init_bold_registration_wf(
    *,
    with_anat: bool,
    with_pair: bool,
    factor: Factor,
    omp_nthreads: int,
    seed: int,
    given: Collection[str] = (),
    origin: str = "",
    name: str = "bold_registration_wf",
) -> LiterateWorkflow:
    """Register one run's reference to T1w and pair; bring brain, tissues and region of interest to its grids.

    Parameters
    ----------
    with_anat : there is a T1w image
    with_pair : there is a T2*-weighted pair
    factor : low-resolution over high-resolution voxel size, by axis
    omp_nthreads : threads that one node may take; these take one each, because sums over threads are not reproducible
    seed : of everything random
    given : which of ``bold_mask`` and ``boldref2t1w_xfm`` another program has made
    origin : that program and its version
    name : of the workflow

    Inputs
    ------
    boldref
        reference volume of the run
    t1w_preproc, t1w_mask, t1w_tpms
        from the anatomical stage, only with a T1w image
    roi_source, roi_xfms
        region of interest, and what takes T1w points to its space; only with a T1w image
    highres, highres2lowres_xfm
        from the pair, only with a pair
    given_mask, given_xfm
        brain on the grid of boldref, and what brings it onto the T1w image; only where they are given

    Outputs
    -------
    bold_mask, bold_mask_hr
        brain on the grid of boldref, and on its high-resolution grid
    roi_bold, roi_bold_hr
        region of interest on the two grids; the brain without a T1w image
    registration_json
        size and quality of the registrations, share of the region in the field of view
    boldref2t1w_xfm
        ITK text; takes a T1w point to its boldref point; only with a T1w image
    tpms_bold
        fractions of GM, WM and CSF on the grid of boldref; only with a T1w image
    highres2boldref_xfm
        ITK text; takes a boldref point to its point in highres as acquired; only with a pair
    guide_hr
        highres on the high-resolution grid of boldref, for the report; only with a pair
    """
    workflow = LiterateWorkflow(name=name)
    masked, placed = "bold_mask" in given, with_anat and "boldref2t1w_xfm" in given
    workflow.__desc__ = _text(with_anat, with_pair, placed) + _given_text(masked, placed, origin)
    fields = ["boldref", *["given_mask"] * masked, *["given_xfm"] * placed]
    outputs = ["bold_mask", "bold_mask_hr", "roi_bold", "roi_bold_hr", "registration_json"]
    if with_anat:
        fields += ["t1w_preproc", "t1w_mask", "t1w_tpms", "roi_source", "roi_xfms"]
        outputs += ["boldref2t1w_xfm", "tpms_bold"]
    if with_pair:
        fields += ["highres", "highres2lowres_xfm"]
        outputs += ["highres2boldref_xfm", "guide_hr"]
    inputnode = pe.Node(niu.IdentityInterface(fields=fields), name="inputnode")
    outputnode = pe.Node(niu.IdentityInterface(fields=outputs), name="outputnode")
    mask = pe.Node(
        ImportMask(factor=factor, origin=origin) if masked else MaskBold(factor=factor), name="mask", n_procs=1
    )
    facts = pe.Node(niu.Merge(1 + 2 * with_anat + with_pair), name="facts", run_without_submitting=True)
    merge_facts = pe.Node(MergeFacts(), name="merge_facts", run_without_submitting=True)
    edges: list[Any] = [
        (inputnode, mask, [("boldref", "boldref"), *[("given_mask", "in_mask")] * masked]),
        (mask, facts, [("out_json", "in1")]),
        (facts, merge_facts, [("out", "in_files")]),
        (merge_facts, outputnode, [("out_json", "registration_json")]),
        (mask, outputnode, [("bold_mask", "bold_mask"), ("bold_mask_hr", "bold_mask_hr")]),
    ]
    if with_anat:
        coreg = pe.Node(ImportCoreg(origin=origin) if placed else RegisterBoldToT1w(seed=seed), name="coreg", n_procs=1)
        tissues = pe.Node(TissuesToBold(), name="tissues", n_procs=1)
        region = pe.Node(RegionToBold(seed=seed), name="region", n_procs=1)
        edges += [
            (inputnode, coreg, [(field, field) for field in ("boldref", "t1w_preproc", "t1w_mask")]),
            *[(inputnode, coreg, [("given_xfm", "in_xfm")])] * placed,
            (inputnode, tissues, [("boldref", "boldref"), ("t1w_tpms", "tpms")]),
            (coreg, tissues, [("boldref2t1w_xfm", "boldref2t1w_xfm")]),
            (inputnode, region, [("roi_source", "roi_source"), ("roi_xfms", "roi_xfms")]),
            (coreg, region, [("boldref2t1w_xfm", "boldref2t1w_xfm")]),
            (mask, region, [("bold_mask", "bold_mask"), ("bold_mask_hr", "bold_mask_hr")]),
            (coreg, facts, [("out_json", "in2")]),
            (region, facts, [("out_json", "in3")]),
            (coreg, outputnode, [("boldref2t1w_xfm", "boldref2t1w_xfm")]),
            (tissues, outputnode, [("tpms_bold", "tpms_bold")]),
            *[
                (inputnode, mask, [("t1w_mask", "t1w_mask")]),
                (coreg, mask, [("boldref2t1w_xfm", "boldref2t1w_xfm")]),
            ]
            * (not masked),
            (region, outputnode, [("roi_bold", "roi_bold"), ("roi_bold_hr", "roi_bold_hr")]),
        ]
    else:
        edges.append((mask, outputnode, [("bold_mask", "roi_bold"), ("bold_mask_hr", "roi_bold_hr")]))
    if with_pair:
        pair = pe.Node(RegisterPairToBold(factor=factor, seed=seed), name="pair", n_procs=1)
        edges += [
            (inputnode, pair, [(field, field) for field in ("boldref", "highres", "highres2lowres_xfm")]),
            (pair, facts, [("out_json", f"in{2 + 2 * with_anat}")]),
            (pair, outputnode, [("highres2boldref_xfm", "highres2boldref_xfm"), ("guide_hr", "guide_hr")]),
        ]
    workflow.connect(edges)
    return workflow


def _given_text(masked: bool, placed: bool, origin: str) -> str:
    """What was taken over, for the methods text."""
    what = [*["the brain mask of the run"] * masked, *["its registration to the T1-weighted image"] * placed]
    return f"Taken over from {origin} [@fmriprep]: {' and '.join(what)}. " if what else ""


def _text(with_anat: bool, with_pair: bool, placed: bool) -> str:
    parts = []
    how = "registered rigidly by mutual information in ANTs [@ants]"
    if with_anat and not placed:
        parts.append(f"The BOLD reference and the T1-weighted brain were {how}. ")
    if with_anat:
        parts.append("The region of interest was brought to the BOLD by one concatenated transform. ")
    if with_pair:
        parts.append(f"The high-resolution T2*-weighted image and the BOLD reference were {how}. ")
    return "".join(parts)
