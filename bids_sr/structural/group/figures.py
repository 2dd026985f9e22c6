"""Group figures of structural scans: agreement of volumes, and change over time."""

import math
import textwrap
from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bids_sr.engine.metric_rows import BRAIN
from bids_sr.evaluation.statistics.limits_of_agreement import Agreement, limits_of_agreement
from bids_sr.group.paired_values_figure import choose_color
from bids_sr.io.arrays import Float
from bids_sr.io.series import MEASURED
from bids_sr.report.figures import canvas as s
from bids_sr.report.figures.canvas import FigureInputError
from bids_sr.structural.group.values import (
    QUESTION,
    average_by_participant,
    list_series,
    session_volumes,
)
from bids_sr.structural.group.volume_change import sort_times

_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
CLASS_NAMES = {
    "gm": "gray matter",
    "wm": "white matter",
    "csf": "CSF",
    "wmh": "white-matter hyperintensities",
    "veins": "veins and sinuses",
    "pial": "pial layer and partial volume",
    "csfSpaces": "CSF spaces (all contrasts)",
    "brainTissue": "brain tissue (all contrasts)",
    "brain": "brain",
    "scan": "whole scan",
}
"""Names of segmentation classes in figures and tables."""


def tabulate_similarity(values: pd.DataFrame, name: str) -> list[tuple[str, pd.DataFrame]]:
    """Return a panel per contrast for `plot_paired_values`: one similarity metric in the brain.

    `values` are rows of all participants from `read_values`, and `name` is the statistic.
    """
    participant_values = average_by_participant(
        values[(values["statistic"] == name) & (values["region"] == BRAIN)]
    )
    series_names = [series for series in list_series(values) if series in participant_values]
    return [
        (
            str(contrast),
            contrast_values.droplevel(QUESTION)[series_names].dropna(axis=1, how="all"),
        )
        for contrast, contrast_values in participant_values.groupby(level="contrast", sort=False)
    ]


def agreement_figure(pairs: pd.DataFrame, region: str) -> Figure:
    """Plot Bland-Altman panels of the volume of one class, one panel per series.

    The abscissa is the mean of both volumes (ml), the ordinate the difference from the measured
    scans in percent of this mean. The solid line is the bias, dashed lines are limits of
    agreement, and bands are their 95 % intervals. `pairs` are the volumes of all participants from
    `volume_pairs`. Raises `FigureInputError` if no volume of the class is available.
    """
    class_pairs = pairs[pairs["region"] == region].dropna(subset=["percent"])
    series_names = list(dict.fromkeys(class_pairs["series"]))
    if not series_names:
        raise FigureInputError(f"none of the tables contains the volume of {region}")
    low, high = math.inf, -math.inf
    with s.style():
        fig = s.new_figure(12.0, 3.2)
        axes = fig.subplots(1, len(series_names), squeeze=False, sharex=True, sharey=True)[0]
        for ax, name in zip(axes, series_names, strict=True):
            series_pairs = class_pairs[class_pairs["series"] == name]
            agreement = limits_of_agreement(series_pairs["percent"])
            ax.axhline(0, color=s.GRID, lw=0.8)
            if agreement.n > 1:
                _draw_agreement(ax, agreement)
                low = min(low, agreement.low_limit_lower)
                high = max(high, agreement.high_limit_upper)
            ax.scatter(
                series_pairs["mean"],
                series_pairs["percent"],
                s=18,
                color=choose_color(name),
                zorder=3,
            )
            ax.set_title(name, loc="left")
            ax.set_xlabel("mean of both volumes (ml)")
        if low < high:
            margin = 0.05 * (high - low)
            axes[0].set_ylim(low - margin, high + margin)
        axes[0].set_ylabel("difference (% of mean)")
        fig.subplots_adjust(left=0.06, right=0.99, top=0.9, bottom=0.17, wspace=0.06)
    return fig


def _draw_agreement(ax: Axes, agreement: Agreement) -> None:
    """Draw bias and limits of agreement as lines, and their confidence intervals as bands."""
    for value, lower, upper, color, line_style in (
        (agreement.bias, agreement.bias_lower, agreement.bias_upper, s.INK, "-"),
        (agreement.low_limit, agreement.low_limit_lower, agreement.low_limit_upper, s.SOFT, "--"),
        (
            agreement.high_limit,
            agreement.high_limit_lower,
            agreement.high_limit_upper,
            s.SOFT,
            "--",
        ),
    ):
        ax.axhspan(lower, upper, color=color, alpha=0.08, lw=0)
        ax.axhline(value, color=color, lw=1.2, ls=line_style)


def variability_figure(values: pd.DataFrame, classes: Sequence[str]) -> Figure:
    """Plot volumes over sessions in percent of each participant's mean, one panel per class.

    There is one line per participant, and one row of panels per series. Raises `FigureInputError`
    if no participant has two sessions.
    """
    volumes = session_volumes(values)
    series_names = [series for series in list_series(values) if series in set(volumes["series"])]
    if not series_names:
        raise FigureInputError("none of the participants has scans from two sessions")
    sessions = sorted(set(volumes["session"]))
    participants = list(dict.fromkeys(volumes["participant"]))
    classes_with_volumes = [label for label in classes if (volumes["region"] == label).any()]
    with s.style():
        height = 0.8 + 1.5 * len(series_names)
        fig = s.new_figure(12.0, height)
        axes = fig.subplots(
            len(series_names), len(classes_with_volumes), squeeze=False, sharex=True, sharey="col"
        )
        for row, name in zip(axes, series_names, strict=True):
            for ax, region in zip(row, classes_with_volumes, strict=True):
                panel_volumes = volumes[
                    (volumes["series"] == name) & (volumes["region"] == region)
                ]
                _draw_session_lines(ax, panel_volumes, participants, sessions, choose_color(name))
            row[0].set_ylabel(f"{name} (%)")
        for ax, region in zip(axes[0], classes_with_volumes, strict=True):
            _set_class_title(ax, region, len(classes_with_volumes))
        for ax in axes[-1]:
            ax.set_xticks(range(len(sessions)), sessions)
            ax.set_xlabel("session")
            ax.set_xlim(-0.3, len(sessions) - 0.7)
        fig.subplots_adjust(
            left=0.07,
            right=0.99,
            top=1 - 0.45 / height,
            bottom=0.45 / height,
            wspace=0.4,
            hspace=0.15,
        )
    return fig


def _draw_session_lines(
    ax: Axes,
    volumes: pd.DataFrame,
    participants: Sequence[str],
    sessions: Sequence[str],
    color: str,
) -> None:
    """Draw a line per participant: volumes in percent of the participant's mean."""
    ax.axhline(100, color=s.GRID, lw=0.8)
    for index, participant in enumerate(participants):
        participant_volumes = volumes[volumes["participant"] == participant].sort_values("session")
        positions = [sessions.index(session) for session in participant_volumes["session"]]
        marker = _MARKERS[index % len(_MARKERS)]
        ax.plot(
            positions,
            participant_volumes["percent"],
            color=color,
            lw=0.9,
            marker=marker,
            ms=4,
            alpha=0.8,
        )


def change_figure(volumes: pd.DataFrame, classes: Sequence[str], unit: str) -> Figure:
    """Plot volumes of the measured scans and their change from baseline over time, as boxes.

    Each class has a column of panels: volumes (ml) at the top, change in percent at the bottom.
    Boxes show quartiles and median, whiskers the full range, diamonds the mean. `volumes` are from
    `volume_change.read_volumes`, and `unit` is the unit of time in words. Raises
    `FigureInputError` if no measured scan has a volume.
    """
    measured_volumes = volumes[volumes["series"] == MEASURED]
    classes_with_volumes = [
        label for label in classes if (measured_volumes["region"] == label).any()
    ]
    if not classes_with_volumes:
        raise FigureInputError("none of the measured scans has a volume")
    times = sort_times(measured_volumes["time"])
    with s.style():
        fig = s.new_figure(12.0, 4.0)
        axes = fig.subplots(2, len(classes_with_volumes), squeeze=False, sharex=True)
        for column, region in zip(axes.T, classes_with_volumes, strict=True):
            for ax, name in zip(column, ("value", "change"), strict=True):
                region_volumes = measured_volumes[measured_volumes["region"] == region]
                time_values = [
                    region_volumes.loc[region_volumes["time"] == time, name].dropna().to_numpy()
                    for time in times
                ]
                _draw_boxes(ax, time_values)
            _set_class_title(column[0], region, len(classes_with_volumes))
            column[1].axhline(0, color=s.GRID, lw=0.8, zorder=0)
            column[1].set_xticks(range(len(times)), times)
            column[1].set_xlim(-0.6, len(times) - 0.4)
            column[1].set_xlabel(unit)
        axes[0][0].set_ylabel("volume (ml)")
        axes[1][0].set_ylabel("change (%)")
        fig.subplots_adjust(left=0.06, right=0.99, top=0.89, bottom=0.12, wspace=0.45, hspace=0.1)
    return fig


def _draw_boxes(ax: Axes, time_values: Sequence[Float]) -> None:
    """Draw a box per time; `time_values` are the participants' values at each time."""
    positions = [index for index, values in enumerate(time_values) if len(values)]
    if positions:
        ax.boxplot(
            [time_values[index] for index in positions],
            positions=positions,
            widths=0.6,
            whis=(0, 100),
            showmeans=True,
            manage_ticks=False,
            medianprops={"color": s.GREEN, "lw": 1.6},
            meanprops={"marker": "D", "ms": 3.5, "mfc": s.INK, "mec": s.INK},
            boxprops={"lw": 0.9},
        )


def _set_class_title(ax: Axes, region: str, n_panels: int) -> None:
    """Write the class name above a panel, with line breaks if it exceeds the panel width."""
    width = max(12, 120 // n_panels)  # characters
    name = textwrap.fill(CLASS_NAMES.get(region, region), width, break_long_words=False)
    ax.set_title(name, loc="left", fontsize=8)
