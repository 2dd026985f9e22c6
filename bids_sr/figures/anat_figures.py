"""Figures of anatomical images, of registrations and of training.

Registration figures show the reference, before and after; fused scans are structural.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import nibabel as nib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from bids_sr.figures import canvas as s
from bids_sr.figures import slices
from bids_sr.figures.canvas import FigureInputError
from bids_sr.figures.slices import Cut, Layer, Outline, Panel, Row
from bids_sr.io.atomic_files import mapped, real
from bids_sr.io.grids import Array, Volume
from bids_sr.report.html_tables import NETWORK, scores_of

_Views = Sequence[tuple[int, int]]
"""Pairs of an axis (0 sagittal, 1 coronal, 2 axial) and a number of planes across it."""
_MIXED_VIEWS: _Views = ((2, 4), (1, 3), (0, 2))
_MOSAIC_VIEWS: _Views = ((2, 9), (1, 9), (0, 9))
AXIAL_VIEWS: _Views = ((2, 10),)
_SHORTEST_MM, _MARGIN_MM = 15.0, 6.0
_TALL = 3.5
"""Height of a panel (inches) that none exceeds where few are shown."""


def _thin(outlines: Sequence[Outline]) -> list[Outline]:
    return [replace(each, width=0.6, shortest_mm=_SHORTEST_MM) for each in outlines]


def _inside(image: Volume, mask: Volume | None) -> Volume:
    return image.like(image.data != 0) if mask is None else mask


def mosaic_figure(
    image: Volume,
    outlines: Sequence[Outline],
    *,
    mask: Volume | None,
    views: _Views = _MOSAIC_VIEWS,
) -> Figure:
    """One image in rows of axial, coronal and sagittal planes, with outlines.

    `mask` is where planes are chosen and the gray scale is taken (None: where the image is not
    zero); `views` has one row each.

    `image`: image in any unit of intensity (3D).
    """
    inside = _inside(image, mask)
    gray = slices.gray(image, inside)
    lines = _thin(outlines)
    rows = [
        slices.row_of("", slices.spread_cuts(inside, _MARGIN_MM, view), gray, *lines)
        for view in views
    ]
    return slices.image_figure(rows, outlines=outlines, note="Left is left")


def registration_figure(
    images: Mapping[str, Volume],
    outlines: Sequence[Outline],
    *,
    mask: Volume | None = None,
    views: _Views = _MIXED_VIEWS,
) -> Figure:
    """Plot the reference and the moving image before and after registration in rows.

    The outlines of the reference are on all three.

    In the last row the reference lies below the registered image, which blinks while the pointer
    is on the figure.

    `images`: reference, before, after, by name, on one grid, else `FigureInputError` is raised.
    `outlines`: drawn from the reference, so that a contour off the edge means an image off its
    place.
    """
    if len(shapes := {each.data.shape for each in images.values()}) > 1:
        raise FigureInputError(f"images of shapes {sorted(shapes)} are not on one grid")
    reference, *_ = images.values()
    inside = _inside(reference, mask)
    lines = _thin(outlines)
    layers = [slices.gray(each, inside) for each in images.values()]
    stacks = [[each] for each in layers[:-1]] + [[layers[0], replace(layers[-1], blinks=True)]]
    cuts = slices.spread_cuts(inside, _MARGIN_MM, *views)
    rows = [
        slices.row_of(name, cuts, *stack, *lines)
        for name, stack in zip(images, stacks, strict=True)
    ]
    note = (
        "Left is left. Hover to switch between the reference and the registered image (bottom row)"
    )
    return slices.image_figure(rows, outlines=outlines, note=note)


def isolines(image: Volume, mask: Volume | None = None) -> list[Outline]:
    """Return outlines of an image without tissue maps.

    They follow the edge of the head and its bright inner structures.

    Levels are 45 % of the median signal, and the 88th percentile, of the lightly smoothed image
    inside the mask.

    `image`: image in any unit of intensity (3D). `mask`: voxels of the head or brain (3D); None:
    those above the mean.
    """
    from scipy import ndimage

    smooth = ndimage.gaussian_filter(np.asarray(image.data, dtype=np.float32), 1.0)
    has_mask = mask is not None and np.any(mask.data)
    inside = smooth[mask.data > 0] if mask and has_mask else smooth[smooth > smooth.mean()]
    if not inside.size or float(inside.max()) <= float(inside.min()):
        return []
    levels = {
        "edge of the reference": (s.SKY, 0.45 * float(np.median(inside))),
        "bright structures of the reference": (s.ORANGE, float(np.percentile(inside, 88))),
    }
    return [
        Outline(name=name, image=image.like(smooth), color=color, level=level)
        for name, (color, level) in levels.items()
    ]


def _stored_slice(grid: Volume, index: int, box: Array) -> Cut:
    """The cut of a slice of a grid, counted along the third axis of its array."""
    axis, direction = (int(each) for each in nib.orientations.io_orientation(grid.affine)[2])
    k = index if direction > 0 else grid.data.shape[2] - 1 - index
    return Cut(axis=axis, at=(k + 0.5) * float(grid.zooms[2]), box=box)


def _middle_coronal(mask: Volume) -> Cut:
    """Return the coronal plane in the middle of a mask, cut to it."""
    box = slices.box_of(mask, _MARGIN_MM)
    return Cut(axis=1, at=float(box[:, 1].mean()), box=box)


def scans_figure(
    series: Mapping[str, Mapping[str, Volume]],
    measured: Mapping[str, Volume],
    mask: Volume,
    index: int | None,
) -> Figure:
    """Plot a slice of each contrast (rows) in each series (columns).

    The measured scan comes last, followed by the remaining difference to it. Without measured
    scans, the gray scale of a contrast is taken from the first series.

    `index`: slice along the third axis of the arrays; None: the middle coronal plane.
    """
    shape = mask.data.shape
    if not series or any(
        scan.data.shape != shape for scans in series.values() for scan in scans.values()
    ):
        raise FigureInputError(
            "no series to draw, or a series is not on the grid of the brain mask"
        )
    cut = _middle_coronal(mask)
    if index is not None:
        cut = _stored_slice(mask, index, slices.box_of(mask, _MARGIN_MM))
    first, last = next(iter(series)), list(series)[-1]
    rows: list[Row] = []
    for contrast, gray in (measured or series[first]).items():
        low, high = slices.gray_limits(gray, mask)
        shown = {
            name: Layer(image=scans[contrast], low=low, high=high)
            for name, scans in series.items()
        }
        if contrast in measured:
            change = gray.like(series[last][contrast].data - gray.data)
            shown |= {
                "measured": Layer(image=gray, low=low, high=high),
                f"{last} − measured": Layer(
                    image=change, low=-0.25 * high, high=0.25 * high, colors="RdBu_r"
                ),
            }
        panels = [
            Panel(cut=cut, shown=[each], title="" if rows else name)
            for name, each in shown.items()
        ]
        rows.append((contrast, panels))
    return slices.image_figure(rows, tallest=_TALL)


_LESIONS, _MEASURED_LESIONS = "hyperintensities", "hyperintensities, measured scan"
_RED, _GREEN, _BLUE = "#e6262b", "#2ca02c", "#2f6fde"
_CLASS_COLORS = {"CSF": (1, _RED), "veins and sinuses": (2, _GREEN), "pial layer": (3, _BLUE)}
"""Labels of classes that are drawn, with the colors of attention_unet, figure 11."""


def classes_figure(
    scans: Mapping[str, Volume],
    lesions: Mapping[str, Volume],
    classes: Mapping[str, Volume],
    mask: Volume,
    index: int,
) -> Figure:
    """Plot a contrast with masks of lesions in a slice, and with tissue classes in a coronal one.

    Each plane has a row without and a row with masks. Source: attention_unet, figures 11 and 12.

    Parameters
    ----------
    scans : Mapping[str, Volume]
        One contrast in each series (columns); the measured scan is called ``measured``.
    lesions : Mapping[str, Volume]
        White-matter hyperintensities of each series (3D, boolean).
    classes : Mapping[str, Volume]
        Labels of each series: 1 CSF, 2 veins and sinuses, 3 pial layer; empty for no such rows.
    mask : Volume
        Voxels of the scans that remained (3D, boolean).
    index : int
        Slice along the third axis of the arrays.
    """
    if not scans or any(each.data.shape != mask.data.shape for each in scans.values()):
        raise FigureInputError(
            "no series to draw, or a series is not on the grid of the brain mask"
        )
    low, high = slices.gray_limits(scans.get("measured", next(iter(scans.values()))), mask)
    below = {name: Layer(image=scan, low=low, high=high) for name, scan in scans.items()}
    axial = _stored_slice(mask, index, slices.box_of(mask, _MARGIN_MM))
    over = {
        name: [_colored(each, each.data > 0, s.YELLOW if name == "measured" else _RED)]
        for name, each in lesions.items()
    }
    titled = [Panel(cut=axial, shown=[layer], title=name) for name, layer in below.items()]
    rows: list[Row] = [
        ("", titled),
        (
            "lesions",
            [Panel(cut=axial, shown=[below[name], *over.get(name, [])]) for name in scans],
        ),
    ]
    fills = {_LESIONS: _RED, _MEASURED_LESIONS: s.YELLOW}
    if classes:
        coronal = _middle_coronal(mask)
        over = {
            name: [
                _colored(each, each.data == label, color)
                for label, color in _CLASS_COLORS.values()
            ]
            for name, each in classes.items()
        }
        rows += [
            ("", [Panel(cut=coronal, shown=[layer]) for layer in below.values()]),
            (
                "classes",
                [Panel(cut=coronal, shown=[below[name], *over.get(name, [])]) for name in scans],
            ),
        ]
        fills |= {
            name if color != _RED else f"{name} (classes)": color
            for name, (_, color) in _CLASS_COLORS.items()
        }
    return slices.image_figure(rows, tallest=_TALL, fills=fills)


def _colored(image: Volume, voxels: Array, color: str) -> Layer:
    """Return voxels in one color; the others are not drawn."""
    values = image.like(np.where(voxels, 1.0, np.nan))
    return Layer(image=values, low=0.0, high=1.0, colors=ListedColormap([color]), alpha=0.7)


def explanation_figure(
    image: Volume, masks: Sequence[Volume], maps: Mapping[str, Volume], index: int
) -> Figure:
    """Plot attention masks of the gates and maps of the critic over one slice.

    The masks go from low to high resolution, then the maps follow.

    Masks go from 0 to 1, maps by title from 0 up, on one scale of their own; `index` is the
    slice's along the third axis of the array. Raises `FigureInputError` where there is nothing to
    show.

    `masks`: attention of each gate (3D, 0 to 1) on the grid of the image.
    """
    shown = [
        (f"attention, gate {number} of {len(masks)}", mask, 1.0)
        for number, mask in enumerate(masks, 1)
    ]
    top = max((float(each.data.max()) for each in maps.values()), default=0.0) or 1.0
    shown += [(title, each, top) for title, each in maps.items()]
    if not shown:
        raise FigureInputError("no attention masks and no maps of a critic to draw")
    cut = _stored_slice(image, index, slices.field_of_view(image))
    below = slices.gray(image)
    panels = [
        Panel(
            cut=cut,
            title=title,
            shown=[
                below,
                Layer(image=values, low=0.0, high=most, colors="inferno", alpha=0.6),
            ],
        )
        for title, values, most in shown
    ]
    return slices.image_figure(
        [("", panels[k : k + 4]) for k in range(0, len(panels), 4)], tallest=_TALL
    )


_BESIDE: dict[str, Any] = {"loc": "center left", "bbox_to_anchor": (1.01, 0.5), "fontsize": 8}
_LOSSES = ("loss", "content", "adversarial", "perceptual", "critic")
_LEVEL_COLORS = (s.ORANGE, s.GREEN, s.PURPLE, s.SKY, s.RED)


def training_figure(columns: Mapping[str, Array], card: Mapping[str, object]) -> Figure:
    """Held-out PSNR against training step with the baselines' levels, and the training losses.

    A second phase, training again on all slices without held-out ones, counts from the start; the
    first one is shown.

    `columns`: of the training log: ``iteration``, ``psnr`` and the losses, NaN where a row has no
    such value; a log without rows is that of a model that came without its log. `card`: of the
    model; its ``held_out`` has the levels and the iteration of the weights kept.
    """
    # columns without rows have no type
    columns = {name: np.asarray(v, dtype=float) for name, v in columns.items() if name != "phase"}
    steps = columns["iteration"]
    again = np.flatnonzero(np.diff(steps) < 0)
    if again.size:
        columns = {name: values[: again[0] + 1] for name, values in columns.items()}
        steps = steps[: again[0] + 1]
    curves = {str(card.get("method", NETWORK)): columns["psnr"]} if "psnr" in columns else {}
    held_out = mapped(card.get("held_out"))
    levels = {name: each["psnr"] for name, each in scores_of(held_out).items() if name != NETWORK}
    chosen = real(held_out.get("iteration"))
    with s.style():
        fig = s.new_figure(12.0, 2.7)
        grid = {
            "left": 0.065,
            "right": 0.89,
            "top": 0.97,
            "bottom": 0.17,
            "wspace": 0.62,
            "width_ratios": [1.2, 1.0],
        }
        quality, loss = fig.subplots(1, 2, gridspec_kw=grid)
        for (name, values), color in zip(curves.items(), (s.BLUE, s.RED, s.SKY), strict=False):
            known = np.isfinite(values)
            quality.plot(
                steps[known], values[known], color=color, lw=1.6, marker="o", ms=3, label=name
            )
        if curves and not any(np.isfinite(values).any() for values in curves.values()):
            quality.text(
                0.5,
                0.5,
                "no slices were held out" if len(steps) else "the model has no training log",
                transform=quality.transAxes,
                ha="center",
                color=s.SOFT,
            )
        known_levels = {name: level for name, level in levels.items() if np.isfinite(level)}
        for (name, level), color in zip(known_levels.items(), _LEVEL_COLORS * 2, strict=False):
            quality.axhline(
                level, color=color, lw=1.1, ls=(0, (5, 3)), label=f"{name} ({level:.2f} dB)"
            )
        if np.isfinite(chosen):
            label = f"stopping point: {chosen:.0f}"
            quality.axvline(chosen, color=s.SOFT, lw=0.9, ls=":", label=label)
        quality.set(xlabel="iteration", ylabel="PSNR on held-out slices (dB)")
        quality.set_xlim(0, (float(np.nanmax(steps)) if len(steps) else 1.0) * 1.02)
        for ax in (quality, loss):
            s.light_grid(ax)
        if quality.get_legend_handles_labels()[0]:
            quality.legend(**_BESIDE)
        _draw_losses(loss, steps, {name: columns[name] for name in _LOSSES if name in columns})
    return fig


def _draw_losses(ax: Axes, steps: Array, losses: Mapping[str, Array]) -> None:
    ax.set(xlabel="iteration", ylabel="training loss")
    known = {name: np.isfinite(values) for name, values in losses.items()}
    if not any(each.any() for each in known.values()):
        ax.text(0.5, 0.5, "no loss was logged", transform=ax.transAxes, ha="center", color=s.SOFT)
        return
    colors = (s.INK, s.BLUE, s.RED, s.GREEN, s.PURPLE, s.ORANGE)
    for (name, values), color in zip(losses.items(), colors, strict=False):
        if known[name].any():
            ax.plot(steps[known[name]], values[known[name]], color=color, lw=1.0, label=name)
    if all((values[known[name]] > 0).all() for name, values in losses.items()):
        ax.set_yscale("log")
    ax.legend(**_BESIDE)
