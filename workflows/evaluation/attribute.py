"""Attribution of region size to grid, smoothing, threshold and method; growth of the region of interest."""

from dataclasses import replace

from nipype.interfaces import utility as niu
from nipype.pipeline import engine as pe
from niworkflows.engine.workflows import LiterateWorkflow

from bids_sr.interfaces.evaluation.verdicts import ClaimTable, GrowRoi
from bids_sr.workflows.bold.map_activation import activation_maps
from bids_sr.workflows.plans import RunPlan
from bids_sr.workflows.wiring import Part, Source, joined, new_stage, same

THRESHOLDS = ("quarter", "fdr", "3.1")


def init_claim_wf(*, run: RunPlan, name: str = "claim_wf") -> LiterateWorkflow:
    """Sizes and overlaps of two conditions' regions by series, smoothing and threshold, and what changes them.

    Parameters
    ----------
    run : with the two conditions, and the smoothing (mm) that the run's own tables do not have: one pass over every
        series each

    Inputs
    ------
    series_files : the series, in the order of ``run.mapped``
    mask, roi : brain and region of interest on the acquired grid
    mask_hr, roi_hr : the same on the high-resolution grid
    events_file, confounds_tsv, n_dummy : of the run
    activation_tsv : the run's own table of figures; what it has at these widths is not made again

    Outputs
    -------
    out_file : rows of the evaluation, ``claim_*``
    """
    pair, widths = run.evaluation.pair_conditions, run.evaluation.attribution_widths
    text = (
        "To separate the effects of finer grid, smoothing, threshold and method on the size of regions "
        f"[@stss_srfmri], sizes and overlap of the regions of {pair[0]} and {pair[1]} were also computed with "
        "smoothing of 1.5 voxels of each series' own grid and of the acquired grid, and with three thresholds: the "
        "upper quarter of the correlation map's range, a false discovery rate of .05 and z of 3.1.\n"
    )
    grids, model = ("mask", "roi", "mask_hr", "roi_hr"), ("events_file", "confounds_tsv", "n_dummy")
    workflow, inputnode, outputnode = new_stage(
        name, text, inputs=["series_files", *grids, *model, "activation_tsv"], outputs=["out_file"]
    )
    activation = replace(
        run.activation, contrasts={one: run.activation.contrasts[one] for one in pair}, kinds=("cc", "glm"),
        thresholds=THRESHOLDS,
    )  # fmt: skip
    tables: list[Source] = [(inputnode, "activation_tsv")]
    for place, series in enumerate(run.mapped):
        pick = pe.Node(niu.Select(index=[place]), name=f"pick_{series}", run_without_submitting=True)
        workflow.connect([(inputnode, pick, same(series_files="inlist"))])
        grid = same("mask", "roi") if series == "raw" else same(mask_hr="mask", roi_hr="roi")
        for width in widths:
            step = activation_maps(series, width, activation=activation, acquisition=run.acquisition)
            maps = pe.Node(step, name=f"maps_{series}_fwhm{round(width * 10):03d}")
            workflow.connect([(pick, maps, same(out="in_file")), (inputnode, maps, [*grid, *same(*model)])])
            tables.append((maps, "metrics_tsv"))
    table = pe.Node(
        ClaimTable(pair=list(pair), voxel_mm=run.acquisition.voxel, factor=run.acquisition.factor), name="table"
    )
    workflow.connect([
        (joined(workflow, "tables", tables), table, same(out="in_files")),
        (table, outputnode, same("out_file")),
    ])  # fmt: skip
    return workflow


def init_roi_growth_wf(*, run: RunPlan, name: str = "roi_growth_wf") -> LiterateWorkflow:
    """Grow the region of interest into activity of the acquired series that its border cuts off (``--roi-grow``).

    Parameters
    ----------
    run : whose conditions against rest are followed, in maps at its largest smoothing

    Inputs
    ------
    preproc_file : the acquired series in BOLD signal units, head motion undone, dummies included
    bold_mask, roi_bold : brain and region of interest on the acquired grid
    bold_mask_hr, roi_bold_hr : the same on the high-resolution grid
    events_file, n_dummy : of the run

    Outputs
    -------
    roi, roi_hr : the grown region on both grids
    out_json : voxels added, the CC from which they were, the reach (mm)
    """
    fwhm_mm = max(run.activation.smoothing)
    text = (
        "The region of interest was grown by up to 10 mm into adjoining voxels in which the correlation of the "
        f"acquired series, smoothed by {fwhm_mm:g} mm, with the task was at least .5 and in the upper quarter of the "
        "range over the region and its surroundings; all series share the grown region.\n"
    )
    outputs = ["roi", "roi_hr", "out_json"]
    low = same(bold_mask="mask", roi_bold="roi")
    grids = [*low, *same(bold_mask_hr="mask_hr", roi_bold_hr="roi_hr")]
    own = same("events_file", "n_dummy", preproc_file="in_file")
    workflow, inputnode, outputnode = new_stage(
        name, text, inputs=[field for field, _ in own + grids], outputs=outputs, part=Part.MAPS
    )
    activation = replace(run.activation, kinds=("cc",), thresholds=("quarter",), high_pass=0.0)
    maps = pe.Node(activation_maps("raw", fwhm_mm, activation=activation, acquisition=run.acquisition), name="maps")
    grow = pe.Node(GrowRoi(contrasts=activation.plain_contrasts), name="grow")
    workflow.connect([
        (inputnode, maps, own + low),
        (inputnode, grow, grids),
        (maps, grow, same(out_files="in_files", out_entities="in_entities")),
        (grow, outputnode, same(*outputs)),
    ])  # fmt: skip
    return workflow
