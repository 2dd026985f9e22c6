"""Maps of what is fine: effects beyond the acquired Nyquist limit, and where a run fluctuates."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from bids_sr.reports.figures.forest_plots import literal
from bids_sr.reports.figures.style import (
    GRID,
    INK,
    Array,
    FigureInputError,
    bounding_box,
    canonical,
    color_bar,
    cropped,
    height_over_width,
    mark_position,
    mark_sides,
    new_figure,
    show_contour,
    show_plane,
    slice_indices,
)
from bids_sr.reports.tables import evaluation_rows as pick


def beyond_figure(
    maps: Mapping[str, Array],
    affine: Array,
    mask: Array,
    *,
    active: Array | None = None,
    scores: Mapping[str, float] | None = None,
    score: str = "r",
    n_slices: int = 3,
) -> Figure:
    """Effects that only the finest band holds, series by series on one color scale.

    Parameters
    ----------
    maps : (X, Y, Z) effect beyond the acquired Nyquist limit by series, signal units; the last chooses the planes
    affine : voxel → RAS mm
    mask : (X, Y, Z) brain
    active : (X, Y, Z) region to outline
    scores : what to write beside a series' name, such as its r
    score : what that is called
    n_slices : planes, from those where the last map is strongest

    Raises
    ------
    FigureInputError
        if there is no map
    """
    if not maps:
        raise FigureInputError("there is no map beyond the acquired Nyquist limit")
    brain = canonical(np.asarray(mask > 0, dtype=np.float32), affine)
    shown = {name: canonical(np.where(mask > 0, data, np.nan), affine) for name, data in maps.items()}
    outline = None if active is None or not np.any(active) else canonical(np.asarray(active, np.float32), affine)
    last = np.nan_to_num(shown[list(shown)[-1]].data)
    limit = max(float(np.percentile(np.abs(last[brain.data > 0]), 99)) if brain.data.any() else 0.0, 1e-12)
    planes = _strong_planes(last, brain.data, n_slices)
    box = bounding_box(brain.data, brain.zooms, margin_mm=3.0)
    with literal():
        fig = new_figure(12.0, 11.75 / len(shown) * height_over_width(box, brain) * len(planes) + 0.95)
        tall = fig.get_figheight()
        grid = {"left": 0.012, "right": 0.999, "top": 1 - 0.36 / tall, "bottom": 0.56 / tall, "wspace": 0.012,
                "hspace": 0.015}  # fmt: skip
        axes = np.asarray(fig.subplots(len(planes), len(shown), squeeze=False, gridspec_kw=grid))
        image: Any = None
        for column, (name, volume) in zip(axes.T, shown.items(), strict=True):
            for ax, k in zip(column, planes, strict=True):
                flat = (box[0], box[1], slice(k, k + 1))
                ax.set_facecolor(GRID)
                image = show_plane(ax, cropped(volume, flat), 2, 0, cmap="RdBu_r", vmin=-limit, vmax=limit)
                if outline is not None:
                    show_contour(ax, cropped(outline, flat), 2, 0, INK, width=0.6)
            text = pick.series_text(name)
            value = (scores or {}).get(name, math.nan)
            column[0].set_title(
                text + (f" ({score} {pick.value_text(value)})" if math.isfinite(value) else ""), fontsize=9, pad=3
            )
        for ax, k in zip(axes[:, 0], planes, strict=True):
            mark_position(ax, brain, 2, k, color=INK)
        mark_sides(axes[0, 0], 2, color=INK)
        color_bar(fig, image, (0.36, 0.36 / tall, 0.28, 0.09 / tall), "effect beyond the Nyquist limit (signal units)")
    return fig


def _strong_planes(values: Array, brain: Array, n_slices: int) -> list[int]:
    """Planes with the largest power of a map, at least two apart, ascending; spread evenly where there is none."""
    inside = brain > 0
    power = np.array([np.square(values[:, :, k][inside[:, :, k]]).sum() for k in range(values.shape[2])])
    if not power.any():
        return slice_indices(brain, 2, n_slices)
    chosen: list[int] = []
    for k in np.argsort(-power, kind="stable"):
        if power[k] > 0 and all(abs(int(k) - c) >= 2 for c in chosen):
            chosen.append(int(k))
        if len(chosen) == n_slices:
            break
    return sorted(chosen)
