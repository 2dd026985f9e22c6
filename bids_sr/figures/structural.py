"""Figures of super-resolved structural scans: series, classes and attention maps."""

from collections.abc import Mapping, Sequence

import nibabel as nib
import numpy as np
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from bids_sr.figures import canvas as s
from bids_sr.figures import slices
from bids_sr.figures.anatomy import MARGIN_MM
from bids_sr.figures.canvas import FigureInputError
from bids_sr.figures.slices import Cut, Layer, Panel, Row
from bids_sr.io.arrays import Array
from bids_sr.io.volume import Volume

_TALL = 3.5
"""Height of a panel (inches) that none exceeds where few are shown."""


def _stored_slice(grid: Volume, index: int, box: Array) -> Cut:
    """The cut of a slice of a grid, counted along the third axis of its array."""
    axis, direction = (int(each) for each in nib.orientations.io_orientation(grid.affine)[2])
    k = index if direction > 0 else grid.data.shape[2] - 1 - index
    return Cut(axis=axis, at=(k + 0.5) * float(grid.zooms[2]), box=box)


def _middle_coronal(mask: Volume) -> Cut:
    """Return the coronal plane in the middle of a mask, cut to it."""
    box = slices.box_of(mask, MARGIN_MM)
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
        cut = _stored_slice(mask, index, slices.box_of(mask, MARGIN_MM))
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
    axial = _stored_slice(mask, index, slices.box_of(mask, MARGIN_MM))
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
