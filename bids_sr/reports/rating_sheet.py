"""Blinded rating of pairs of maps: a page for each rater that hides the series, the key to it, and the counts.

Sides and order are drawn for each rater. All that differs between the two images of a pair is the values of the maps:
planes, crop, scale and size are shared, and the images carry no metadata.
"""

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any

import nibabel as nib
import numpy as np
from markupsafe import Markup
from matplotlib import colormaps
from matplotlib.image import imsave
from scipy import stats

from bids_sr.boilerplate import path
from bids_sr.frozen import frozen
from bids_sr.io.array_types import Array
from bids_sr.reports.markup import environment

QUESTIONS = (("finer", "Which map is finer?"), ("truer", "Which map is truer?"))
KEY_COLUMNS = ("sheet", "rater", "item", "run", "contrast", "fwhm_mm", "left", "right")
PLANES, PIXELS = 3, 3
NO_METADATA: Any = {"Software": None}  # matplotlib writes its version else
SCALE = 99.5  # percentile of |t| over both maps that gets the full color


@frozen
class RatedPair:
    """Two t maps (x, y, z) of a run on one grid (affine to RAS mm) by their series; the measured one where there is."""

    run: str
    contrast: str
    fwhm_mm: float
    maps: dict[str, Array]
    affine: Array
    measured: Array | None = None


def pictures(pair: RatedPair) -> dict[str, str]:
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


def make_sheet(pairs: Sequence[RatedPair], images: Sequence[dict[str, str]], *, rater: int, seed: int) -> tuple[
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


ANSWERS = ("left", "right", "equal", "n/a")


@frozen
class Count:
    """How often a series was preferred to its rival on one question, of those judgments that preferred one."""

    question: str
    series: str
    rival: str
    preferred: int
    of: int
    equal: int
    unanswered: int
    raters: int
    # lower, upper: exact (Clopper-Pearson) 95 % interval of the share; p_value: two-sided binomial test against 1/2
    lower: float
    upper: float
    p_value: float


def joined_ratings(
    ratings: Sequence[Mapping[str, str]], key: Sequence[Mapping[str, str]], questions: Sequence[str]
) -> list[dict[str, str]]:
    """A row for each rating, with ``series``, ``rival``, ``question`` and ``answer``: series, rival, equal or n/a.

    The series is that of the two which is not ``bspline``. Raises ValueError for a rating that the key does not have,
    one given twice, or an answer that is none.
    """
    known = {(row["sheet"], row["item"]): row for row in key}
    seen: set[tuple[str, str]] = set()
    out = []
    for row in ratings:
        place = (row["sheet"], row["item"])
        if place not in known:
            raise ValueError(f"item {row['item']} of sheet {row['sheet']} is not in the key")
        if place in seen:
            raise ValueError(f"item {row['item']} of sheet {row['sheet']} is rated twice")
        seen.add(place)
        sides = {side: known[place][side] for side in ("left", "right")}
        rival, series = sorted(sides.values(), key=lambda name: name != "bspline")
        for question in questions:
            if row[question] not in ANSWERS:
                raise ValueError(f"item {row['item']} of sheet {row['sheet']}: {row[question]!r} is no answer")
            answer = sides.get(row[question], row[question])
            said = {**known[place], "question": question, "series": series, "rival": rival, "answer": answer}
            out.append({name: value for name, value in said.items() if name not in sides})
    return out


def counts(joined: Sequence[Mapping[str, str]]) -> list[Count]:
    """Counts of `joined_ratings` for each question and pair of series, in the order of the ratings.

    Judgments are counted as independent, which those of several raters on the same maps are not: the interval is then
    too narrow.
    """
    out = []
    for place in dict.fromkeys((row["question"], row["series"], row["rival"]) for row in joined):
        own = [row for row in joined if (row["question"], row["series"], row["rival"]) == place]
        answers = [row["answer"] for row in own]
        preferred, of = answers.count(place[1]), answers.count(place[1]) + answers.count(place[2])
        test = stats.binomtest(preferred, of) if of else None
        interval = test.proportion_ci(method="exact") if test else None
        out.append(Count(
            question=place[0], series=place[1], rival=place[2], preferred=preferred, of=of,
            equal=answers.count("equal"), unanswered=answers.count("n/a"), raters=len({row["rater"] for row in own}),
            lower=float(interval.low) if interval else 0.0, upper=float(interval.high) if interval else 1.0,
            p_value=float(test.pvalue) if test else 1.0,
        ))  # fmt: skip
    return out
