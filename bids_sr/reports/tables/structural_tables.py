"""Tables of fused structural scans in the report."""

from collections.abc import Mapping, Sequence

from markupsafe import Markup

from bids_sr.reports.markup import joined, table
from bids_sr.reports.tables.html_tables import number

LIKENESS = ("psnr", "ssim", "mae", "nmse")
QUALITY = ("cjv", "efc", "fwhm", "wm2max", "ratio_gm_over_wm_mean", "ratio_csf_over_gm_mean")
_VOLUMES, _OVERLAPS = "volume_", ("dice_", "tpf_", "ppv_")
_CAPTIONS = {
    "likeness": "against the measured scan, in the brain of slices that no model was trained on; data range 1",
    "quality": "quality of the whole brain; tissues as found in the measured scans",
    "classes": "volumes (ml), and overlap with the segmentation of the measured scans",
}
Row = Mapping[str, str]


def structural_html(rows: Sequence[Row]) -> Markup:
    """All tables: likeness and quality of each contrast, then tissues and lesions.

    `rows` are those of the table of measures, by column; see `bids_sr.metrics.long_tables.STRUCTURAL`.
    """
    parts = []
    for contrast in dict.fromkeys(row["contrast"] for row in rows):
        own = [row for row in rows if row["contrast"] == contrast]
        there = list(dict.fromkeys(row["measure"] for row in own))
        groups = {
            "likeness": [m for m in LIKENESS if m in there],
            "quality": [m for m in QUALITY if m in there],
            "classes": [m for m in there if m.startswith((_VOLUMES, *_OVERLAPS))],
        }
        parts += [_table(own, measures, f"{_title(contrast)}: {_CAPTIONS[kind]}") for kind, measures in groups.items()]
    return joined(parts)


def _title(contrast: str) -> str:
    return "All contrasts together" if contrast == "all" else contrast


def _table(rows: Sequence[Row], measures: Sequence[str], caption: str) -> Markup:
    """Series in rows, measures in columns; empty where there is no such measure."""
    values = {(row["series"], row["measure"]): row["value"] for row in rows}
    units = {row["measure"]: "" if row["unit"] == "1" else row["unit"] for row in rows}
    heads = [(m.removeprefix("ratio_").replace("_", " "), units[m]) for m in measures]
    lines = [
        [name, *(number(values.get((name, m))) for m in measures)]
        for name in dict.fromkeys(row["series"] for row in rows)
        if any((name, m) in values for m in measures)
    ]
    return table(caption, ["series", *heads], lines)
