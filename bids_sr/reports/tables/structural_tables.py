"""Tables of fused structural scans in the report."""

from collections.abc import Mapping, Sequence
from html import escape

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


def structural_html(rows: Sequence[Row]) -> str:
    """All tables: likeness and quality of each contrast, then tissues and lesions.

    Parameters
    ----------
    rows : of the table of measures, by column; see `bids_sr.metrics.long_tables.STRUCTURAL`
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
    return "".join(parts)


def _title(contrast: str) -> str:
    return "All contrasts together" if contrast == "all" else contrast


def _table(rows: Sequence[Row], measures: Sequence[str], caption: str) -> str:
    """Series in rows, measures in columns; empty where there is no such measure."""
    if not measures:
        return ""
    values = {(row["series"], row["measure"]): row["value"] for row in rows}
    units = {row["measure"]: row["unit"] for row in rows}
    every = dict.fromkeys(row["series"] for row in rows)
    names = [name for name in every if any((name, m) in values for m in measures)]
    head = "".join(
        f"<th scope='col'>{escape(m.removeprefix('ratio_').replace('_', ' '))}"
        + (f"<br><small>{escape(units[m])}</small>" if units[m] != "1" else "")
        + "</th>"
        for m in measures
    )
    body = "".join(
        f"<tr><th scope='row'>{escape(name)}</th>"
        + "".join(f"<td>{number(values.get((name, m)))}</td>" for m in measures)
        + "</tr>"
        for name in names
    )
    return (
        f"<div class='wide'><table class='metrics'><caption>{escape(caption)}</caption>"
        f"<thead><tr><th scope='col'>series</th>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )
