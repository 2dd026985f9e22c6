"""Tables of metrics of bids-sr 0.2.0.dev and before: where each of their numbers stands now.

As a program, ``python tests/oldtables.py BEFORE AFTER`` looks every number of the tables of one
run up in another.
"""

import csv
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from bids_sr.metrics import COLUMNS, MetricRow, read_frame

NONE = "n/a"
TABLES = ("image", "activation", "evaluation", "anat")


class Place(NamedTuple):
    """Where a number stands."""

    series: str
    minus: str
    statistic: str
    band: str
    reference: str
    region: str
    threshold: str
    contrast: str
    fwhm_mm: str


EFFECTS = {"r": "r", "ev": "ev", "amplitude": "amplitude", "right": "correct_fraction"}
BANDS = {"signal": "all", "effect": "all", "beyond": "beyond", "within": "within"}
OF_MAPS = {
    "r_t": "r_t",
    "ap": "average_precision",
    "auc": "auc",
    "dice": "active_dice",
    "centroid": "active_distance",
    "connected_acc": "connected_accuracy",
    "connected_fdr": "connected_fdr",
    "connected_jaccard": "connected_jaccard",
    "foci": "foci_contrast",
}
OF_REGIONS = {
    "threshold": "threshold_value",
    "paper": "size_acquired_voxels",
    "voxels": "voxels",
    "volume": "volume",
    "roi_volume": "roi_volume",
    "dice": "dice",
    "centroid_distance": "centroid_distance",
    "centroid_x": "centroid_x",
    "centroid_y": "centroid_y",
    "centroid_z": "centroid_z",
}
OF_TISSUES = {
    "volume": "tissue_volume",
    "dice": "tissue_dice",
    "tpf": "tpf",
    "tnf": "tnf",
    "ppv": "ppv",
}
TISSUES = ("gm", "wm", "csf", "wmh")
DROPPED = {
    "alff_median",
    "falff_median",
    "alff_half_r",
    "unrepeated_share",
    "flag_unrepeated",
    "ensemble_r",
    "ensemble_coverage",
    "ensemble_nominal",
    "split_r_percent",
    "gain_split_r_percent",
    *(f"null_{name}" for name in ("rate", "nominal", "fwe", "threshold", "peak", "active")),
    *(f"self_r_{band}" for band in ("signal", "beyond", "within")),
    *(
        f"control_best_{name}_{band}"
        for name in ("r", "ev")
        for band in ("signal", "percent", "beyond", "within")
    ),
    *(
        f"r_{stat}_with_{other}"
        for stat in ("cc", "effect", "t", "z")
        for other in ("raw", "bspline")
    ),
}
"""What is no longer computed, as nobody decides by it."""
DROPPED_OF_MEASURED = {"truth_ap", "truth_auc", "truth_dice", "truth_centroid", "truth_foci"}
"""What is still computed with known activation, but not with a measured map, whose noise the
series share.
"""


def _known() -> dict[str, tuple[str, str, str, str]]:
    """Statistic, band, reference and threshold by old name, those of maps with `truth` as their
    reference.
    """
    known = {
        f"{family}_{old}_{band}": (new, BANDS[band], reference, NONE)
        for family, reference, bands in (
            ("split", "measured", ("signal", "beyond", "within")),
            ("truth", "truth", ("effect", "beyond", "within")),
            ("other", "otherRun", ("within",)),
        )
        for band in bands
        for old, new in EFFECTS.items()
    }
    known |= {f"truth_{old}": (new, NONE, "truth", NONE) for old, new in OF_MAPS.items()}
    for score in ("psnr", "ssim"):
        known[f"truth_{score}"] = (score, NONE, "measured", NONE)
        known[f"pair_{score}"] = (score, NONE, "heldOut", NONE)
    for label in ("quarter", "fdr", "z31"):
        known |= {f"{label}_{old}": (new, NONE, NONE, label) for old, new in OF_REGIONS.items()}
    known["tested_share"] = ("tested_share", NONE, "oneLevelDown", NONE)
    known |= {f"compared_{band}": ("compared", band, NONE, NONE) for band in ("within", "beyond")}
    known |= {
        f"control_{name}": (f"control_{name}", NONE, "measured", NONE) for name in ("fwhm", "rank")
    }
    return known


KNOWN = _known()


def place_of(table: str, row: Mapping[str, str]) -> Place | None:
    """Where the number of a row of an old table stands now; None for what is no longer computed.

    A difference of ``gain_truth_*`` is one to known activation here; `found_in` looks in the
    measured map, too.
    """
    measure, against = row["measure"], row.get("against", NONE)
    here = {
        "series": row["series"],
        "contrast": row["contrast"],
        "fwhm_mm": row.get("fwhm_mm", "0"),
    }
    if table == "anat":
        held_out = row["reference"] == "heldOut"
        first, _, last = measure.rpartition("_")
        if last in TISSUES and first in OF_TISSUES:
            reference = NONE if first == "volume" else "measured"
            return _placed(here, (OF_TISSUES[first], NONE, reference, NONE), region=last)
        if measure.startswith("ratio_"):
            *tissues, name = measure.removeprefix("ratio_").replace("_over_", "_").split("_")
            return _placed(here, (f"ratio_{name}", NONE, NONE, NONE), region="/".join(tissues))
        return _placed(
            here, (measure, NONE, "heldOut" if held_out else NONE, NONE), region="brain"
        )
    plain = measure.replace("pair_gain_", "pair_").removeprefix("gain_")
    is_gain = plain != measure
    if measure in DROPPED or (plain in DROPPED_OF_MEASURED and (is_gain or against == "measured")):
        return None
    told = KNOWN.get(plain, (plain, NONE, NONE, NONE))
    if told[2] == "truth" and against == "measured" and not is_gain:
        told = (*told[:2], "measuredMap", told[3])
    minus = against if is_gain or told[0] in ("verdict", "compared") else NONE
    return _placed(here, told, region=row.get("region", NONE), minus=minus)


def _placed(here: Mapping[str, str], told: tuple[str, str, str, str], **more: str) -> Place:
    statistic, band, reference, threshold = told
    place = {
        "statistic": statistic,
        "band": band,
        "reference": reference,
        "threshold": threshold,
        "minus": NONE,
    }
    return Place(**{**here, **place, **more})


_OLD = {told: name for name, told in KNOWN.items()}


def measure_of(row: MetricRow) -> str:
    """The old name of what a row tells."""
    if row.threshold != NONE:
        return f"{row.threshold}_{ {new: old for old, new in OF_REGIONS.items()}[row.statistic] }"
    reference = "truth" if row.reference == "measuredMap" else row.reference
    name = _OLD.get((row.statistic, row.band, reference, row.threshold), row.statistic)
    if row.minus == NONE or row.statistic in ("verdict", "compared"):
        return name
    return name.replace("pair_", "pair_gain_") if name.startswith("pair_") else f"gain_{name}"


def against_of(row: MetricRow) -> str:
    """What stood in the old column `against`."""
    if row.minus != NONE:
        return row.minus
    if row.statistic == "tested_share":
        return "zerofill"
    return {"measuredMap": "measured", "heldOut": NONE}.get(row.reference, row.reference)


def named_row(
    series: str, measure: str, value: float, *, against: str = NONE, **more: Any
) -> MetricRow:
    """A row by its old name; a difference of whole-run maps is one to known activation."""
    cells = {
        "series": series,
        "measure": measure,
        "against": against,
        "region": more.pop("region", NONE),
    }
    place = place_of("evaluation", {**cells, "contrast": more.pop("contrast", NONE)})
    assert place is not None, measure
    return MetricRow(**{**place._asdict(), "fwhm_mm": 0.0, "value": value, **more})


def rows_of(path: Path) -> list[dict[str, str]]:
    """Rows of a table as texts."""
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream, delimiter="\t", quoting=csv.QUOTE_NONE))


def numbers_of(path: Path) -> dict[Place, tuple[str, ...]]:
    """Value, ends of the interval and n of a table of today, as their texts."""
    read_frame(path)
    rows = rows_of(path)
    found = {
        Place(*(row[name] for name in Place._fields)): tuple(
            row[name] for name in ("value", "lower", "upper", "n")
        )
        for row in rows
    }
    assert len(found) == len(rows), f"{path}: two rows are about the same"
    return found


def lost(table: str, old: list[dict[str, str]], new: Mapping[Place, tuple[str, ...]]) -> list[str]:
    """Numbers of an old table that the new one has not, or has with another value or interval."""
    missing, used = [], set()
    for row in old:
        place = place_of(table, row)
        if place is None:
            continue
        if place not in new or (place in used and row["measure"].startswith("gain_truth_")):
            place = place._replace(
                reference={"truth": "measuredMap"}.get(place.reference, place.reference)
            )
        numbers = tuple(row.get(name, NONE) for name in ("value", "lower", "upper", "n"))
        if place in used or new.get(place) != numbers:
            missing.append(f"{row['measure']} {place} {numbers}: {new.get(place, 'absent')}")
        used.add(place)
    return missing


def main(before: Path, after: Path) -> int:
    """Compare the tables of two output directories; prints what is lost."""
    total = 0
    for table in TABLES:
        for path in sorted(before.glob(f"sub-*/**/*_desc-{table}_metrics.tsv")):
            there = after / path.relative_to(before)
            old = rows_of(path)
            missing = lost(table, old, numbers_of(there)) if there.exists() else [f"no {there}"]
            kept = sum(place_of(table, row) is not None for row in old)
            print(
                f"{path.relative_to(before)}: {len(old)} numbers, {kept} still computed,"
                f" {len(missing)} not found"
            )
            print(*missing[:20], sep="\n")
            total += len(missing)
    return int(total > 0)


assert set(Place._fields) < set(COLUMNS)
if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
