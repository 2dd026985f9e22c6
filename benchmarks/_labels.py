"""Names of metrics in the tables of the benchmarks: `split_ev_beyond`, `gain_truth_r_effect`."""

from bids_sr.engine.metric_rows import MISSING, MetricRow

FAMILIES = {
    "measured": "split",
    "measuredMap": "truth",
    "truth": "truth",
    "heldOut": "pair",
}
FIGURES = {
    "correct_fraction": "right",
    "average_precision": "ap",
    "active_dice": "dice",
    "connected_accuracy": "connected_acc",
}


def label(row: MetricRow) -> str:
    """Return the name of a metric in a table, from its columns.

    >>> values = dict(statistic="ev", band="beyond", reference="measured", value=0.5)
    >>> label(MetricRow(series="sbl", minus="bspline", **values))
    'gain_split_ev_beyond'
    """
    figure, family = FIGURES.get(row.statistic, row.statistic), FAMILIES.get(row.reference, "")
    if row.statistic in ("psnr", "ssim") and row.reference == "measured":
        family = "truth"
    if row.reference == MISSING or row.statistic.startswith("control_"):
        family = ""
    band = {MISSING: "", "all": "effect" if family == "truth" else "signal"}.get(
        row.band, row.band
    )
    gain = "gain" if row.minus != MISSING else ""
    parts = (family, gain, figure, band) if family == "pair" else (gain, family, figure, band)
    return "_".join(filter(None, parts))
