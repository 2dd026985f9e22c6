"""Blinded visual ratings of images: codes, means per series, tests and agreement between raters.

The scale (0 to 5) and the design follow attention-unet, section 3.9. Agreement is the intraclass
correlation ICC(2,1) of Shrout and Fleiss 1979 (Psychological Bulletin 86:420).
"""

import itertools
import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from bids_sr.evaluation.statistics.comparison_table import describe_columns
from bids_sr.evaluation.statistics.comparisons import compare_pairs, correct
from bids_sr.evaluation.statistics.summaries import summarize
from bids_sr.io.notices import InvalidInput
from bids_sr.io.series import MEASURED, get_kind
from bids_sr.io.tables import is_missing

LOWEST, HIGHEST = 0.0, 5.0
"""Ends of the rating scale: unusable and excellent."""
NATIVE = "native"
"""Series name of the acquired low-resolution scans in a rating kit."""
_LETTERS = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789"  # I, O, 0 and 1 are omitted because they look alike
_CODE_LENGTH = 5  # characters per code


def draw_codes(n: int, seed: int) -> list[str]:
    """Draw n different codes in random order.

    The same seed results in the same codes.

    >>> len(set(draw_codes(300, 0)))
    300
    """
    rng = np.random.default_rng(seed)
    codes: dict[str, None] = {}
    while len(codes) < n:
        codes["".join(rng.choice(list(_LETTERS), _CODE_LENGTH))] = None
    return list(codes)


def check_sheet(
    rows: Sequence[tuple[int, Mapping[str, str | None]]], codes: Sequence[str]
) -> dict[str, float]:
    """Return the ratings of one sheet by code, NaN for images without a rating.

    `rows` are line numbers and cells (by column: code, rating). `codes` are the codes of the kit.
    Raises `InvalidInput` if a code is unknown or repeated, or a rating is no number from 0 to 5.
    """
    kit_codes = set(codes)
    ratings: dict[str, float] = {}
    for line, row in rows:
        code, cell = (row.get("code") or "").strip(), (row.get("rating") or "").strip()
        if code not in kit_codes:
            raise InvalidInput(
                f"line {line}: the code {code or '(empty)'} does not belong to this rating kit"
            )
        if code in ratings:
            raise InvalidInput(f"line {line}: the code {code} appears more than once")
        ratings[code] = _parse_rating(cell, f"line {line}: the rating of {code} is {cell}")
    return {code: ratings.get(code, math.nan) for code in codes}


def _parse_rating(cell: str, subject: str) -> float:
    """Return the rating in a cell, NaN for a missing value.

    `subject` is the beginning of the message of InvalidInput.
    """
    try:
        rating = math.nan if is_missing(cell) else float(cell.replace(",", "."))
    except ValueError:
        raise InvalidInput(f"{subject}, which is not a number") from None
    if not math.isnan(rating) and not LOWEST <= rating <= HIGHEST:
        raise InvalidInput(f"{subject}; expected a rating from {LOWEST:g} to {HIGHEST:g}")
    return rating


def average_ratings(ratings: pd.DataFrame) -> pd.DataFrame:
    """Summarize ratings per contrast and series over participants.

    Ratings of all raters are averaged within participants first. `ratings` has one row per rating,
    with columns participant, contrast, series, rater and rating. The columns of the result are
    contrast (``all``: mean over contrasts), series, n (participants), mean, sd, minimum and
    maximum.
    """
    names = ["n", "mean", "sd", "minimum", "maximum"]
    rows = [
        [contrast, series, *(getattr(summary, name) for name in names)]
        for contrast, participant_ratings in _average_by_participant(ratings).items()
        for series in participant_ratings
        if (summary := summarize(participant_ratings[series])).n
    ]
    return pd.DataFrame(rows, columns=["contrast", "series", *names])


def compare_ratings(ratings: pd.DataFrame) -> pd.DataFrame:
    """Compare all pairs of series over participants by the Wilcoxon signed-rank test.

    P values are corrected over all pairs of a contrast. Pairs of series without a common
    participant are skipped. Columns are ``ratings_tests`` of ``columns.json``.
    """
    rows = []
    for contrast, participant_ratings in _average_by_participant(ratings).items():
        values = {series: participant_ratings[series].to_numpy() for series in participant_ratings}
        compared = [
            pair for pair in compare_pairs(values, itertools.combinations(values, 2)) if pair.n
        ]
        corrected = correct(compared, [contrast] * len(compared), least_n=1)
        rows += [{"contrast": contrast, **pair.cells()} for pair in corrected]
    return pd.DataFrame(rows, columns=list(describe_columns("ratings_tests")))


def _average_by_participant(ratings: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return mean ratings, participants by series, for all contrasts and for each contrast."""
    existing_ratings = ratings.dropna(subset=["rating"])
    keys = ["contrast", "participant", "series"]
    means = existing_ratings.groupby(keys, sort=False)["rating"].mean().reset_index()
    tables = {"all": means, **dict(iter(means.groupby("contrast", sort=False)))}
    # methods come first, followed by the series that they are compared with
    series_order = sorted(
        set(means["series"]),
        key=lambda name: (get_kind(name) == "baseline", name == NATIVE, name == MEASURED, name),
    )
    return {
        str(name): table.groupby(["participant", "series"])["rating"]
        .mean()
        .unstack()
        .reindex(columns=series_order)
        for name, table in tables.items()
    }


def intraclass_correlation(table: npt.ArrayLike) -> float:
    """Return ICC(2,1), the absolute agreement of single raters.

    `table` contains ratings, (images, raters). Images without a rating from every rater are
    omitted. The correlation is NaN if there are fewer than two raters or images, or if all ratings
    are equal.

    >>> round(intraclass_correlation([[1, 2], [2, 3], [3, 4]]), 3)
    0.667
    """
    all_ratings = np.asarray(table, dtype=np.float64)
    ratings = all_ratings[np.isfinite(all_ratings).all(axis=1)]
    n, k = ratings.shape if ratings.ndim == 2 else (0, 0)  # images, raters
    if n < 2 or k < 2:
        return math.nan
    mean = ratings.mean()
    image_variance = k * float(((ratings.mean(axis=1) - mean) ** 2).sum()) / (n - 1)
    rater_variance = n * float(((ratings.mean(axis=0) - mean) ** 2).sum()) / (k - 1)
    residuals = ratings - ratings.mean(axis=1, keepdims=True) - ratings.mean(axis=0) + mean
    residual_variance = float((residuals**2).sum()) / ((n - 1) * (k - 1))
    total_variance = (
        image_variance + (k - 1) * residual_variance + k * (rater_variance - residual_variance) / n
    )
    if not total_variance > 0:
        return math.nan
    return (image_variance - residual_variance) / total_variance
