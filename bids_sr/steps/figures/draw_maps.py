"""Figures of a run's results: a slice of all series, model, maps, regions and their tables.

Figures of a run as it was acquired: what was acquired, head motion, and the carpet plot.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from bids_sr.config.machine import MAPS
from bids_sr.config.spaces import count_mapped
from bids_sr.glm.contrasts import Contrasts
from bids_sr.glm.time_columns import kept_volumes
from bids_sr.io.atomic_files import real
from bids_sr.io.grids import Array
from bids_sr.io.nifti import SeriesReader
from bids_sr.pipeline.artifacts import (
    Confounds,
    Facts,
    File,
    Image,
    Map,
    Mask,
    Regressors,
    Rows,
    Series,
    Table,
    Verdict,
)
from bids_sr.pipeline.figure import Content, Drawn, figure
from bids_sr.report.sections import Shown
from bids_sr.series import RAW
from bids_sr.sr.method import Cost
from bids_sr.steps.figures import display_grids
from bids_sr.steps.figures.display_grids import grid_of, onto

_MAX_CARPET_ROWS = 1500
_TRACES = {"FD (mm)": "framewise_displacement", "DVARS": "std_dvars", "global": "global_signal"}
"""Confounds that are drawn above the carpet, by what they are called there."""


@figure(Shown("runsummary", "motion", html=True, missing="summary of the run"))
def summarize_run(
    censoring: Facts | None = None, *, run_facts: Mapping[str, object], n_dummy: int
) -> Content:
    """Return what was acquired, and how many volumes are left out.

    `censoring`: numbers of censored volumes; None if none was to be censored.
    """
    from bids_sr.report.html_tables import facts_html

    facts = {**run_facts, "Non-steady-state volumes": n_dummy}
    if censoring is not None:
        facts["Temporal filter"] = str(censoring["model"])
        if censoring["rules"]:
            facts["Censored volumes"] = (
                f"{censoring['censored']} of {censoring['steady']}"
                f" ({float(str(censoring['share'])):.1%}), with {censoring['rules']}; these"
                " volumes were excluded from all models"
            )
    return facts_html(facts)


@figure(
    Shown(
        "motion",
        "motion",
        subtitle="Motion parameters, framewise displacement and DVARS",
        tab="Motion",
        caption=(
            "Translation and rotation of the head relative to the boldref, framewise displacement"
            " (dashed line: 0.5 mm), and DVARS of the motion-corrected series. Censored volumes"
            " are shaded in red and excluded from the mean and the maximum."
        ),
        missing="motion parameters",
    ),
    Shown(
        "carpet",
        "motion",
        subtitle="Carpet plot",
        tab="Carpet plot",
        caption=(
            "Time series of all voxels after motion correction, grouped by tissue. Each row is a"
            " voxel, with the linear trend removed and the values divided by the standard"
            " deviation of the voxel."
        ),
        missing="carpet plot",
    ),
)
def draw_motion(
    confounds: Confounds,
    preproc: Series,
    bold_mask: Mask,
    tpms_bold: list[Image] | None = None,
    *,
    n_dummy: int = 0,
) -> Iterator[Drawn]:
    """Draw motion parameters, FD and DVARS, and the carpet plot of the motion-corrected series."""
    from bids_sr.figures.motion_figures import carpet_figure, carpet_rows, motion_figure

    columns = {str(name): values.to_numpy(dtype=float) for name, values in confounds.items()}
    tissues = {
        name: each.data for name, each in zip(("GM", "WM", "CSF"), tpms_bold or (), strict=False)
    }
    rows, groups = carpet(preproc, bold_mask.data, tissues)
    tr = preproc.tr or 1.0
    kept = kept_volumes(confounds, preproc.shape[3])
    yield Drawn("motion", motion_figure(columns, tr, n_dummy=n_dummy, kept=kept))
    traces = {label: columns[name] for label, name in _TRACES.items() if name in columns}
    yield Drawn(
        "carpet",
        carpet_figure(carpet_rows(rows, n_dummy), groups, tr, traces=traces, n_dummy=n_dummy),
    )


def carpet(
    series: SeriesReader, mask: Array, tissues: Mapping[str, Array]
) -> tuple[Array, list[tuple[str, int]]]:
    """Time series of a thinned set of voxels, grouped by tissue, read one volume at a time.

    `mask`, `tissues`: (X, Y, Z) on the grid of the series; probabilities by name, in the order of
    the groups; none: one group, ``brain``. Returns (voxels, T) float32 with at most
    ``_MAX_CARPET_ROWS`` rows; name and size of each group.
    """
    inside = np.asarray(mask) > 0
    groups = {"brain": np.flatnonzero(inside)}
    if tissues:
        stack = np.stack([np.asarray(each) for each in tissues.values()])
        label = np.where(inside & (stack.max(axis=0) > 0.5), stack.argmax(axis=0), -1)
        groups = {name: np.flatnonzero(label == k) for k, name in enumerate(tissues)}
    total = sum(len(voxels) for voxels in groups.values())
    step = max(1, -(-total // _MAX_CARPET_ROWS))
    groups = {name: voxels[::step] for name, voxels in groups.items() if len(voxels[::step])}
    chosen = np.concatenate(list(groups.values())) if groups else np.zeros(0, dtype=int)
    rows = np.empty((len(chosen), series.shape[3]), dtype=np.float32)
    for t, volume in enumerate(series.volumes()):
        rows[:, t] = volume.reshape(-1)[chosen]
    return rows, [(name, len(voxels)) for name, voxels in groups.items()]


@figure(
    Shown(
        "srslice",
        "superres",
        subtitle="One slice through all series",
        tab="One slice",
        caption=(
            "Top: one volume after motion correction, with the same gray scale for all series."
            " Below: enlarged region in the yellow frame and its difference from B-spline"
            " interpolation. If the region of interest is not the whole brain, it is outlined in"
            " light blue. A sharper image is not evidence of finer functional detail. For"
            " example, inject has as much static detail, but its signal change is only"
            " interpolated."
        ),
        missing="slice through all series",
        tables=("image",),
    ),
)
def draw_slice(
    middle: dict[str, Image],
    roi_hr: Mask,
    bold_mask_hr: Mask,
    *,
    series_names: Sequence[str],
) -> Content:
    """Draw a slice of the middle volume: acquired, baselines, super-resolved, and difference."""
    from bids_sr.figures.map_figures import series_figure

    names = display_grids.all_names(series_names)
    shown = {name: middle[name] for name in names if name in middle}
    reference = "bspline" if "bspline" in shown else next(name for name in shown if name != RAW)
    return series_figure(shown, roi_hr, mask=bold_mask_hr, reference=reference)


@figure(
    Shown(
        "madetsnr",
        "superres",
        subtitle="Temporal signal-to-noise ratio",
        tab="tSNR",
        caption=(
            "Temporal mean divided by temporal standard deviation, after removal of a quadratic"
            " trend and without censored volumes. All maps have the same color scale. Because"
            " interpolation averages noise, a higher ratio does not imply higher sensitivity."
        ),
        missing="maps of the temporal signal-to-noise ratio",
        tables=("image",),
    ),
    Shown(
        "madecarpet",
        "superres",
        subtitle="Carpet plot of the super-resolved series",
        tab="Carpet plot",
        caption=(
            "Compare this figure with the carpet plot of the acquired series in the section Head"
            " motion. Stripes that appear only in this figure were added by super-resolution."
        ),
        missing="carpet plot of the super-resolved series",
    ),
    cost=Cost(always=1.0, volumes=0.02),
)
def draw_output(
    series: dict[str, Series],
    tsnr: dict[str, Image],
    bold_mask_hr: Mask,
    verdict: Verdict,
    tpms_bold: list[Image] | None = None,
    *,
    n_dummy: int = 0,
) -> Iterator[Drawn]:
    """Draw tSNR maps, acquired and super-resolved, and the latter's carpet plot.

    Super-resolved is the best method of the verdict, or else the last of `series`.

    `series, tsnr`: those of the methods, or of B-spline where there are none; of tSNR raw's too.
    """
    from bids_sr.figures.map_figures import overlay_figure
    from bids_sr.figures.motion_figures import carpet_figure, carpet_rows
    from bids_sr.report.html_tables import series_text

    best = verdict["best"]
    name = best if best in series else next(reversed(series))
    grid = grid_of(bold_mask_hr)
    ratios = {series_text(key): onto(tsnr[key], *grid, order=0) for key in (RAW, name)}
    yield Drawn(
        "madetsnr", overlay_figure(ratios, bold_mask_hr, label="temporal signal-to-noise ratio")
    )
    tissues = {
        tissue: onto(each, *grid).data
        for tissue, each in zip(("GM", "WM", "CSF"), tpms_bold or (), strict=False)
    }
    rows, groups = carpet(series[name], bold_mask_hr.data, tissues)
    yield Drawn(
        "madecarpet",
        carpet_figure(
            carpet_rows(rows, n_dummy), groups, series[name].tr or 1.0, traces={}, n_dummy=n_dummy
        ),
    )


@figure(
    Shown(
        "design",
        "activation",
        place=2,
        subtitle="Events and design matrix",
        tab="Events and design",
        caption=(
            "Linear model of the run, which is the same for all series. Left: events and"
            " predicted responses (in resting-state runs, time series of the seeds). Middle:"
            " design matrix, with each regressor divided by its largest magnitude. Right: weights"
            " of the conditions in each contrast."
        ),
    ),
)
def draw_design(
    regressors: Regressors,
    confounds: Confounds,
    *,
    tr: float,
    high_pass: float,
    start_time: float,
    contrasts: Contrasts,
    nuisance: list[str] | None = None,
    n_dummy: int = 0,
) -> Content:
    """Draw events, design matrix and contrasts of the run's linear model.

    Every series of the run is fitted with this model.

    `start_time`: moment of a volume for which its values hold (s after its start). `nuisance`:
    columns of the confounds that enter the model; None: motion and aCompCor.
    """
    from bids_sr.figures.motion_figures import design_figure
    from bids_sr.glm.design import build_design, model_confounds

    design = build_design(
        regressors,
        n_volumes=len(confounds),
        n_dummy=n_dummy,
        confounds=confounds,
        confound_names=model_confounds(confounds, nuisance),
        tr=tr,
        high_pass=high_pass,
        start_time=start_time,
    )
    return design_figure(design, regressors.spans(), regressors.contrasts(contrasts))


def activation_cost(contrasts: Contrasts) -> Cost:
    """Return the processor time of `draw_activation`, which the number of contrasts decides."""
    n_drawn = count_mapped(contrasts)
    return Cost(always=1.0 + 0.95 * n_drawn, high=0.3 * n_drawn)


@figure(
    Shown(
        "activation",
        "activation",
        title="Activation",
        heading="{contrast}, {smoothing}",
        tab="Maps",
        caption=(
            "t maps on the high-resolution T2*-weighted image (or on the boldref, if there is no"
            " T2* pair). Each row is a series, and all rows have the same color scale and"
            " threshold. The planes and the enlarged region were selected from the map in the"
            " first row. White outlines show significant voxels (FDR .05 over the brain), and"
            " light blue outlines show the region of interest."
        ),
        missing="maps of activation",
        unless="connectivity",
        tables=("activation",),
    ),
    Shown(
        "connectivity",
        "activation",
        title="Connectivity",
        heading="Seed {contrast}, {smoothing}",
        tab="Maps",
        caption=(
            "t maps of the seed in a linear model with all seeds, head motion, drift and aCompCor"
            " components (partial connectivity). Each row is a series, and all rows have the same"
            " color scale and threshold. The planes and the enlarged region were selected from"
            " the map in the first row. White outlines show significant voxels (FDR .05 over the"
            " brain), and light blue outlines show the region of interest. Seed correlation maps"
            " are stored in files with stat-cc."
        ),
        tables=("activation",),
    ),
    memory=MAPS,
)
def draw_activation(
    maps: list[Map],
    bold_mask_hr: Mask,
    roi_hr: Mask,
    boldref: Image,
    guide_hr: Image | None = None,
    *,
    series_names: Sequence[str],
    at_rest: bool,
) -> Iterator[Drawn]:
    """For each contrast and smoothing, the t-maps (CC, where there are no t-maps) on one scale.

    Acquired, B-spline, methods and measured are drawn; the viewer has all series.

    `guide_hr`: high-resolution T2*w image as background (3D); None takes boldref.
    """
    from bids_sr.figures.map_figures import activation_figure

    shown_maps = display_grids.sort_maps(maps)
    scene = display_grids.scene_of(guide_hr or boldref, bold_mask_hr, roi_hr)
    display = shown_maps.display
    what = "connectivity" if at_rest else "activation"
    for (contrast, stat, fwhm), by_series in shown_maps.stats.items():
        if stat == display.statistic:
            regions = shown_maps.regions.get((contrast, "Fdr", fwhm), {})
            names = display_grids.compared(by_series, series_names)
            drawn = activation_figure(
                {name: by_series[name].volume for name in names},
                scene,
                display=display,
                limit=display_grids.color_limit(by_series.values(), display.floor),
                significant={name: regions[name].volume for name in names if name in regions},
            )
            yield Drawn(what, drawn, contrast=contrast, fwhm_mm=fwhm)


@figure(
    Shown(
        "surface",
        "activation",
        heading="{contrast}, {smoothing}",
        tab="Surfaces",
        caption=(
            "Mean of the map across the cortical ribbon, shown on the white surface. Vertices"
            " below the threshold or outside the field of view are gray."
        ),
    ),
    cost=Cost(always=10.0),
)
def draw_surfaces(
    surface_maps: list[Map],
    surfaces: Sequence[File],
    *,
    series_name: str,
    space_entities: Mapping[str, str],
) -> Iterator[Drawn]:
    """Draw the t maps (CC, where there are none) on both hemispheres.

    `surfaces`: white and pial surfaces, each left and right, in the frame of the T1w image.
    """
    from nilearn.surface import load_surf_data, load_surf_mesh

    from bids_sr.figures.map_figures import CC_DISPLAY, T_DISPLAY, surface_figure
    from bids_sr.report.html_tables import series_text

    drawn_on = [tuple(load_surf_mesh(white)) for white in surfaces[:2]]
    stats = {each.entities["stat"] for each in surface_maps}
    display = T_DISPLAY if "t" in stats else CC_DISPLAY
    half = len(surface_maps) // 2
    space = space_entities["space"]
    for left, right in zip(surface_maps[:half], surface_maps[half:], strict=True):
        if left.entities["stat"] == display.statistic:
            values = [load_surf_data(str(each.content)) for each in (left, right)]
            title = f"{series_text(series_name)} on {space}"
            drawn = surface_figure(values, drawn_on, display, title)
            fwhm_mm = real(left.sidecar["SmoothingFWHM"])
            yield Drawn("surface", drawn, left.entities["contrast"], fwhm_mm, space)


@figure(
    Shown(
        "clusters",
        "maps",
        html=True,
        caption=(
            "To move the crosshair of the viewer to a peak, click on its coordinates. The column"
            " 'label' contains the atlas label at the peak, or the nearest label and its"
            " distance. The last column lists all atlas regions that contain at least 5 % of the"
            " cluster. Clusters for all contrasts and series are listed in the file below."
        ),
        missing="table of clusters",
        tables=("clusters",),
    ),
)
def show_clusters(clusters: Table, evaluation: Rows, verdict: Verdict) -> Content:
    """Show the best method's largest clusters with atlas labels, the judged contrast first."""
    from bids_sr.report.html_tables import clusters_html

    judged = display_grids.judged_contrast(evaluation, verdict)
    return clusters_html(clusters, verdict["best"] or "bspline", first=judged)
