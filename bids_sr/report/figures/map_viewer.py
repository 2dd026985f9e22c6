"""Interactive map viewer: an HTML fragment with small NIfTI volumes for ``viewer.js``.

Each map keeps its own grid, so that a high-resolution map is not resampled to the voxels of
another map. Values near 0 are set to 0 because noise does not compress. The remaining values are
stored in steps that a color scale can just resolve.
"""

import base64
import gzip
import json
import math
from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import nibabel as nib
import numpy as np
from markupsafe import Markup
from nibabel.affines import voxel_sizes

from bids_sr.io.arrays import Array
from bids_sr.io.volume import Volume
from bids_sr.report.evaluation_rows import current_labels
from bids_sr.report.figures import slices
from bids_sr.report.figures.maps import MAP_COLORS, T_DISPLAY, Display, common_scale, peak_voxel
from bids_sr.report.markup import render

_N_STEPS = 127  # number of steps of the color scale on each side of 0
# smallest absolute value in the viewer, by statistic; smaller values are set to 0
_SMALLEST_VALUES = {"t": 2.5, "cc": 0.15, "effect": 0.0}
# upper end of the threshold slider, by statistic
_LARGEST_THRESHOLDS = {"t": 12.0, "cc": 1.0, "effect": 1.0}
# number of decimals of values and of the threshold, by statistic; the step of the slider is one
# unit of the last decimal
_N_DECIMALS = {"t": 1, "cc": 2}
MAX_BYTES, PAGE_BYTES = 2_000_000, 5_200_000
"""Bytes of base64: limits for the maps of one run, and of all runs on a page. The first contrasts
and smoothing widths are included, and the names of the others are listed. The rest of a page of
8 MB is for figures.
"""
_GZIP_LEVEL = 6  # gzip level; level 9 takes several times as long and saves few bytes
_TALLEST_PX = 400  # pixels, largest height of a plane
_MARGIN_MM = 9.0  # mm, margin around the brain
SERIES_TITLES = {"bspline": "B-spline", "measured": "measured (reference)"}

# maps of one run by contrast and smoothing (in words), for each series in display order
_ViewerMaps = Mapping[tuple[str, str], Mapping[str, Volume]]
# mm, distance between points with MNI coordinates; the viewer interpolates between points
_MNI_STEP_MM = 10.0


def make_mni_nodes(shape: Sequence[int], affine: Array) -> Array:
    """Return points (X, Y, Z, 3; RAS mm) over a RAS grid, at most `_MNI_STEP_MM` apart.

    The points cover the field of view from edge to edge, with at least two points along each axis.
    """
    zooms = voxel_sizes(affine)
    counts = [
        max(2, math.ceil(size * zoom / _MNI_STEP_MM) + 1)
        for size, zoom in zip(shape, zooms, strict=True)
    ]
    axis_points = [
        np.linspace(-0.5, size - 0.5, count) for size, count in zip(shape, counts, strict=True)
    ]
    voxels = np.stack(np.meshgrid(*axis_points, indexing="ij"), axis=-1)
    return voxels @ np.asarray(affine)[:3, :3].T + np.asarray(affine)[:3, 3]


def viewer_html(
    maps: _ViewerMaps,
    background: Volume,
    mask: Volume,
    *,
    display: Display = T_DISPLAY,
    masks: Mapping[tuple[str, str], Volume] = MappingProxyType({}),
    files: Mapping[str, str] = MappingProxyType({}),
    first_series: str = "",
    max_bytes: int = MAX_BYTES,
    mni: Array | None = None,
    definitions: Sequence[tuple[str, str]] = (),
) -> Markup:
    """Return the map viewer of a run as an HTML fragment; empty if there are no maps.

    The maps are by contrast and smoothing, for each series in display order; background and brain
    mask are on one grid. `masks` are outlined, by contrast and smoothing. `files` are paths of the
    complete maps relative to the page, by `map_key`. `first_series` is shown first, at the peak of
    the first map. `max_bytes` limits the maps in bytes of base64, but the first contrast and
    smoothing are always included.

    `mni` are the MNI coordinates (mm; X, Y, Z, 3) of the points of `make_mni_nodes` over the
    background's field of view. `definitions` are labels and descriptions of the series, and
    """
    if not maps:
        return Markup("")
    statistic = display.statistic
    minimum = _SMALLEST_VALUES.get(statistic, 0.0)
    volumes, limits, omitted_names = _encode_maps(maps, display, max_bytes)
    (first_contrast, first_smoothing), first_maps = next(iter(maps.items()))
    series = list(
        dict.fromkeys(name for maps_by_series in maps.values() for name in maps_by_series)
    )
    digits = _N_DECIMALS.get(statistic, 2)
    # positions are fractions of the field of view in RAS orientation
    shape = slices.reorient_to_ras(background).data.shape
    peak = peak_voxel(next(iter(first_maps.values())), mask)
    box = slices.bounding_box_mm(mask, _MARGIN_MM) / slices.field_of_view(mask)[1]
    content: dict[str, Any] = {
        "statistic": statistic,
        "least": minimum,
        "most": _LARGEST_THRESHOLDS.get(statistic, 1.0),
        "step": 10.0**-digits,
        "digits": digits,
        "threshold": display.threshold,
        "limits": {"|".join(key): limit for key, limit in limits.items()},
        "colors": list(MAP_COLORS),
        "tallest": _TALLEST_PX,
        "contrasts": list(dict.fromkeys(contrast for contrast, _ in limits)),
        "smoothings": list(dict.fromkeys(smoothing for _, smoothing in limits)),
        "series": series,
        "titles": {**SERIES_TITLES, **current_labels()},
        "first": {
            "contrast": first_contrast,
            "smoothing": first_smoothing,
            "series": next(
                name for name in (first_series, "bspline", *series) if name in first_maps
            ),
        },
        "at": [round((index + 0.5) / size, 5) for index, size in zip(peak, shape, strict=True)],
        "box": [[round(float(end), 4) for end in side] for side in box.T],
        "maps": volumes | _encode_masks(masks, limits),
        "files": {key: file for key, file in files.items() if key in volumes},
        "background": _encode_background(background, mask),
    }
    if mni is not None:
        tenths = np.clip(np.rint(10 * mni), -(2**15), 2**15 - 1).astype("<i2")
        encoded = base64.b64encode(tenths.tobytes()).decode("ascii")
        content["mni"] = {"size": mni.shape[:3], "tenths": encoded}
    return render(
        "viewer",
        Markup(json.dumps(content, separators=(",", ":")).replace("<", "\\u003c")),
        _threshold_text(display, minimum),
        omitted_names,
        bool(content["files"]),
        definitions,
        bool(masks),
    )


def _encode_maps(
    maps: _ViewerMaps, display: Display, max_bytes: int
) -> tuple[dict[str, str], dict[tuple[str, str], float], list[str]]:
    """Encode the maps that fit into the limit (bytes of base64).

    Returns encoded maps by `map_key`, ends of the color scales by contrast and smoothing, and the
    contrasts and smoothing widths that were omitted.
    """
    minimum = _SMALLEST_VALUES.get(display.statistic, 0.0)
    description = (
        f"bids-sr preview: |{display.statistic}| < {minimum:g} set to 0, rounded to 8 bit;"
        " not the map"
    )
    free_bytes = max_bytes
    volumes: dict[str, str] = {}
    limits: dict[tuple[str, str], float] = {}
    omitted_names: list[str] = []
    # All contrasts without smoothing come before contrasts with smoothing.
    smoothings = list(dict.fromkeys(smoothing for _, smoothing in maps))
    for contrast, smoothing in sorted(maps, key=lambda key: smoothings.index(key[1])):
        images = dict(maps[contrast, smoothing])  # The dictionary releases images after use.
        limit = common_scale(images.values(), display.floor)
        largest = max(
            limit,
            *(float(np.nanmax(np.abs(image.data), initial=0.0)) for image in images.values()),
        )
        slope = _choose_step(largest, display.threshold)
        encoded_maps = {}
        for name, image in images.items():
            values = slices.replace_nan(np.asarray(image.data, dtype=np.float32))
            thresholded_values = np.where(np.abs(values) < minimum, np.float32(0), values)
            encoded_maps[map_key(contrast, smoothing, name)] = encode_image(
                image.like(thresholded_values), slope=slope, description=description
            )
        n_bytes = sum(map(len, encoded_maps.values()))
        if n_bytes > free_bytes and volumes:
            omitted_names.append(f"{contrast}, {smoothing}")
            continue
        free_bytes -= n_bytes
        volumes |= encoded_maps
        limits[contrast, smoothing] = round(limit, 3)
    return volumes, limits, omitted_names


def _encode_masks(
    masks: Mapping[tuple[str, str], Volume], shown: Collection[tuple[str, str]]
) -> dict[str, str]:
    """Encode the masks of shown maps by `map_key`, as a series ``mask``."""
    return {
        map_key(*key, "mask"): encode_image(mask, slope=1.0)
        for key, mask in masks.items()
        if key in shown
    }


def _choose_step(largest: float, threshold: float) -> float:
    """Return the smallest step of stored values that reaches `largest` and respects `threshold`.

    The threshold is midway between two stored values. Stored values are then on the same side of
    the threshold as the original values, so that exactly the voxels above the threshold are shown.
    """
    if threshold <= 0 or largest <= threshold:
        return max(largest, threshold, 1e-12) / _N_STEPS
    return threshold / (math.floor(_N_STEPS * threshold / largest + 0.5) - 0.5)


def map_key(contrast: str, smoothing: str, series: str) -> str:
    """Return the key of a map in the viewer."""
    return f"{contrast}|{smoothing}|{series}"


def _encode_background(background: Volume, mask: Volume) -> str:
    """Encode the anatomical background with its gray scale from 0 to 1."""
    low, high = slices.gray_limits(background, mask)
    gray_image = background.like(np.clip((background.data - low) / (high - low), 0, 1))
    return encode_image(gray_image, slope=1 / _N_STEPS)


def encode_image(image: Volume, *, slope: float, description: str = "") -> str:
    """Encode an image in RAS orientation as an int8 ``.nii.gz`` file in base64.

    Equal images give equal bytes. The image is 3D, in any orientation; NaN becomes 0. `slope` is
    the step of the stored values, which are clipped at 127 steps. The description in the NIfTI
    header is ASCII.
    """
    volume = slices.reorient_to_ras(image)
    steps = np.clip(np.rint(slices.replace_nan(volume.data) / slope), -_N_STEPS, _N_STEPS).astype(
        np.int8
    )
    nifti = nib.Nifti1Image(steps, volume.affine)
    nifti.header.set_slope_inter(slope, 0)
    nifti.header["descrip"] = description.encode("ascii")
    return base64.b64encode(gzip.compress(nifti.to_bytes(), _GZIP_LEVEL, mtime=0)).decode("ascii")


def _threshold_text(display: Display, minimum: float) -> str:
    """Return sentences on the threshold of the viewer, and on values that are not included."""
    name = f"|{display.statistic}|"
    threshold_sentence = (
        f"The slider sets the threshold, which is {name} > {display.threshold:g} at first."
    )
    if minimum <= 0:
        return threshold_sentence
    return f"{threshold_sentence} Values of {name} < {minimum:g} are not included in this page."


def bytes_per_run(n_runs: int) -> int:
    """Return the bytes available for the maps of each run on a page with several runs."""
    return min(MAX_BYTES, PAGE_BYTES // max(1, n_runs))
