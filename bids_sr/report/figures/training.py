"""Figure of training progress: held-out PSNR and losses by training step."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bids_sr.io.arrays import Array
from bids_sr.io.json_values import as_mapping, as_number
from bids_sr.report.figures import canvas
from bids_sr.report.held_out_text import NETWORK, read_scores
from bids_sr.sr.method import UnknownMethod, get_method

_LEGEND_OPTIONS: dict[str, Any] = {
    "loc": "center left",
    "bbox_to_anchor": (1.01, 0.5),
    "fontsize": 8,
}
_LOSSES = ("loss", "content", "adversarial", "perceptual", "critic")
_BASELINE_COLORS = (canvas.ORANGE, canvas.GREEN, canvas.PURPLE, canvas.SKY, canvas.RED)


def training_figure(columns: Mapping[str, Array], card: Mapping[str, object]) -> Figure:
    """Plot held-out PSNR, the PSNR of baselines, and training losses by training step.

    If training continued on all slices without held-out slices, its step count starts again at 0;
    only the first phase is drawn.

    `columns` is the training log: ``iteration``, ``psnr`` and losses, NaN if a row has no value.
    Columns without rows mean that the model has no training log. The ``held_out`` entry of the
    model card has scores of baselines and the iteration of the saved weights.
    """
    log = _select_first_phase(columns)
    steps = log["iteration"]
    held_out = as_mapping(card.get("held_out"))
    baseline_psnr = {
        name: scores["psnr"] for name, scores in read_scores(held_out).items() if name != NETWORK
    }
    best_iteration = as_number(held_out.get("iteration"))
    with canvas.style():
        fig = canvas.new_figure(12.0, 2.7)
        margins = {
            "left": 0.065,
            "right": 0.89,
            "top": 0.97,
            "bottom": 0.17,
            "wspace": 0.62,
            "width_ratios": [1.2, 1.0],
        }
        quality_ax, loss_ax = fig.subplots(1, 2, gridspec_kw=margins)
        if "psnr" in log:
            _draw_psnr(quality_ax, steps, log["psnr"], _label_network(card))
        finite_psnr = {name: value for name, value in baseline_psnr.items() if np.isfinite(value)}
        for (name, value), color in zip(finite_psnr.items(), _BASELINE_COLORS * 2, strict=False):
            label = f"{name} ({value:.2f} dB)"
            quality_ax.axhline(value, color=color, lw=1.1, ls=(0, (5, 3)), label=label)
        if np.isfinite(best_iteration):
            label = f"stopping point: {best_iteration:.0f}"
            quality_ax.axvline(best_iteration, color=canvas.SOFT, lw=0.9, ls=":", label=label)
        quality_ax.set(xlabel="iteration", ylabel="PSNR on held-out slices (dB)")
        quality_ax.set_xlim(0, (float(np.nanmax(steps)) if len(steps) else 1.0) * 1.02)
        for ax in (quality_ax, loss_ax):
            canvas.light_grid(ax)
        if quality_ax.get_legend_handles_labels()[0]:
            quality_ax.legend(**_LEGEND_OPTIONS)
        _draw_losses(loss_ax, steps, {name: log[name] for name in _LOSSES if name in log})
    return fig


def _select_first_phase(columns: Mapping[str, Array]) -> dict[str, Array]:
    """Return the numeric columns of a training log, until its step count starts again."""
    # The columns of a log without rows have no numeric data type.
    numeric_columns = {
        name: np.asarray(values, dtype=float)
        for name, values in columns.items()
        if name != "phase"
    }
    restarts = np.flatnonzero(np.diff(numeric_columns["iteration"]) < 0)
    if not restarts.size:
        return numeric_columns
    return {name: values[: restarts[0] + 1] for name, values in numeric_columns.items()}


def _label_network(card: Mapping[str, object]) -> str:
    """Return the label of the method of a model card; its name if this version lacks it."""
    name = str(card.get("method", NETWORK))
    try:
        return get_method(name).label(str(card.get("recipe", "")))
    except UnknownMethod:
        return name


def _draw_psnr(ax: Axes, steps: Array, psnr: Array, method: str) -> None:
    """Draw the held-out PSNR (dB) by training step, or a note if there are no values."""
    is_finite = np.isfinite(psnr)
    ax.plot(
        steps[is_finite],
        psnr[is_finite],
        color=canvas.BLUE,
        lw=1.6,
        marker="o",
        ms=3,
        label=method,
    )
    if not is_finite.any():
        canvas.write_note(
            ax, "no slices were held out" if len(steps) else "the model has no training log"
        )


def _draw_losses(ax: Axes, steps: Array, losses: Mapping[str, Array]) -> None:
    """Draw losses by training step, on a logarithmic axis if all are positive."""
    ax.set(xlabel="iteration", ylabel="training loss")
    finite_losses = {
        name: (steps[is_finite], values[is_finite])
        for name, values in losses.items()
        if (is_finite := np.isfinite(values)).any()
    }
    if not finite_losses:
        canvas.write_note(ax, "no loss was logged")
        return
    colors = (canvas.INK, canvas.BLUE, canvas.RED, canvas.GREEN, canvas.PURPLE, canvas.ORANGE)
    for name, color in zip(losses, colors, strict=False):
        if name in finite_losses:
            ax.plot(*finite_losses[name], color=color, lw=1.0, label=name)
    if all((values > 0).all() for _, values in finite_losses.values()):
        ax.set_yscale("log")
    ax.legend(**_LEGEND_OPTIONS)
