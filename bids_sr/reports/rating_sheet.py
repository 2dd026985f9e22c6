"""Blinded rating of pairs of maps: a page for each rater that hides the series, and the key to it.

Sides and order are drawn for each rater. All that differs between the two images of a pair is the values of the maps:
planes, crop, scale and size are shared, and the images carry no metadata.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import nibabel as nib
import numpy as np
from markupsafe import Markup
from matplotlib import colormaps
from matplotlib.image import imsave

from bids_sr.boilerplate import path
from bids_sr.io.array_types import Array
from bids_sr.reports.markup import environment

QUESTIONS = (("finer", "Which map is finer?"), ("truer", "Which map is truer?"))
KEY_COLUMNS = ("sheet", "rater", "item", "run", "contrast", "fwhm_mm", "left", "right")
SIDES = ("left", "right")
PLANES, PIXELS = 3, 3
NO_METADATA: Any = {"Software": None}  # matplotlib writes its version else
SCALE = 99.5  # percentile of |t| over both maps that gets the full color


@dataclass(frozen=True, kw_only=True, slots=True)
class Pair:
    """Two maps of one run on one grid, by the names of their series, and the measured map where there is one.

    Attributes
    ----------
    run, contrast, fwhm_mm : of both
    maps : t map (x, y, z) of each of the two series
    affine : of their grid, voxel to RAS mm
    measured : t map of the measured series on the same grid, or None
    """

    run: str
    contrast: str
    fwhm_mm: float
    maps: dict[str, Array]
    affine: Array
    measured: Array | None = None


def pictures(pair: Pair) -> dict[str, str]:
    """The maps of a pair as PNG data URIs by series, the measured one as ``measured``; drawn all alike.

    Planes, crop and scale come from both maps together, the same for either order.
    """
    turn = nib.orientations.io_orientation(pair.affine)
    volumes = {name: nib.orientations.apply_orientation(np.nan_to_num(each), turn) for name, each in pair.maps.items()}
    strength = sum(np.abs(each) for each in volumes.values())
    if pair.measured is not None:
        volumes["measured"] = nib.orientations.apply_orientation(np.nan_to_num(pair.measured), turn)
    inside = strength > 0
    if not inside.any():
        raise ValueError(f"{pair.run}, contrast {pair.contrast}: the maps are empty")
    planes = np.sort(np.argsort(strength.sum(axis=(0, 1)), kind="stable")[-PLANES:])
    rows, columns = (np.flatnonzero(inside.any(axis=axes)) for axes in ((1, 2), (0, 2)))
    window = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    top = float(np.percentile(strength[inside] / len(pair.maps), SCALE))
    return {
        name: _png(np.hstack([each[..., z][window].T[::-1] for z in planes]), top) for name, each in volumes.items()
    }


def _png(plane: Array, top: float) -> str:
    colors = colormaps["RdBu_r"](np.clip(plane / (2 * top or 1.0) + 0.5, 0, 1), bytes=True)
    colors[plane == 0] = (0, 0, 0, 255)
    file = io.BytesIO()
    enlarged = np.ascontiguousarray(colors.repeat(PIXELS, axis=0).repeat(PIXELS, axis=1)[..., :3])
    imsave(file, enlarged, format="png", metadata=NO_METADATA)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode("ascii")


def make_sheet(pairs: Sequence[Pair], images: Sequence[dict[str, str]], *, rater: int, seed: int) -> tuple[
    str, list[dict[str, str]]
]:  # fmt: skip
    """Page of one rater and its key.

    Parameters
    ----------
    pairs, images : the pairs, and `pictures` of each
    rater : number of the rater, from 1
    seed : of order and sides; either series of the pairs stands at the left in half of them (one more or less)

    Returns
    -------
    page : one HTML file without any name of a series
    key : a row of `KEY_COLUMNS` for each item
    """
    rng = np.random.default_rng([seed, rater])
    sheet = rng.bytes(6).hex()
    order = rng.permutation(len(pairs))
    turned = rng.permutation(np.arange(len(pairs)) % 2 == int(rng.integers(2)))
    items, key = [], []
    for number, (at, turn) in enumerate(zip(order, turned, strict=True), start=1):
        pair, own = pairs[at], images[at]
        left, right = reversed(tuple(pair.maps)) if turn else tuple(pair.maps)
        items.append({
            "number": number, "left": own[left], "right": own[right],
            "reference": own["measured"] if pair.measured is not None else "",
        })  # fmt: skip
        facts = (sheet, str(rater), str(number), pair.run, pair.contrast, f"{pair.fwhm_mm:g}", left, right)
        key.append(dict(zip(KEY_COLUMNS, facts, strict=True)))
    css = Markup(path("report.css").read_text(encoding="utf-8").partition("@media print")[0])
    page = (
        environment()
        .get_template("rating.tpl")
        .render(css=css, items=items, questions=QUESTIONS, sheet=sheet, rater=rater)
    )
    return page, key
