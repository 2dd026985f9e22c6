"""Attribution of region size to grid, smoothing, threshold and method; growth of the region of interest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from nipype.interfaces import utility as niu
from nipype.pipeline import engine as pe
from niworkflows.engine.workflows import LiterateWorkflow

from bids_sr.interfaces.evaluation.verdicts import ClaimTable, GrowRoi
from bids_sr.interfaces.statmap_interfaces import ActivationMaps

THRESHOLDS = ("quarter", "fdr", "3.1")


def init_claim_wf(
    *,
    series: Sequence[str],
    pair: Sequence[str],
    contrasts: Mapping[str, Mapping[str, float]],
    widths: Sequence[float],
    voxel_mm: tuple[float, float, float],
    factor: tuple[float, float, float],
    tr: float,
    low_pass: float | None,
    high_pass: float,
    slice_time_ref: float,
    has_stc: bool,
    name: str = "claim_wf",
) -> LiterateWorkflow:
    """Sizes and overlaps of two conditions' regions by series, smoothing and threshold, and what changes them.

    Parameters
    ----------
    series : names in the order of ``series_files``; ``raw`` among them is on the acquired grid
    pair : the two conditions (`bids_sr.stats.regions.attribution.attribution_pair`)
    contrasts : name to weights of trial types, the two among them
    widths : Gaussian smoothing (mm) that the run's own tables do not have (`attribution.widths_to_map`); one
        pass over every series each
    voxel_mm : acquired voxel size
    factor : acquired voxel over high-resolution voxel along each axis
    tr : repetition time (s)
    low_pass : of the correlation (Hz); None is none
    high_pass : of the linear model (Hz)
    slice_time_ref, has_stc : moment within a TR to which slice timing was corrected, and whether it was
    name : of the workflow

    Inputs
    ------
    series_files : the series, in the order of ``series``
    mask, roi : brain and region of interest on the acquired grid
    mask_hr, roi_hr : the same on the high-resolution grid
    events_file, confounds_tsv, n_dummy : of the run
    activation_tsv : the run's own table of figures; what it has at these widths is not made again

    Outputs
    -------
    out_file : rows of the evaluation, ``claim_*``
    """
    workflow = LiterateWorkflow(name=name)
    workflow.__desc__ = (
        f"Sizes and overlap of the regions of {pair[0]} and {pair[1]} were also found with smoothing of 1.5 voxels of "
        "each series' own grid and of the acquired grid, and under the paper's threshold, a false discovery rate of "
        ".05, and z of 3.1, to tell what the finer grid, the smoothing, the threshold and the method contribute "
        "[@stss_srfmri].\n"
    )
    fields = [
        "series_files", "mask", "roi", "mask_hr", "roi_hr", "events_file", "confounds_tsv", "n_dummy",
        "activation_tsv",
    ]  # fmt: skip
    inputnode = pe.Node(niu.IdentityInterface(fields=fields), name="inputnode")
    outputnode = pe.Node(niu.IdentityInterface(fields=["out_file"]), name="outputnode")
    table = pe.Node(
        ClaimTable(pair=list(pair), voxel_mm=tuple(map(float, voxel_mm)), factor=tuple(map(float, factor))),
        name="table", n_procs=1,
    )  # fmt: skip
    tables = pe.Node(niu.Merge(1 + len(series) * len(widths)), name="tables", run_without_submitting=True)
    edges = [(inputnode, tables, [("activation_tsv", "in1")])]
    pick = {
        one: pe.Node(niu.Select(index=[k]), name=f"pick_{one}", run_without_submitting=True)
        for k, one in enumerate(series)
    }
    edges += [(inputnode, node, [("series_files", "inlist")]) for node in pick.values()]
    for number, (one, width) in enumerate(((s, w) for s in series for w in widths), start=2):
        grid = "" if one == "raw" else "_hr"
        maps = pe.Node(
            ActivationMaps(
                series=one, fwhm_mm=float(width), contrasts={k: dict(contrasts[k]) for k in pair}, kinds=["cc", "glm"],
                tr=tr, low_pass=low_pass, high_pass=high_pass, slice_time_ref=slice_time_ref, has_stc=has_stc,
                thresholds=list(THRESHOLDS), factor=tuple(map(float, factor)),
            ),
            name=f"maps_{one}_fwhm{round(width * 10):03d}", n_procs=1,
        )  # fmt: skip
        edges += [
            (pick[one], maps, [("out", "in_file")]),
            (inputnode, maps, [
                (f"mask{grid}", "mask"), (f"roi{grid}", "roi"), ("events_file", "events_file"),
                ("confounds_tsv", "confounds_tsv"), ("n_dummy", "n_dummy"),
            ]),
            (maps, tables, [("metrics_tsv", f"in{number}")]),
        ]  # fmt: skip
    workflow.connect([*edges, (tables, table, [("out", "in_files")]), (table, outputnode, [("out_file", "out_file")])])
    return workflow


def init_roi_growth_wf(
    *,
    contrasts: Mapping[str, Mapping[str, float]],
    fwhm_mm: float,
    factor: tuple[float, float, float],
    tr: float,
    low_pass: float | None,
    slice_time_ref: float,
    has_stc: bool,
    name: str = "roi_growth_wf",
) -> LiterateWorkflow:
    """Grow the region of interest into activity of the acquired series that its border cuts off (``--roi-grow``).

    Parameters
    ----------
    contrasts : name to weights of trial types; conditions against rest are followed
    fwhm_mm : Gaussian smoothing of the map that is followed (mm)
    factor : acquired voxel over high-resolution voxel along each axis
    tr : repetition time (s)
    low_pass : of the correlation (Hz); None is none
    slice_time_ref, has_stc : moment within a TR to which slice timing was corrected, and whether it was
    name : of the workflow

    Inputs
    ------
    series_file : the acquired series in BOLD signal units, dummies included
    mask, roi : brain and region of interest on the acquired grid
    mask_hr, roi_hr : the same on the high-resolution grid
    events_file, n_dummy : of the run

    Outputs
    -------
    roi, roi_hr : the grown region on both grids
    out_json : voxels added, the CC from which they were, the reach (mm)
    """
    workflow = LiterateWorkflow(name=name)
    workflow.__desc__ = (
        "The region of interest was grown by up to 10 mm into voxels that hang together with it and in which the "
        f"correlation of the acquired series with the task, smoothed by {fwhm_mm:g} mm, was at least .5 and at least "
        "max - (max - min)/4 over the region and its surroundings; all series share the grown region.\n"
    )
    fields = ["series_file", "mask", "roi", "mask_hr", "roi_hr", "events_file", "n_dummy"]
    inputnode = pe.Node(niu.IdentityInterface(fields=fields), name="inputnode")
    outputs = ["roi", "roi_hr", "out_json"]
    outputnode = pe.Node(niu.IdentityInterface(fields=outputs), name="outputnode")
    maps = pe.Node(
        ActivationMaps(
            series="raw", fwhm_mm=float(fwhm_mm), contrasts={k: dict(v) for k, v in contrasts.items()}, kinds=["cc"],
            tr=tr, low_pass=low_pass, high_pass=0.0, slice_time_ref=slice_time_ref, has_stc=has_stc,
            thresholds=["quarter"], factor=tuple(map(float, factor)),
        ),
        name="maps", n_procs=1,
    )  # fmt: skip
    grow = pe.Node(GrowRoi(contrasts={k: dict(v) for k, v in contrasts.items()}), name="grow", n_procs=1)
    workflow.connect([
        (inputnode, maps, [
            ("series_file", "in_file"), ("mask", "mask"), ("roi", "roi"), ("events_file", "events_file"),
            ("n_dummy", "n_dummy"),
        ]),
        (inputnode, grow, [(field, field) for field in ("mask", "roi", "mask_hr", "roi_hr")]),
        (maps, grow, [("out_files", "in_files"), ("out_entities", "in_entities")]),
        (grow, outputnode, [(field, field) for field in outputs]),
    ])  # fmt: skip
    return workflow
