"""Interactive map viewer: an HTML fragment with small NIfTI volumes for ``viewer.js``.

Each map keeps its own grid, so that a high-resolution map is not resampled to the voxels of
another map. Values where the statistic is near 0 are set to 0 because noise does not compress. The
remaining values are stored in steps that a color scale can just resolve.
"""

import base64
import gzip
import json
import math
from collections import UserDict
from collections.abc import Collection, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import nibabel as nib
import numpy as np
from markupsafe import Markup
from nibabel.affines import voxel_sizes

from bids_sr.engine.artifacts import Derivative
from bids_sr.evaluation.result_text import quote_contrast
from bids_sr.io.arrays import Array
from bids_sr.io.volume import Volume
from bids_sr.report.evaluation_rows import current_labels
from bids_sr.report.figures import slices
from bids_sr.report.figures.maps import MAP_COLORS, T_DISPLAY, Display, common_scale, peak_voxel
from bids_sr.report.figures.result_picture import CAP_PERCENT
from bids_sr.report.markup import render

EFFECT = "effect"
_N_STEPS = 127  # number of steps of the color scale on each side of 0
# smallest absolute value in the viewer, by statistic; smaller values are set to 0
_SMALLEST_VALUES = {"t": 2.5, "z": 3.0, "cc": 0.15}
# upper end and step of the threshold slider, by statistic
_SLIDER_ENDS = {"cc": (1.0, 0.01)}
_SCALE_PERCENT = 98  # percentile of effects in voxels that are shown, at the end of their scale
_EFFECT_SCALES = 0.1, CAP_PERCENT  # percent, smallest and largest end of the scale of effects
MAX_BYTES = 1_900_000
"""Largest number of bytes of base64 of maps and backgrounds on a page, without masks. The first
contrasts and smoothing widths are included, and the names of the others are listed.
"""
_GZIP_LEVEL = 6  # gzip level; level 9 takes several times as long and saves few bytes
_TALLEST_PX = 400  # pixels, largest height of a plane
_MARGIN_MM = 9.0  # mm, margin around the brain
SERIES_TITLES = {"bspline": "B-spline", "measured": "measured (reference)"}

# maps of one run by contrast and smoothing (in words), for each series in display order
ViewerMaps = Mapping[tuple[str, str], Mapping[str, Volume]]


class LazyVolumes(UserDict[str, Any]):
    """Mapping of names to the volumes of derivatives, which are only read on access."""

    def __init__(self, derivatives: Mapping[str, Derivative]) -> None:
        super().__init__(derivatives)

    def __getitem__(self, key: str) -> Volume:
        derivative: Derivative = self.data[key]
        return derivative.volume


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
    maps: ViewerMaps,
    background: Volume,
    mask: Volume,
    *,
    display: Display = T_DISPLAY,
    effects: ViewerMaps = MappingProxyType({}),
    masks: Mapping[tuple[str, str], Volume] = MappingProxyType({}),
    files: Mapping[str, str] = MappingProxyType({}),
    names: Mapping[str, str] = MappingProxyType({}),
    first_series: str = "",
    max_bytes: int = MAX_BYTES,
    mni: Array | None = None,
    space: str = "scanner",
) -> Markup:
    """Return a map viewer as an HTML fragment; empty if there are no maps.

    The maps of the statistic of `display` are by contrast and smoothing in order of importance,
    for each series in display order; background and brain mask are on one grid. `effects`
    (percent) are on the grids of these maps, and are shown first, above the threshold of the
    statistic. `masks` are outlined, by contrast and smoothing. `files` are paths of the complete
    maps relative to the page, by `map_key`. `names` are names of contrasts as requested.
    `first_series` is shown first, at the peak of the first map. `max_bytes` limits maps and
    background in bytes of base64, but the first contrast and smoothing are always included.

    `mni` are the MNI coordinates (mm; X, Y, Z, 3) of the points of `make_mni_nodes` over the
    background's field of view, and `space` names the coordinates of the background.
    """
    if not maps:
        return Markup("")
    statistic = display.statistic
    (first_contrast, first_smoothing), first_maps = next(iter(maps.items()))
    anatomy = _describe_anatomy(next(iter(first_maps.values())), background, mask, mni)
    free_bytes = max_bytes - len(json.dumps(anatomy))
    volumes, limits, omitted = _encode_maps(maps, effects, display, free_bytes)
    series = list(dict.fromkeys(name for by_series in maps.values() for name in by_series))
    start = next(name for name in (first_series, "bspline", *series) if name in first_maps)
    statistics = [EFFECT, statistic] if effects else [statistic]
    most, step = _SLIDER_ENDS.get(statistic, (12.0, 0.1))
    included = [key for key in maps if (*key, statistic) in limits]
    shown_names = {name: names.get(name, quote_contrast(name).strip("“”")) for name, _ in maps}
    content = {
        "statistic": statistic,
        "statistics": statistics,
        "least": _SMALLEST_VALUES[statistic],
        "most": most,
        "step": step,
        "threshold": display.threshold,
        "limits": {"|".join(key): limit for key, limit in limits.items()},
        "colors": list(MAP_COLORS),
        "tallest": _TALLEST_PX,
        "space": space,
        "contrasts": list(dict.fromkeys(contrast for contrast, _ in included)),
        "smoothings": list(dict.fromkeys(smoothing for _, smoothing in included)),
        "series": series,
        "titles": {**SERIES_TITLES, **current_labels()},
        "names": shown_names,
        "first": {
            "contrast": first_contrast,
            "smoothing": first_smoothing,
            "statistic": statistics[0],
            "series": start,
        },
        "maps": volumes | _encode_masks(masks, included),
        "files": {key: file for key, file in files.items() if key in volumes},
        **anatomy,
    }
    return render(
        "viewer",
        Markup(json.dumps(content, separators=(",", ":")).replace("<", "\\u003c")),
        statistic,
        content["least"],
        {smoothing: [shown_names[name] for name in left] for smoothing, left in omitted.items()},
        bool(content["files"]),
        bool(masks),
    )


def _describe_anatomy(
    first_map: Volume, background: Volume, mask: Volume, mni: Array | None
) -> dict[str, Any]:
    """Return the peak of a map, the box around the brain, background and MNI coordinates.

    Positions are fractions of the field of view in RAS orientation.
    """
    shape = slices.reorient_to_ras(background).data.shape
    peak = peak_voxel(first_map, mask)
    box = slices.bounding_box_mm(mask, _MARGIN_MM) / slices.field_of_view(mask)[1]
    return {
        "at": [round((index + 0.5) / size, 5) for index, size in zip(peak, shape, strict=True)],
        "box": [[round(float(end), 4) for end in side] for side in box.T],
        "background": _encode_background(background, mask),
        **({} if mni is None else {"mni": _encode_mni(mni)}),
    }


def _encode_maps(
    maps: ViewerMaps, effects: ViewerMaps, display: Display, free_bytes: int
) -> tuple[dict[str, str], dict[tuple[str, str, str], float], dict[str, list[str]]]:
    """Encode the maps that fit into the limit (bytes of base64), in their order.

    Returns encoded maps by `map_key`, ends of the color scales by contrast, smoothing and
    statistic, and the contrasts that were omitted by smoothing.
    """
    volumes: dict[str, str] = {}
    limits: dict[tuple[str, str, str], float] = {}
    omitted: dict[str, list[str]] = {}
    for key in maps:
        encoded_maps: dict[str, str] = {}
        for stat, limit, encoded in _encode_contrast(maps[key], effects.get(key, {}), display):
            encoded_maps |= {map_key(*key, stat, name): text for name, text in encoded.items()}
            limits[(*key, stat)] = round(limit, 3)
        n_bytes = sum(map(len, encoded_maps.values()))
        if n_bytes > free_bytes and volumes:
            omitted.setdefault(key[1], []).append(key[0])
            limits = {name: limit for name, limit in limits.items() if name[:2] != key}
            continue
        free_bytes -= n_bytes
        volumes |= encoded_maps
    return volumes, limits, omitted


def _encode_contrast(
    maps: Mapping[str, Volume], effects: Mapping[str, Volume], display: Display
) -> Iterator[tuple[str, float, dict[str, str]]]:
    """Yield statistic, end of the color scale and encoded maps by series, of one contrast."""
    minimum = _SMALLEST_VALUES[display.statistic]
    description = (
        f"bids-sr preview: |{display.statistic}| < {minimum:g} set to 0, rounded to 8 bit;"
        " not the map"
    )
    images = dict(maps)  # The dictionary releases images after use.
    limit = common_scale(images.values(), display.floor)
    is_shown = {
        name: np.abs(slices.replace_nan(image.data)) >= minimum for name, image in images.items()
    }
    yield (
        display.statistic,
        limit,
        _encode_series(images, is_shown, limit, display.threshold, description),
    )
    images = {name: effects[name] for name in images if name in effects}
    if images:
        sizes = [np.abs(image.data[is_shown[name]]) for name, image in images.items()]
        strongest = np.nanpercentile(np.concatenate([*sizes, [0.0]]), _SCALE_PERCENT)
        limit = float(np.clip(float(f"{strongest:.1g}"), *_EFFECT_SCALES))
        yield EFFECT, limit, _encode_series(images, is_shown, limit, 0.0, description)


def _encode_series(
    images: Mapping[str, Volume],
    is_shown: Mapping[str, Array],
    limit: float,
    threshold: float,
    description: str,
) -> dict[str, str]:
    """Encode maps by series with equal steps; only values that are shown are kept.

    `limit` is the end of the color scale; see `encode_image` and `_choose_step`.
    """
    shown = {
        name: image.like(np.where(is_shown[name], slices.replace_nan(image.data), 0))
        for name, image in images.items()
    }
    largest = max([limit, *(float(np.abs(image.data).max()) for image in shown.values())])
    slope = _choose_step(largest, threshold)
    return {
        name: encode_image(image, slope=slope, description=description)
        for name, image in shown.items()
    }


def _encode_masks(
    masks: Mapping[tuple[str, str], Volume], shown: Collection[tuple[str, str]]
) -> dict[str, str]:
    """Encode the masks of shown maps by `map_key`, as a series ``mask``."""
    return {
        map_key(*key, "", "mask"): encode_image(mask, slope=1.0)
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


def map_key(contrast: str, smoothing: str, statistic: str, series: str) -> str:
    """Return the key of a map in the viewer."""
    return f"{contrast}|{smoothing}|{statistic}|{series}"


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
    return _encode_text(gzip.compress(nifti.to_bytes(), _GZIP_LEVEL, mtime=0))


def _encode_mni(mni: Array) -> dict[str, Any]:
    """Encode MNI coordinates in tenths of a mm."""
    tenths = np.clip(np.rint(10 * mni), -(2**15), 2**15 - 1).astype("<i2")
    return {"size": mni.shape[:3], "tenths": _encode_text(tenths.tobytes())}


def _encode_text(data: bytes) -> str:
    """Return bytes as base64."""
    return base64.b64encode(data).decode("ascii")


def bytes_per_run(n_runs: int) -> int:
    """Return the bytes available for the maps of each run on a page with several runs.

    The maps of all runs together have as many.
    """
    return MAX_BYTES // (n_runs + 1 if n_runs > 1 else 1)
