"""Short names of rows in tables of metrics, for tests."""

from typing import Any

from bids_sr.engine.metric_rows import MetricRow

NONE = "n/a"

EFFECTS = {"r": "r", "ev": "ev", "amplitude": "amplitude", "right": "correct_fraction"}
BANDS = {"signal": "all", "effect": "all", "beyond": "beyond"}
OF_MAPS = {
    "r_t": "r_t",
    "ap": "average_precision",
    "dice": "active_dice",
    "connected_acc": "connected_accuracy",
    "connected_fdr": "connected_fdr",
    "connected_jaccard": "connected_jaccard",
}
OF_REGIONS = {
    "threshold": "threshold_value",
    "paper": "size_acquired_voxels",
    "voxels": "voxels",
    "volume": "volume",
    "dice": "dice",
    "centroid_distance": "centroid_distance",
    "centroid_x": "centroid_x",
    "centroid_y": "centroid_y",
    "centroid_z": "centroid_z",
}


def _questions() -> dict[str, tuple[str, str, str, str]]:
    """Return statistic, band, reference and threshold by short name; maps have the reference
    `truth`.
    """
    questions = {
        f"{family}_{old}_{band}": (new, BANDS[band], reference, NONE)
        for family, reference, bands in (
            ("split", "measured", ("signal", "beyond")),
            ("truth", "truth", ("effect", "beyond")),
        )
        for band in bands
        for old, new in EFFECTS.items()
    }
    questions |= {f"truth_{old}": (new, NONE, "truth", NONE) for old, new in OF_MAPS.items()}
    for score in ("psnr", "ssim"):
        questions[f"truth_{score}"] = (score, NONE, "measured", NONE)
        questions[f"pair_{score}"] = (score, NONE, "heldOut", NONE)
    for label in ("quarter", "fdr", "z31"):
        questions |= {
            f"{label}_{old}": (new, NONE, NONE, label) for old, new in OF_REGIONS.items()
        }
    questions["tested_share"] = ("tested_share", NONE, "oneLevelDown", NONE)
    questions |= {
        f"control_{name}": (f"control_{name}", NONE, "measured", NONE) for name in ("fwhm", "rank")
    }
    return questions


KNOWN = _questions()


_OLD = {question: name for name, question in KNOWN.items()}


def measure_of(row: MetricRow) -> str:
    """Return the short name of a row."""
    if row.threshold != NONE:
        return f"{row.threshold}_{ {new: old for old, new in OF_REGIONS.items()}[row.statistic] }"
    reference = "truth" if row.reference == "measuredMap" else row.reference
    name = _OLD.get((row.statistic, row.band, reference, row.threshold), row.statistic)
    if row.minus == NONE or row.statistic == "verdict":
        return name
    return name.replace("pair_", "pair_gain_") if name.startswith("pair_") else f"gain_{name}"


def against_of(row: MetricRow) -> str:
    """Return the comparator of a row: the subtracted series, or else the reference."""
    if row.minus != NONE:
        return row.minus
    if row.statistic == "tested_share":
        return "zerofill"
    return {"measuredMap": "measured", "heldOut": NONE}.get(row.reference, row.reference)


def named_row(
    series: str, measure: str, value: float, *, against: str = NONE, **more: Any
) -> MetricRow:
    """Return a row by its short name.

    A difference of whole-run maps has known activation as its reference.
    """
    plain = measure.replace("pair_gain_", "pair_").removeprefix("gain_")
    statistic, band, reference, threshold = KNOWN.get(plain, (plain, NONE, NONE, NONE))
    if reference == "truth" and against == "measured" and plain == measure:
        reference = "measuredMap"
    differs = plain != measure or statistic == "verdict"
    return MetricRow(
        series=series,
        minus=against if differs else NONE,
        statistic=statistic,
        band=band,
        reference=reference,
        region=more.pop("region", NONE),
        threshold=threshold,
        **{"contrast": NONE, "fwhm_mm": 0.0, "value": value, **more},
    )
