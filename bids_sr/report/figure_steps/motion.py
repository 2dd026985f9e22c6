"""Figures of an acquired run: summary, head motion, and carpet plot."""

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from bids_sr.engine.artifacts import Confounds, Facts, Image, Mask, Series
from bids_sr.io.arrays import Array
from bids_sr.io.nifti import SeriesReader
from bids_sr.io.volume import Volume
from bids_sr.preproc.outlier_volumes import interpolation_weights
from bids_sr.preproc.steps.outlier_volumes import reasons_by_volume
from bids_sr.preproc.temporal_regressors import uncensored_volumes
from bids_sr.report.figure_step import FigureContent, FigureDrawing, figure
from bids_sr.report.sections import FigureSpec, HtmlSpec

_MAX_CARPET_ROWS = 1500  # voxels in a carpet plot
_MAX_OUTLIERS = 4  # volumes in the figure of outlier volumes
_TRACE_COLUMNS = {
    "FD (mm)": "framewise_displacement",
    "DVARS": "std_dvars",
    "global": "global_signal",
}
"""Names of the confounds above the carpet plot, by label."""


@figure(HtmlSpec("runsummary", "motion", missing="summary of the run"))
def summarize_run(
    censoring: Facts | None = None,
    outliers: Facts | None = None,
    *,
    run_facts: Mapping[str, object],
    n_dummy: int,
) -> FigureContent:
    """Return a summary of the acquired run with its numbers of excluded volumes.

    `censoring` has the counts of censored volumes; None if censoring was not requested. `outliers`
    are outlier volumes; None if they were not searched.
    """
    from bids_sr.report.facts import facts_html

    facts = {**run_facts, "Non-steady-state volumes": n_dummy}
    if reasons := reasons_by_volume(outliers):
        facts["Outlier volumes"] = [
            f"{volume} (counted from 0): {reason}; excluded from all models"
            for volume, reason in reasons.items()
        ]
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
    FigureSpec(
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
    FigureSpec(
        "carpet",
        "motion",
        subtitle="Carpet plot",
        tab="Carpet plot",
        caption=(
            "Time series of all voxels after motion correction, grouped by tissue. Each row is a"
            " voxel, with the linear trend removed and the values divided by the standard"
            " deviation of the voxel. Censored volumes are shaded in red."
        ),
        missing="carpet plot",
    ),
    FigureSpec(
        "outliers",
        "motion",
        subtitle="Outlier volumes",
        tab="Outlier volumes",
        caption=(
            "Acquired volumes that do not show the head as the other volumes do, the nearest"
            " other volume, and their difference without realignment. Outlier volumes are excluded"
            " from all models and replaced by interpolation in time in all series. At most"
            f" {_MAX_OUTLIERS} are shown; the summary of the run lists all, with the reason."
        ),
    ),
)
def draw_motion(
    confounds: Confounds,
    preproc: Series,
    bold_mask: Mask,
    tpms_bold: list[Image] | None = None,
    acquired: Series | None = None,
    outliers: Facts | None = None,
    *,
    n_dummy: int = 0,
) -> Iterator[FigureDrawing]:
    """Draw motion parameters, FD and DVARS, the carpet plot, and outlier volumes if there are any.

    `acquired` is the series with all volumes as acquired.
    """
    from bids_sr.report.figures.motion import carpet_figure, carpet_rows, motion_figure

    columns = {str(name): values.to_numpy(dtype=float) for name, values in confounds.items()}
    tissues = {
        name: probability.data
        for name, probability in zip(("GM", "WM", "CSF"), tpms_bold or (), strict=False)
    }
    rows, groups = sample_carpet(preproc, bold_mask.data, tissues)
    tr = preproc.tr or 1.0
    uncensored = uncensored_volumes(confounds, preproc.shape[3])
    yield FigureDrawing(
        "motion", motion_figure(columns, tr, n_dummy=n_dummy, uncensored=uncensored)
    )
    traces = {label: columns[name] for label, name in _TRACE_COLUMNS.items() if name in columns}
    yield FigureDrawing(
        "carpet",
        carpet_figure(
            carpet_rows(rows, n_dummy),
            groups,
            tr,
            traces=traces,
            n_dummy=n_dummy,
            uncensored=uncensored,
        ),
    )
    reasons = reasons_by_volume(outliers)
    if reasons and acquired is not None:
        drawing = _draw_outliers(acquired, bold_mask, list(reasons), n_dummy)
        yield FigureDrawing("outliers", drawing)


def sample_carpet(
    series: SeriesReader, mask: Array, tissues: Mapping[str, Array]
) -> tuple[Array, list[tuple[str, int]]]:
    """Return time series of a subset of voxels, grouped by tissue; only these voxels are read.

    `mask` is the brain on the grid of the series (X, Y, Z, T). `tissues` are tissue probabilities
    on this grid, in the order of the groups. If empty, all voxels form one group, ``brain``.

    Returns time series (voxels, T) with at most ``_MAX_CARPET_ROWS`` rows; and name and size of
    each group.
    """
    brain = np.asarray(mask) > 0
    voxels_by_group = {"brain": np.flatnonzero(brain)}
    if tissues:
        probabilities = np.stack([np.asarray(probability) for probability in tissues.values()])
        is_tissue = brain & (probabilities.max(axis=0) > 0.5)
        tissue_index = np.where(is_tissue, probabilities.argmax(axis=0), -1)
        voxels_by_group = {
            name: np.flatnonzero(tissue_index == index) for index, name in enumerate(tissues)
        }
    n_voxels = sum(len(voxels) for voxels in voxels_by_group.values())
    step = max(1, math.ceil(n_voxels / _MAX_CARPET_ROWS))
    sampled_by_group = {
        name: voxels[::step] for name, voxels in voxels_by_group.items() if voxels.size
    }
    voxel_numbers = np.concatenate([np.zeros(0, dtype=int), *sampled_by_group.values()])
    voxels = np.unravel_index(voxel_numbers, brain.shape)
    rows = np.stack([volume[voxels] for volume in series.volumes()], axis=1)
    return rows, [(name, len(voxels)) for name, voxels in sampled_by_group.items()]


def _draw_outliers(
    acquired: SeriesReader, mask: Volume, volume_numbers: Sequence[int], n_dummy: int
) -> FigureContent:
    """Draw the first outlier volumes of a series, next to the nearest other volumes.

    `volume_numbers` are the numbers of all outlier volumes.
    """
    from bids_sr.report.figures.outlier_volumes import outlier_figure

    weights_by_outlier = interpolation_weights(volume_numbers, acquired.shape[3], n_dummy)
    outliers, neighbors = {}, {}
    for number in list(weights_by_outlier)[:_MAX_OUTLIERS]:
        weights = weights_by_outlier[number]
        nearest = max(weights, key=weights.__getitem__)
        outliers[number] = mask.like(acquired.volume(number))
        neighbors[number] = nearest, mask.like(acquired.volume(nearest))
    return outlier_figure(outliers, neighbors, mask)
