"""Figures of super-resolved structural scans: series, tissue classes and attention maps."""

from collections.abc import Mapping, Sequence

import nibabel as nib
import numpy as np
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from bids_sr.io.arrays import Array
from bids_sr.io.volume import Volume
from bids_sr.report.figures import canvas as s, slices
from bids_sr.report.figures.anatomy import MARGIN_MM
from bids_sr.report.figures.canvas import FigureInputError
from bids_sr.report.figures.slices import Cut, Layer, Panel, PanelRow

_MAX_PANEL_INCH = 3.5  # largest height of a panel
_CHANGE_LIMIT = 0.25  # limit of the color scale of differences, relative to the gray scale's
_N_COLUMNS = 4  # panels in a row of attention maps
_LESIONS = "hyperintensities"
_MEASURED_LESIONS = "hyperintensities, measured scan"
_EDITED_LESIONS = "hyperintensities, edited mask"
_RED, _GREEN, _BLUE = "#e6262b", "#2ca02c", "#2f6fde"
# label and color of each tissue class, as in attention_unet, figure 11
_CLASS_COLORS = {"CSF": (1, _RED), "veins and sinuses": (2, _GREEN), "pial layer": (3, _BLUE)}


def scans_figure(
    series: Mapping[str, Mapping[str, Volume]],
    measured: Mapping[str, Volume],
    mask: Volume,
    index: int | None,
) -> Figure:
    """Plot a slice of each contrast (rows) in each series (columns).

    Measured scans are in the last columns, followed by their difference to the last series.
    Without measured scans, the gray scale of a contrast is taken from the first series. All scans,
    by series and contrast, and the brain mask share a grid; `measured` may be empty. `index` is a
    slice along the third axis of the arrays, or None for the middle coronal plane.
    """
    cut = _make_coronal_cut(mask)
    if index is not None:
        cut = _make_cut(mask, index, slices.bounding_box_mm(mask, MARGIN_MM))
    first, last = next(iter(series)), list(series)[-1]
    rows: list[PanelRow] = []
    for contrast, gray in (measured or series[first]).items():
        low, high = slices.gray_limits(gray, mask)
        layers = {
            name: Layer(image=scans[contrast], low=low, high=high)
            for name, scans in series.items()
        }
        if contrast in measured:
            change = gray.like(series[last][contrast].data - gray.data)
            layers |= {
                "measured": Layer(image=gray, low=low, high=high),
                f"{last} − measured": Layer(
                    image=change,
                    low=-_CHANGE_LIMIT * high,
                    high=_CHANGE_LIMIT * high,
                    colors="RdBu_r",
                ),
            }
        panels = [
            Panel(cut=cut, layers=[layer], title="" if rows else name)
            for name, layer in layers.items()
        ]
        rows.append((contrast, panels))
    return slices.image_figure(rows, tallest_inch=_MAX_PANEL_INCH)


def classes_figure(
    scans: Mapping[str, Volume],
    lesions: Mapping[str, Volume],
    classes: Mapping[str, Volume],
    mask: Volume,
    index: int,
    *,
    edited: Volume | None = None,
) -> Figure:
    """Plot a contrast with lesion masks in a stored slice, and tissue classes in a coronal plane.

    Each plane has a row without and a row with masks. The figure follows figures 11 and 12 of
    attention_unet.

    `scans` are of one contrast, by series (columns); the measured scan has the key ``measured``.
    `lesions` and `mask` are 3D and boolean. `classes` are labels: 1 CSF, 2 veins and sinuses, 3
    pial layer; without classes, their rows are omitted. `index` is a slice along the third axis of
    the arrays. `edited` are edited lesions of the measured scan (3D, boolean), which are drawn
    over the automatic mask.
    """
    low, high = slices.gray_limits(scans.get("measured", next(iter(scans.values()))), mask)
    backgrounds = {name: Layer(image=scan, low=low, high=high) for name, scan in scans.items()}
    axial = _make_cut(mask, index, slices.bounding_box_mm(mask, MARGIN_MM))
    lesion_layers = {
        name: [_color_voxels(image, image.data > 0, s.YELLOW if name == "measured" else _RED)]
        for name, image in lesions.items()
    }
    fills = {_LESIONS: _RED, _MEASURED_LESIONS: s.YELLOW}
    if edited is not None:
        edited_layer = _color_voxels(edited, edited.data > 0, s.ORANGE)
        lesion_layers.setdefault("measured", []).append(edited_layer)
        fills[_EDITED_LESIONS] = s.ORANGE
    titled_panels = [
        Panel(cut=axial, layers=[layer], title=name) for name, layer in backgrounds.items()
    ]
    rows: list[PanelRow] = [
        ("", titled_panels),
        ("lesions", _overlay_panels(axial, backgrounds, lesion_layers)),
    ]
    if classes:
        coronal = _make_coronal_cut(mask)
        class_layers = {
            name: [
                _color_voxels(image, image.data == label, color)
                for label, color in _CLASS_COLORS.values()
            ]
            for name, image in classes.items()
        }
        rows += [
            ("", _overlay_panels(coronal, backgrounds, {})),
            ("classes", _overlay_panels(coronal, backgrounds, class_layers)),
        ]
        fills |= {
            name if color != _RED else f"{name} (classes)": color
            for name, (_, color) in _CLASS_COLORS.items()
        }
    return slices.image_figure(rows, tallest_inch=_MAX_PANEL_INCH, fills=fills)


def _make_coronal_cut(mask: Volume) -> Cut:
    """Return the coronal plane through the center of a mask, cropped to the mask."""
    box = slices.bounding_box_mm(mask, MARGIN_MM)
    return Cut(axis=1, position_mm=float(box[:, 1].mean()), box=box)


def _color_voxels(image: Volume, voxels: Array, color: str) -> Layer:
    """Return a layer of voxels in one color; other voxels are transparent."""
    values = image.like(np.where(voxels, 1.0, np.nan))
    return Layer(image=values, low=0.0, high=1.0, colors=ListedColormap([color]), alpha=0.7)


def _overlay_panels(
    cut: Cut, backgrounds: Mapping[str, Layer], overlays: Mapping[str, Sequence[Layer]]
) -> list[Panel]:
    """Return a panel per series: the scan in a plane, with the overlays of the series."""
    return [
        Panel(cut=cut, layers=[background, *overlays.get(name, [])])
        for name, background in backgrounds.items()
    ]


def explanation_figure(
    image: Volume, masks: Sequence[Volume], maps: Mapping[str, Volume], index: int
) -> Figure:
    """Plot attention masks and relevance maps of a network over one slice.

    `image` is 3D. `masks` are the attention of each gate (0 to 1) on its grid, from low to high
    resolution. `maps` have titles as keys and share a color scale that starts at 0. `index` is a
    slice along the third axis. Raises `FigureInputError` if there are neither masks nor maps.
    """
    overlays = [
        (f"attention, gate {number} of {len(masks)}", mask, 1.0)
        for number, mask in enumerate(masks, 1)
    ]
    map_limit = max((float(values.data.max()) for values in maps.values()), default=0.0) or 1.0
    overlays += [(title, values, map_limit) for title, values in maps.items()]
    if not overlays:
        raise FigureInputError("no attention masks and no maps of a critic to draw")
    cut = _make_cut(image, index, slices.field_of_view(image))
    background = slices.make_gray_layer(image)
    panels = [
        Panel(
            cut=cut,
            title=title,
            layers=[
                background,
                Layer(image=overlay, low=0.0, high=high, colors="inferno", alpha=0.6),
            ],
        )
        for title, overlay, high in overlays
    ]
    return slices.image_figure(
        [("", panels[first : first + _N_COLUMNS]) for first in range(0, len(panels), _N_COLUMNS)],
        tallest_inch=_MAX_PANEL_INCH,
    )


def _make_cut(grid: Volume, index: int, box: Array) -> Cut:
    """Return the plane of a slice that is numbered along the third axis of the stored array."""
    axis, direction = (int(value) for value in nib.orientations.io_orientation(grid.affine)[2])
    position = index if direction > 0 else grid.data.shape[2] - 1 - index
    return Cut(axis=axis, position_mm=(position + 0.5) * float(grid.zooms[2]), box=box)
