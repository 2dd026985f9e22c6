"""Figures of a run as it was acquired: what was acquired, head motion, and the carpet plot."""

from collections.abc import Iterator, Mapping

import numpy as np

from bids_sr.glm.time_columns import kept_volumes
from bids_sr.io.arrays import Array
from bids_sr.io.nifti import SeriesReader
from bids_sr.pipeline.artifacts import Confounds, Facts, Image, Mask, Series
from bids_sr.pipeline.figure import Content, Drawn, figure
from bids_sr.report.sections import Shown

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
    from bids_sr.report.facts import facts_html

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
    from bids_sr.figures.motion import carpet_figure, carpet_rows, motion_figure

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
    """Time series of a thinned set of voxels, grouped by tissue; only these voxels are read.

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
    rows = series.time_series(np.stack(np.unravel_index(chosen, inside.shape), axis=1))
    return rows, [(name, len(voxels)) for name, voxels in groups.items()]
