"""Slice axis of an image, and headers and sidecars reordered so that slices are last."""

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np

from bids_sr.io.grids import (
    AxisOrder,
    inverse_order,
    nearest_axis_order,
    reorder_affine,
    slices_last,
)
from bids_sr.io.image_header import Header
from bids_sr.io.notices import Notice
from bids_sr.io.orientation import StorageOrder
from bids_sr.survey.notices import note

_AXIS_NAMES = ("first", "second", "third")
# relative differences below which voxel sizes are equal, and above which they are different
_EQUAL_ZOOMS, _DIFFERENT_ZOOMS = 0.02, 0.1


def with_slices_last(header: Header, sidecar: Mapping[str, object]) -> Header:
    """Return the header with slices along the third axis.

    In-plane axes are ordered as close as possible to right and anterior.

    `header` has the axes as stored.
    """
    axis, source = find_slice_axis(header, sidecar)
    order = slices_last(header.affine, axis)
    if order == header.order:
        return header
    reason = (
        "the in-plane axes are swapped"
        if axis == 2
        else f"the slice axis is {_AXIS_NAMES[axis]}, as determined from {source}"
    )
    return replace(_reorder_header(header, order), order_reason=reason)


def note_axis_order(header: Header) -> Iterator[Notice]:
    """Note that axes were reordered so that slices are last."""
    if header.order_reason:
        axis_names = ", ".join(_AXIS_NAMES[axis] for axis in header.order)
        yield note(
            header.path,
            f"{header.order_reason}. The image is processed with the axis order {axis_names};"
            " outputs on the grids of this run are saved in the original axis order.",
        )


def turn_sidecar(
    header: Header, sidecar: Mapping[str, object], order: StorageOrder
) -> dict[str, object]:
    """Return the metadata of a series after a turn, with times of slices in ascending position.

    SliceEncodingDirection is the letter of the slice axis after the turn, without a sign, because
    the times of slices no longer need one.

    `header` and `sidecar` have the axes as stored.
    """
    turned = dict(sidecar)
    stored_axis, _ = find_slice_axis(header, sidecar)
    axis = order.axes.index(stored_axis)
    direction = sidecar.get("SliceEncodingDirection")
    times = sidecar.get("SliceTiming")
    if isinstance(times, list) and order.flips[axis] != str(direction).endswith("-"):
        turned["SliceTiming"] = times[::-1]
    if direction is not None:
        turned["SliceEncodingDirection"] = "ijk"[axis]
    return turned


def find_slice_axis(header: Header, sidecar: Mapping[str, object]) -> tuple[int, str]:
    """Return the axis along which slices were acquired, and the source of this information.

    Sources in order of precedence: SliceEncodingDirection; an axis with as many voxels as
    SliceTiming has entries (the third axis if several match, none if only the other two match);
    ``dim_info`` in the header; the only axis with a single voxel; the only axis with a different
    voxel size; or else the third axis.

    `header` has the axes as stored.
    """
    direction = str(sidecar.get("SliceEncodingDirection", "")).rstrip("-")
    if direction in ("i", "j", "k"):
        return "ijk".index(direction), "SliceEncodingDirection"
    timing = sidecar.get("SliceTiming")
    matching = [
        axis for axis in range(3) if isinstance(timing, list) and header.shape[axis] == len(timing)
    ]
    if 2 in matching or len(matching) == 1:
        return matching[-1], "the number of SliceTiming entries"
    if header.slice_axis is not None:
        return header.slice_axis, "dim_info in the header"
    if header.shape[:3].count(1) == 1:
        return header.shape.index(1), "the single slice"
    zooms = np.asarray(header.zooms)
    for axis in (0, 1):
        other_zooms = np.delete(zooms, axis)
        are_equal = abs(other_zooms[0] - other_zooms[1]) < _EQUAL_ZOOMS * other_zooms.max()
        if are_equal and abs(zooms[axis] - other_zooms[0]) > _DIFFERENT_ZOOMS * other_zooms.max():
            return axis, "the voxel size that differs from the other two"
    return 2, "nothing else"


def reorder_like(header: Header, affine: np.ndarray) -> Header:
    """Return a header with its axes reordered to match a grid (affine 4 x 4, RAS mm).

    The axes of `header` may be in any order.
    """
    stored = _reorder_header(header, inverse_order(header.order))
    return _reorder_header(stored, nearest_axis_order(stored.affine, affine))


def _reorder_header(header: Header, order: AxisOrder) -> Header:
    """Return the header of the same image with its axes in another order.

    `header` has the axes as stored.
    """
    x, y, z = order
    new_slice_axis = None if header.slice_axis is None else inverse_order(order)[header.slice_axis]
    shape, zooms = header.shape, header.zooms
    return replace(
        header,
        shape=(shape[x], shape[y], shape[z], *shape[3:]),
        zooms=(zooms[x], zooms[y], zooms[z]),
        affine=reorder_affine(header.affine, order),
        slice_axis=new_slice_axis,
        order=order,
        order_reason="",
    )


def sidecar_in_order(sidecar: Mapping[str, object], order: AxisOrder) -> dict[str, object]:
    """Return the metadata of a reordered series, with axes named by their new positions.

    `order` lists the stored axis that becomes each axis.
    """
    reordered = dict(sidecar)
    for key in ("SliceEncodingDirection", "PhaseEncodingDirection"):
        direction = str(reordered.get(key, ""))  # axis, with "-" if reversed
        if direction[:1] in ("i", "j", "k"):
            reordered[key] = "ijk"[order.index("ijk".index(direction[0]))] + direction[1:]
    return reordered
