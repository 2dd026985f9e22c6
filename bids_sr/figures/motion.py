"""Figures of a run over time: head motion and carpet plots."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from bids_sr.figures import canvas as s
from bids_sr.io.arrays import Array, MaskArray

_AXIS_COLORS = (s.RED, s.GREEN, s.BLUE)
_TISSUE_COLORS = {"GM": s.BLUE, "WM": s.ORANGE, "CSF": s.SKY, "brain": s.SOFT}


def _column(table: Mapping[str, Array], *names: str) -> Array | None:
    return next((np.asarray(table[name], dtype=float) for name in names if name in table), None)


def _style_axes(
    ax: Axes, label: str, *, last: bool, n_dummy: int, end: float, step: float
) -> None:
    ax.set_ylabel(label, fontsize=8)
    ax.tick_params(labelsize=7, labelbottom=last)
    ax.set_xlim(-step / 2, end + step / 2)
    s.light_grid(ax, "y")
    if n_dummy:
        ax.axvspan(-step / 2, (n_dummy - 0.5) * step, color=s.FAINT, lw=0)


def _shade_censored(ax: Axes, time: float, tr: float) -> None:
    """Shade a censored volume, given its time and the repetition time (s)."""
    ax.axvspan(time - tr / 2, time + tr / 2, color=s.RED, alpha=0.25, lw=0)


def _summary(values: Array, unit: str) -> str:
    finite = values[np.isfinite(values)]
    return (
        f"mean {finite.mean():.2f}\nmax {finite.max():.2f} {unit}".strip()
        if finite.size
        else "not available"
    )


def motion_figure(
    table: Mapping[str, Array], tr: float, *, n_dummy: int = 0, uncensored: MaskArray | None = None
) -> Figure:
    """Plot translations, rotations, FD and DVARS of a run.

    Parameters
    ----------
    table : Mapping[str, ndarray]
        Columns of the confounds table: ``trans_x…`` (mm), ``rot_x…`` (rad),
        ``framewise_displacement`` (mm), and ``std_dvars`` or ``dvars``. The panel of a missing
        column contains a note.
    tr : float
        Repetition time (s).
    n_dummy : int
        Number of non-steady-state volumes at the start, which are shaded.
    uncensored : ndarray | None
        Volumes that are not censored (T,); None if no volume is censored. Censored volumes are
        shaded in red and excluded from mean and maximum.
    """
    panels = (
        ("Translation\n(mm)", [_column(table, f"trans_{a}") for a in "xyz"]),
        (
            "Rotation\n(°)",
            [None if (c := _column(table, f"rot_{a}")) is None else np.degrees(c) for a in "xyz"],
        ),
        ("FD (mm)", [_column(table, "framewise_displacement")]),
        (
            "DVARS\n(standardized)" if "std_dvars" in table else "DVARS",
            [_column(table, "std_dvars", "dvars")],
        ),
    )
    n_volumes = max((len(np.asarray(c)) for c in table.values()), default=1)
    time = np.arange(n_volumes) * tr
    counted = np.arange(n_volumes) >= n_dummy
    censored = (
        np.zeros(n_volumes, dtype=bool)
        if uncensored is None
        else counted & ~np.asarray(uncensored)
    )
    counted &= ~censored
    with s.style():
        fig = s.new_figure(12.0, 3.7)
        grid = {"left": 0.075, "right": 0.9, "top": 0.985, "bottom": 0.1, "hspace": 0.14}
        axes = fig.subplots(4, 1, gridspec_kw=grid)
        for ax, (label, curves) in zip(axes, panels, strict=True):
            _style_axes(ax, label, last=ax is axes[-1], n_dummy=n_dummy, end=time[-1], step=tr)
            for volume in np.flatnonzero(censored):
                _shade_censored(ax, time[volume], tr)
            available = [curve for curve in curves if curve is not None]
            if len(available) < len(curves):
                ax.text(
                    0.5,
                    0.5,
                    "not in the confounds table",
                    transform=ax.transAxes,
                    ha="center",
                    color=s.SOFT,
                )
                continue
            for curve, axis, color in zip(available, "xyz", _AXIS_COLORS, strict=False):
                single = len(available) == 1
                ax.plot(
                    time,
                    curve,
                    color=s.INK if single else color,
                    lw=1.0,
                    label=None if single else axis,
                )
                if single:
                    text = _summary(curve[counted], "mm" if "mm" in label else "")
                    text = f"kept volumes:\n{text}" if censored.any() else text
                    ax.text(1.01, 0.5, text, transform=ax.transAxes, va="center", fontsize=8)
            if len(curves) > 1:
                ax.legend(
                    loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8, handlelength=1.2
                )
            if label.startswith("FD"):
                ax.axhline(0.5, color=s.RED, lw=0.7, ls=(0, (4, 3)))
        shading_labels = {"gray: non-steady": n_dummy > 0, "red: censored": bool(censored.any())}
        shading_text = ", ".join(text for text, is_used in shading_labels.items() if is_used)
        axes[-1].set_xlabel(
            f"Time (s); {shading_text} volumes" if shading_text else "Time (s)", fontsize=8
        )
    return fig


def carpet_rows(series: Array, n_dummy: int = 0) -> Array:
    """Return detrended and standardized voxel time series (voxels, T) as float32.

    A linear trend is removed, and each row is divided by its standard deviation. The first
    `n_dummy` volumes are excluded from trend, mean and standard deviation, so that their high
    signal does not hide the remaining volumes. Constant rows become 0.
    """
    time = np.linspace(-1, 1, series.shape[1])
    design = np.stack([np.ones_like(time), time], axis=1)
    fitted, *_ = np.linalg.lstsq(design[n_dummy:], series[:, n_dummy:].T, rcond=None)
    residual = series - (design @ fitted).T
    deviation = residual[:, n_dummy:].std(axis=1, keepdims=True)
    # Rounding errors give constant rows a small deviation.
    varies = deviation > 1e-6 * np.abs(series).mean(axis=1, keepdims=True)
    return np.divide(
        residual, deviation, out=np.zeros_like(residual, dtype=np.float64), where=varies
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

    Parameters
    ----------
    rows : ndarray
        Rows of `carpet_rows` (voxels, T), sorted by tissue.
    tissues : Sequence[tuple[str, int]]
        Name and number of rows of each group, from top to bottom.
    tr : float
        Repetition time (s).
    traces : Mapping[str, ndarray]
        Curves (T,) above the carpet by label, such as motion; they help to explain stripes in the
        carpet.
    n_dummy : int
        Number of non-steady-state volumes at the start, which are shaded.
    uncensored : ndarray | None
        Volumes that are not censored (T,); None if no volume is censored. Censored volumes are
        shaded in red.
    """
    n_volumes = rows.shape[1]
    time = np.arange(n_volumes) * tr
    with s.style():
        fig = s.new_figure(12.0, 2.4 + 0.55 * len(traces))
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
        for ax, (label, curve), color in zip(
            axes, traces.items(), (s.INK, s.PURPLE, s.GREEN, s.RED), strict=False
        ):
            _style_axes(ax, label, last=False, n_dummy=n_dummy, end=time[-1], step=tr)
            ax.plot(time, np.asarray(curve, dtype=float), color=color, lw=0.9)
            ax.yaxis.label.set(rotation=0, ha="right", va="center")
        ax = axes[-1]
        edges = (-tr / 2, time[-1] + tr / 2, rows.shape[0], 0)
        image = ax.imshow(
            rows, cmap="gray", vmin=-2, vmax=2, aspect="auto", interpolation="none", extent=edges
        )
        s.blank(ax)
        if uncensored is not None:
            for volume in np.flatnonzero(~np.asarray(uncensored)[n_dummy:]) + n_dummy:
                for any_ax in axes:
                    _shade_censored(any_ax, time[volume], tr)
        for trace_ax in axes:
            trace_ax.xaxis.set_major_locator(MaxNLocator(8, steps=[1, 2, 5, 10]))
        ax.tick_params(labelsize=7)
        ax.set_xlabel(f"Time (s); {rows.shape[0]} voxels shown", fontsize=8)
        start = 0
        for name, count in tissues:
            color = _TISSUE_COLORS.get(name, s.SOFT)
            strip = {
                "transform": ax.get_yaxis_transform(),
                "clip_on": False,
                "lw": 0,
                "color": color,
            }
            ax.fill_between([-0.012, -0.004], start, start + count, **strip)
            center, label_transform = start + count / 2, ax.get_yaxis_transform()
            ax.text(
                -0.018,
                center,
                name,
                transform=label_transform,
                ha="right",
                va="center",
                fontsize=8,
            )
            start += count
            if start < rows.shape[0]:
                ax.axhline(start, color=color, lw=0.8)
        s.color_bar(
            fig, image, (0.945, bottom, 0.008, 1.2 / fig.get_figheight()), "standard deviations"
        )
    return fig
