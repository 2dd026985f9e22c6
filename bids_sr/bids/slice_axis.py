"""Axis of the slices, and headers and sidecars in the order of axes that has slices last."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from bids_sr.io.grids import AxisOrder, inverse, nearest, reordered_affine, slices_last
from bids_sr.io.image_header import Header

_AXES = ("first", "second", "third")


def slice_axis(header: Header, sidecar: Mapping[str, object]) -> tuple[int, str]:
    """Return axis along which slices were acquired, and what tells it.

    In this order: SliceEncodingDirection; an axis of as many voxels as SliceTiming has entries,
    the third before the others and not where both others have as many; the header; the one axis of
    a single voxel; the one voxel size that differs; else the third axis.

    `header`: header with the axes as stored.
    """
    direction = str(sidecar.get("SliceEncodingDirection", "")).rstrip("-")
    if direction in ("i", "j", "k"):
        return "ijk".index(direction), "SliceEncodingDirection"
    timing = sidecar.get("SliceTiming")
    as_many = [
        axis for axis in range(3) if isinstance(timing, list) and header.shape[axis] == len(timing)
    ]
    if 2 in as_many or len(as_many) == 1:
        return as_many[-1], "the number of SliceTiming entries"
    if header.slice_axis is not None:
        return header.slice_axis, "dim_info in the header"
    if header.shape[:3].count(1) == 1:
        return header.shape.index(1), "the single slice"
    zooms = np.asarray(header.zooms)
    for axis in (0, 1):
        others = np.delete(zooms, axis)
        same = abs(others[0] - others[1]) < 0.02 * others.max()
        if same and abs(zooms[axis] - others[0]) > 0.1 * others.max():
            return axis, "the voxel size that differs from the other two"
    return 2, "nothing else"


def with_slices_last(header: Header, sidecar: Mapping[str, object]) -> tuple[Header, str]:
    """Return the header in the working order of axes, and a note if it was reordered.

    The sentence is empty where slices are on the third axis and those in plane near to right and
    anterior already.

    `header`: header with the axes as stored.
    """
    axis, told_by = slice_axis(header, sidecar)
    order = slices_last(header.affine, axis)
    if order == header.order:
        return header, ""
    text = f"the slice axis is {_AXES[axis]}, as determined from {told_by}"
    if axis == 2:
        text = "the in-plane axes are swapped"
    taken = ", ".join(_AXES[axis] for axis in order)
    text += (
        f". The image is processed with the axis order {taken}; outputs on the grids of this run"
        " are saved in the original axis order."
    )
    return _in_order(header, order), text


def _in_order(header: Header, order: AxisOrder) -> Header:
    """Header as stored → header of the same image with its axes in another order."""
    x, y, z = order
    named = None if header.slice_axis is None else inverse(order)[header.slice_axis]
    shape, zooms = header.shape, header.zooms
    return replace(
        header,
        shape=(shape[x], shape[y], shape[z], *shape[3:]),
        zooms=(zooms[x], zooms[y], zooms[z]),
        affine=reordered_affine(header.affine, order),
        slice_axis=named,
        order=order,
    )


def like(header: Header, affine: np.ndarray) -> Header:
    """Return a header with its axes reordered to match those of a grid (4x4, RAS mm).

    The axes of the header given may be in any order.
    """
    stored = _in_order(header, inverse(header.order))
    return _in_order(stored, nearest(stored.affine, affine))


def sidecar_in_order(sidecar: Mapping[str, object], order: AxisOrder) -> dict[str, object]:
    """Return the metadata of a reordered series, with axes named by their new places.

    `order`: stored axis that each axis in use takes.
    """
    reordered = dict(sidecar)
    for key in ("SliceEncodingDirection", "PhaseEncodingDirection"):
        text = str(reordered.get(key, ""))
        if text[:1] in ("i", "j", "k"):
            reordered[key] = "ijk"[order.index("ijk".index(text[0]))] + text[1:]
    return reordered
