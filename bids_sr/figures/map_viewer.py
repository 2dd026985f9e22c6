"""Scrollable maps in the page: small NIfTI volumes in one HTML fragment for ``viewer.js``.

Each map stays on the grid that it has, so that a finer map is never shown through the voxels of
another. Values near 0 are left out, as noise is what does not compress; what is left is as fine as
a color scale can show.
"""

import base64
import gzip
import json
import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import nibabel as nib
import numpy as np
from markupsafe import Markup
from nibabel.affines import voxel_sizes

from bids_sr.figures import slices
from bids_sr.figures.maps import MAP_COLORS, T_DISPLAY, Display, common_scale, peak_voxel
from bids_sr.io.arrays import Array
from bids_sr.io.volume import Volume
from bids_sr.report.markup import render

_STEPS = 127
"""Of the color scale, on either side of 0."""
_LEAST = {"t": 2.5, "cc": 0.15, "effect": 0.0}
"""Values below this are left out, by statistic."""
_MOST = {"t": 12.0, "cc": 1.0, "effect": 1.0}
"""Upper end of the threshold slider, by statistic."""
_DIGITS = {"t": 1, "cc": 2}
"""Decimals of values and of the threshold, by statistic; the slider moves in steps of the last
one.
"""
MAX_BYTES, PAGE_BYTES = 2_600_000, 5_200_000
"""Of the maps of one run and of all runs of a page, in base64: the first contrasts and smoothings
are kept, those left out are named. The rest of a page of 8 MB is for its figures."""
_LEVEL = 6  # of gzip; 9 takes a multiple of the time for hardly fewer bytes
_TALLEST_PX, _MARGIN_MM = 400, 9.0
TITLES = {"raw": "acquired", "bspline": "B-spline", "measured": "measured (reference)"}

_Maps = Mapping[tuple[str, str], Mapping[str, Volume]]
"""Maps of one run by contrast and smoothing (in words), of each series in display order."""
_MNI_STEP_MM = 10.0
"""Distance of the points whose MNI coordinates are known; the viewer interpolates between them."""


def mni_nodes(shape: Sequence[int], affine: Array) -> Array:
    """Return points (X, Y, Z, 3; RAS mm) over a RAS grid, at most `_MNI_STEP_MM` apart.

    Points from edge to edge, at least two along each axis.
    """
    zooms = voxel_sizes(affine)
    counts = [
        max(2, math.ceil(n * zoom / _MNI_STEP_MM) + 1)
        for n, zoom in zip(shape, zooms, strict=True)
    ]
    along = [np.linspace(-0.5, n - 0.5, count) for n, count in zip(shape, counts, strict=True)]
    voxels = np.stack(np.meshgrid(*along, indexing="ij"), axis=-1)
    return voxels @ np.asarray(affine)[:3, :3].T + np.asarray(affine)[:3, 3]


def map_key(contrast: str, smoothing: str, series: str) -> str:
    """By which the viewer finds a map."""
    return f"{contrast}|{smoothing}|{series}"


def room_of(n_runs: int) -> int:
    """Return bytes for the maps of each run where a page holds several."""
    return min(MAX_BYTES, PAGE_BYTES // max(1, n_runs))


def _slope_of(top: float, threshold: float) -> float:
    """The least slope that reaches `top`, with `threshold` midway between two steps.

    A value is then rounded to a step on its own side of the threshold, so that just the voxels are
    shown that pass it.
    """
    if threshold <= 0 or top <= threshold:
        return max(top, threshold, 1e-12) / _STEPS
    return threshold / (math.floor(_STEPS * threshold / top + 0.5) - 0.5)


def packed(image: Volume, *, slope: float, about: str = "") -> str:
    """Encode an image in RAS order as int8 ``.nii.gz`` in base64.

    `about` goes in its header; the bytes are reproducible.

    `image`: image in any orientation (3D); NaN becomes 0. `slope`: step of the stored values;
    those beyond 127 steps are cut off.
    """
    volume = slices.canonical(image)
    steps = np.clip(np.rint(np.nan_to_num(volume.data) / slope), -_STEPS, _STEPS).astype(np.int8)
    nifti = nib.Nifti1Image(steps, volume.affine)
    nifti.header.set_slope_inter(slope, 0)
    nifti.header["descrip"] = about.encode("ascii")
    return base64.b64encode(gzip.compress(nifti.to_bytes(), _LEVEL, mtime=0)).decode("ascii")


def _box(mask: Volume) -> list[list[float]]:
    """Return the ends of the brain with a margin, as fractions of the RAS field of view."""
    shares = slices.box_of(mask, _MARGIN_MM) / slices.field_of_view(mask)[1]
    return [[round(float(end), 4) for end in side] for side in shares.T]


def viewer_html(
    maps: _Maps,
    background: Volume,
    mask: Volume,
    *,
    display: Display = T_DISPLAY,
    files: Mapping[str, str] = MappingProxyType({}),
    first_series: str = "",
    room: int = MAX_BYTES,
    mni: Array | None = None,
    definitions: Sequence[tuple[str, str]] = (),
) -> Markup:
    """The viewer of a run as a fragment; nothing where there is no map.

    `background` and `mask` share a grid; `files` are those of whole maps, relative to the page, by
    `map_key`; `first_series` is shown first, at the peak of the first
    map of all; `room` is for the maps, in bytes of base64, which the first contrast and smoothing
    have in any case; `mni` holds MNI coordinates (mm; X, Y, Z, 3) of points spread evenly over the
    background's field of view in RAS order, from edge to edge, as `mni_nodes` lays them out;
    `definitions` are the labels and descriptions of the series.
    """
    if not maps:
        return Markup("")
    statistic = display.statistic
    least = _LEAST.get(display.statistic, 0.0)
    volumes, limits, left_out = _volumes(maps, display, room)
    start, *_ = maps
    series = list(dict.fromkeys(name for own in maps.values() for name in own))
    shown = (name for name in (first_series, "bspline", *series) if name in maps[start])
    digits = _DIGITS.get(statistic, 2)
    low, high = slices.gray_limits(background, mask)
    below = slices.canonical(background)
    at = peak_voxel(next(iter(maps[start].values())), mask)
    content: dict[str, Any] = {
        "statistic": statistic,
        "least": least,
        "most": _MOST.get(statistic, 1.0),
        "step": 10.0**-digits,
        "digits": digits,
        "threshold": display.threshold,
        "limits": {"|".join(key): limit for key, limit in limits.items()},
        "colors": list(MAP_COLORS),
        "tallest": _TALLEST_PX,
        "contrasts": list(dict.fromkeys(contrast for contrast, _ in limits)),
        "smoothings": list(dict.fromkeys(smoothing for _, smoothing in limits)),
        "series": series,
        "titles": TITLES,
        "first": {"contrast": start[0], "smoothing": start[1], "series": next(shown)},
        "at": [round((k + 0.5) / n, 5) for k, n in zip(at, below.data.shape, strict=True)],
        "box": _box(mask),
        "maps": volumes,
        "files": {key: file for key, file in files.items() if key in volumes},
        "background": packed(
            background.like(np.clip((background.data - low) / (high - low), 0, 1)),
            slope=1 / _STEPS,
        ),
    }
    if mni is not None:
        tenths = np.clip(np.rint(10 * mni), -(2**15), 2**15 - 1).astype("<i2")
        content["mni"] = {
            "size": mni.shape[:3],
            "tenths": base64.b64encode(tenths.tobytes()).decode("ascii"),
        }
    text = json.dumps(content, separators=(",", ":")).replace("<", "\\u003c")
    name = f"|{statistic}|"
    shown_values = (
        f"The slider sets the threshold, which is {name} > {display.threshold:g} at first."
        + f" Values of {name} < {least:g} are not included in this page." * (least > 0)
    )
    return render(
        "viewer", Markup(text), shown_values, left_out, bool(content["files"]), definitions
    )


def _volumes(
    maps: _Maps, display: Display, room: int
) -> tuple[dict[str, str], dict[tuple[str, str], float], list[str]]:
    """Return the maps that fit by `map_key`, the color scale ends, and what is left out.

    The ends of the color scales are by contrast and smoothing.
    """
    statistic = display.statistic
    least = _LEAST.get(display.statistic, 0.0)
    about = f"bids-sr preview: |{statistic}| < {least:g} set to 0, rounded to 8 bit; not the map"
    volumes: dict[str, str] = {}
    limits: dict[tuple[str, str], float] = {}
    left_out: list[str] = []
    # all contrasts without smoothing before any with
    widths = list(dict.fromkeys(smoothing for _, smoothing in maps))
    for contrast, smoothing in sorted(maps, key=lambda key: widths.index(key[1])):
        images = dict(maps[contrast, smoothing])  # those of the last one need not be held
        limit = common_scale(images.values(), display.floor)
        top = max(
            limit, *(float(np.nanmax(np.abs(each.data), initial=0.0)) for each in images.values())
        )
        slope = _slope_of(top, display.threshold)
        made = {}
        for name, image in images.items():
            known = np.nan_to_num(np.asarray(image.data, dtype=np.float32))
            shown = np.where(np.abs(known) < least, np.float32(0), known)
            made[map_key(contrast, smoothing, name)] = packed(
                image.like(shown), slope=slope, about=about
            )
        size = sum(map(len, made.values()))
        if size > room and volumes:
            left_out.append(f"{contrast}, {smoothing}")
            continue
        room -= size
        volumes |= made
        limits[contrast, smoothing] = round(limit, 3)
    return volumes, limits, left_out
