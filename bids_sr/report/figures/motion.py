"""Figures of a run over time: head motion and carpet plots."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from bids_sr.io.arrays import Array, MaskArray
from bids_sr.report.figures import canvas

_HIGH_FD_MM = 0.5  # mm, framewise displacement that a line marks
_AXIS_COLORS = (canvas.RED, canvas.GREEN, canvas.BLUE)
_TRACE_COLORS = (canvas.INK, canvas.PURPLE, canvas.GREEN, canvas.RED)
_TISSUE_COLORS = {"GM": canvas.BLUE, "WM": canvas.ORANGE, "CSF": canvas.SKY, "brain": canvas.SOFT}


def motion_figure(
    table: Mapping[str, Array], tr: float, *, n_dummy: int = 0, uncensored: MaskArray | None = None
) -> Figure:
    """Plot translations, rotations, FD and DVARS of a run.

    `table` has columns of the confounds table: ``trans_x…`` (mm), ``rot_x…`` (rad),
    ``framewise_displacement`` (mm), and ``std_dvars`` or ``dvars``. The panel of a missing column
    contains a note. `tr` is in s.

    The first `n_dummy` volumes (non-steady state) are shaded. Volumes that are not `uncensored`
    (T,) are shaded in red and excluded from mean and maximum; None if no volume is censored.
    """
    curves_by_label = _list_curves(table)
    n_volumes = max((len(np.asarray(column)) for column in table.values()), default=1)
    times_s = np.arange(n_volumes) * tr
    is_counted = np.arange(n_volumes) >= n_dummy
    is_censored = (
        np.zeros(n_volumes, dtype=bool)
        if uncensored is None
        else is_counted & ~np.asarray(uncensored)
    )
    is_counted &= ~is_censored
    summary_heading = "kept volumes:\n" if is_censored.any() else ""
    with canvas.style():
        fig = canvas.new_figure(12.0, 3.7)
        grid = {"left": 0.075, "right": 0.9, "top": 0.985, "bottom": 0.1, "hspace": 0.14}
        axes = fig.subplots(4, 1, gridspec_kw=grid)
        for ax, (label, curves) in zip(axes, curves_by_label.items(), strict=True):
            _style_axes(
                ax, label, is_last=ax is axes[-1], n_dummy=n_dummy, end_s=times_s[-1], tr=tr
            )
            for volume in np.flatnonzero(is_censored):
                _shade_censored(ax, times_s[volume], tr)
            known_curves = [curve for curve in curves if curve is not None]
            if len(known_curves) < len(curves):
                canvas.write_note(ax, "not in the confounds table")
            elif len(known_curves) == 1:
                summary = _summarize(known_curves[0][is_counted], "mm" if "mm" in label else "")
                ax.plot(times_s, known_curves[0], color=canvas.INK, lw=1.0)
                summary_text = summary_heading + summary
                ax.text(1.01, 0.5, summary_text, transform=ax.transAxes, va="center", fontsize=8)
            else:
                for curve, axis, color in zip(known_curves, "xyz", _AXIS_COLORS, strict=True):
                    ax.plot(times_s, curve, color=color, lw=1.0, label=axis)
                ax.legend(
                    loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8, handlelength=1.2
                )
            if label.startswith("FD") and known_curves:
                ax.axhline(_HIGH_FD_MM, color=canvas.RED, lw=0.7, ls=(0, (4, 3)))
        shading_labels = {
            "gray: non-steady": n_dummy > 0,
            "red: censored": bool(is_censored.any()),
        }
        shading_text = ", ".join(text for text, is_used in shading_labels.items() if is_used)
        axes[-1].set_xlabel(
            f"Time (s); {shading_text} volumes" if shading_text else "Time (s)", fontsize=8
        )
    return fig


def _list_curves(table: Mapping[str, Array]) -> dict[str, list[Array | None]]:
    """Return the curves of the motion figure by label; None for a missing column."""
    rotations = [_get_column(table, f"rot_{axis}") for axis in "xyz"]
    return {
        "Translation\n(mm)": [_get_column(table, f"trans_{axis}") for axis in "xyz"],
        "Rotation\n(°)": [
            None if rotation is None else np.degrees(rotation) for rotation in rotations
        ],
        "FD (mm)": [_get_column(table, "framewise_displacement")],
        "DVARS\n(standardized)" if "std_dvars" in table else "DVARS": [
            _get_column(table, "std_dvars", "dvars")
        ],
    }


def _get_column(table: Mapping[str, Array], *names: str) -> Array | None:
    """Return the first available column; None if the table has none of them."""
    return next((np.asarray(table[name], dtype=float) for name in names if name in table), None)


def _summarize(values: Array, unit: str) -> str:
    """Return mean and maximum of the finite values as text."""
    finite = values[np.isfinite(values)]
    if not finite.size:
        return "not available"
    return f"mean {finite.mean():.2f}\nmax {finite.max():.2f} {unit}".strip()


def carpet_rows(series: Array, n_dummy: int = 0) -> Array:
    """Return detrended and standardized voxel time series (voxels, T) as float32.

    A linear trend is removed, and each row is divided by its standard deviation. The first
    `n_dummy` volumes are excluded from trend, mean and standard deviation, so that their high
    signal does not hide the remaining volumes. Constant rows become 0.
    """
    time = np.linspace(-1, 1, series.shape[1])
    design = np.stack([np.ones_like(time), time], axis=1)
    trend_weights, *_ = np.linalg.lstsq(design[n_dummy:], series[:, n_dummy:].T, rcond=None)
    residual = series - (design @ trend_weights).T
    deviation = residual[:, n_dummy:].std(axis=1, keepdims=True)
    # Rounding errors give constant rows a small deviation.
    is_varying = deviation > 1e-6 * np.abs(series).mean(axis=1, keepdims=True)
    return np.divide(
        residual, deviation, out=np.zeros_like(residual, dtype=np.float64), where=is_varying
    ).astype(np.float32)


def carpet_figure(
    rows: Array,
    tissues: Sequence[tuple[str, int]],
    tr: float,
    *,
    traces: Mapping[str, Array],
    n_dummy: int = 0,
    uncensored: MaskArray | None = None,
) -> Figure:
    """Plot time series of sampled voxels, sorted by tissue, below explanatory traces.

    `rows` are from `carpet_rows` (voxels, T), sorted by tissue, and `tissues` the name and
    number of rows of each group, from top to bottom. `tr` is in s. `traces` are curves (T,) above
    the carpet by label, such as motion; they help to explain stripes in the carpet.

    The first `n_dummy` volumes (non-steady state) are shaded. Volumes that are not `uncensored`
    (T,) are shaded in red; None if no volume is censored.
    """
    n_volumes = rows.shape[1]
    times_s = np.arange(n_volumes) * tr
    with canvas.style():
        fig = canvas.new_figure(12.0, 2.4 + 0.55 * len(traces))
        bottom = 0.49 / fig.get_figheight()
        heights = [*([1.0] * len(traces)), 3.6]
        grid = {
            "left": 0.075,
            "right": 0.93,
            "top": 0.985,
            "bottom": bottom,
            "hspace": 0.1,
            "height_ratios": heights,
        }
        axes = np.atleast_1d(fig.subplots(len(heights), 1, gridspec_kw=grid))
        *trace_axes, carpet_ax = axes
        for trace_ax, (label, curve), color in zip(
            trace_axes, traces.items(), _TRACE_COLORS, strict=False
        ):
            _style_axes(trace_ax, label, is_last=False, n_dummy=n_dummy, end_s=times_s[-1], tr=tr)
            trace_ax.plot(times_s, np.asarray(curve, dtype=float), color=color, lw=0.9)
            trace_ax.yaxis.label.set(rotation=0, ha="right", va="center")
        edges = (-tr / 2, times_s[-1] + tr / 2, rows.shape[0], 0)
        image = carpet_ax.imshow(
            rows, cmap="gray", vmin=-2, vmax=2, aspect="auto", interpolation="none", extent=edges
        )
        canvas.hide_axes(carpet_ax)
        if uncensored is not None:
            for volume in np.flatnonzero(~np.asarray(uncensored)[n_dummy:]) + n_dummy:
                for ax in axes:
                    _shade_censored(ax, times_s[volume], tr)
        for ax in axes:
            ax.xaxis.set_major_locator(MaxNLocator(8, steps=[1, 2, 5, 10]))
        carpet_ax.tick_params(labelsize=7)
        carpet_ax.set_xlabel(f"Time (s); {rows.shape[0]} voxels shown", fontsize=8)
        _draw_tissue_strips(carpet_ax, tissues, rows.shape[0])
        canvas.color_bar(
            fig, image, (0.945, bottom, 0.008, 1.2 / fig.get_figheight()), "standard deviations"
        )
    return fig


def _style_axes(
    ax: Axes, label: str, *, is_last: bool, n_dummy: int, end_s: float, tr: float
) -> None:
    """Label an axes, set its range of times, and shade non-steady-state volumes."""
    ax.set_ylabel(label, fontsize=8)
    ax.tick_params(labelsize=7, labelbottom=is_last)
    ax.set_xlim(-tr / 2, end_s + tr / 2)
    canvas.light_grid(ax, "y")
    if n_dummy:
        ax.axvspan(-tr / 2, (n_dummy - 0.5) * tr, color=canvas.FAINT, lw=0)


def _shade_censored(ax: Axes, time: float, tr: float) -> None:
    """Shade a censored volume, given its time and the repetition time (s)."""
    ax.axvspan(time - tr / 2, time + tr / 2, color=canvas.RED, alpha=0.25, lw=0)


def _draw_tissue_strips(ax: Axes, tissues: Sequence[tuple[str, int]], n_rows: int) -> None:
    """Draw colored strips with names beside the groups of a carpet, and lines between groups."""
    transform = ax.get_yaxis_transform()
    start = 0
    for name, count in tissues:
        color = _TISSUE_COLORS.get(name, canvas.SOFT)
        ax.fill_between(
            [-0.012, -0.004],
            start,
            start + count,
            transform=transform,
            clip_on=False,
            lw=0,
            color=color,
        )
        ax.text(
            -0.018,
            start + count / 2,
            name,
            transform=transform,
            ha="right",
            va="center",
            fontsize=8,
        )
        start += count
        if start < n_rows:
            ax.axhline(start, color=color, lw=0.8)
