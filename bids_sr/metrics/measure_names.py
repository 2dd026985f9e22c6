"""TEMPORARY: names of metrics as tables had them before the columns `statistic`, `band`, `reference`, and back."""

from functools import cache
from typing import NamedTuple

from bids_sr.metrics.registry import STATISTICS, Better, UndeclaredMetric

MISSING = "n/a"
BANDS = ("signal", "percent", "beyond", "within")
_EFFECTS = {"r": "r", "ev": "ev", "amplitude": "amplitude", "right": "correct_fraction"}
_FAMILIES = {"split": "measured", "self": "self", "truth": "truth", "other": "otherRun"}
_OF_TRUTH = {
    "r_t": "r_t", "ap": "average_precision", "auc": "auc", "dice": "active_dice", "centroid": "active_distance",
    "connected_acc": "connected_accuracy", "connected_fdr": "connected_fdr", "connected_jaccard": "connected_jaccard",
    "foci": "foci_contrast",
}  # fmt: skip
_OF_REGION = {
    "threshold": "threshold_value", "paper": "size_acquired_voxels",
    **{name: name for name in ("voxels", "volume", "roi_volume", "dice", "centroid_distance")},
    **{f"centroid_{axis}": f"centroid_{axis}" for axis in "xyz"},
}  # fmt: skip
_REFERENCES = {"measured": "measured", "truth": "truth", "self": "self", "otherRun": "otherRun"}


class MeasureParts(NamedTuple):
    """What the old name of a metric told."""

    is_gain: bool  # a difference to the series in `against`
    family: str  # split, self, truth, pair, flag, ...
    figure: str  # ev, r, psnr, ...; of a flag its name
    band: str  # of `BANDS`; empty where the figure is not of one

    @property
    def level(self) -> str:
        """The name of the measure itself, of which this may be the difference."""
        return "_".join(filter(None, (self.family, self.figure, self.band)))


@cache
def parts_of(name: str) -> MeasureParts:
    """The name of a measure, taken apart."""
    plain = name.removeprefix("gain_").replace("pair_gain_", "pair_")
    family, _, figure = plain.partition("_")
    rest, _, band = figure.rpartition("_")
    figure, band = (rest, band) if band in BANDS else (figure, "")
    return MeasureParts(plain != name, family, figure, band)


class Fields(NamedTuple):
    """What tells a metric in the columns of the table."""

    minus: str
    statistic: str
    band: str
    reference: str
    threshold: str = MISSING


@cache
def fields_of(measure: str, against: str = MISSING) -> Fields:
    """Columns of an old name and of what stood in `against`; a `gain_truth_*` is taken for one to known activation."""
    is_gain, family, figure, band = parts_of(measure)
    minus = against if is_gain else MISSING
    of_map = "measuredMap" if against == "measured" and not is_gain else "truth"
    if family == "truth" and figure in ("psnr", "ssim"):
        return Fields(minus, figure, MISSING, "measured")
    if family == "pair" and figure in ("psnr", "ssim"):
        return Fields(minus, figure, MISSING, "heldOut")
    if family == "truth" and (name := figure.removesuffix("_effect")) in _EFFECTS:
        return Fields(minus, _EFFECTS[name], band or "all", of_map)
    if family in _FAMILIES and band and figure in _EFFECTS:
        band = "all" if band == "signal" else band
        return Fields(minus, _EFFECTS[figure], band, _FAMILIES[family])
    if family == "truth" and figure in _OF_TRUTH:
        return Fields(minus, _OF_TRUTH[figure], MISSING, of_map)
    if measure == "tested_share":
        return Fields(MISSING, measure, MISSING, "oneLevelDown")
    if family == "compared" and measure != "compared_fwhm":
        return Fields(against, family, measure.partition("_")[2], MISSING)
    if measure.startswith("control_best_"):
        return Fields(MISSING, measure.replace("_signal", "_all"), MISSING, _REFERENCES.get(against, MISSING))
    rest = measure.partition("_")[2]
    if rest in _OF_REGION and (family in ("quarter", "fdr") or (family[:1] == "z" and family[1:].isdigit())):
        return Fields(MISSING, _OF_REGION[rest], MISSING, MISSING, family)
    other = MISSING if against in _REFERENCES else against
    return Fields(other, measure, MISSING, _REFERENCES.get(against, MISSING))


@cache
def measure_of(minus: str, statistic: str, band: str, reference: str, threshold: str) -> str:
    """The old name of what the columns tell."""
    gain = "gain_" if minus != MISSING else ""
    effects = {new: old for old, new in _EFFECTS.items()}
    of_truth = {new: old for old, new in _OF_TRUTH.items()}
    if statistic in ("psnr", "ssim") and reference == "measured":
        return f"{gain}truth_{statistic}"
    if statistic in ("psnr", "ssim") and reference == "heldOut":
        return f"pair_{gain}{statistic}"
    if statistic in effects and reference in ("truth", "measuredMap"):
        return f"{gain}truth_{effects[statistic]}_{'effect' if band == 'all' else band}"
    family = {new: old for old, new in _FAMILIES.items()}.get(reference)
    if statistic in effects and family:
        return f"{gain}{family}_{effects[statistic]}_{'signal' if band == 'all' else band}"
    if statistic in of_truth and reference in ("truth", "measuredMap"):
        return f"{gain}truth_{of_truth[statistic]}"
    if statistic == "compared":
        return f"compared_{band}"
    if statistic.startswith("control_best_"):
        return statistic.replace("_all", "_signal")
    if threshold != MISSING:
        return f"{threshold}_{ {new: old for old, new in _OF_REGION.items()}[statistic] }"
    return statistic


@cache
def against_of(minus: str, statistic: str, reference: str) -> str:
    """What stood in `against`."""
    if minus != MISSING:
        return minus
    if statistic == "tested_share":
        return "zerofill"
    return {"measuredMap": "measured", "heldOut": MISSING}.get(reference, reference)


class Metric(NamedTuple):
    """What an old name meant."""

    name: str
    unit: str
    description: str
    better: Better | None = None


_WHERE = {
    "percent": "in percent of one common mean image",
    "beyond": "only in-plane Fourier coefficients at or beyond the acquired Nyquist limit",
    "within": "only in-plane Fourier coefficients within the acquired Nyquist limit",
}


def metric(name: str) -> Metric:
    """What an old name means; UndeclaredMetric where its statistic is not registered."""
    told = fields_of(name)
    if told.statistic not in STATISTICS:
        raise UndeclaredMetric(f"measure {name!r} is declared nowhere")
    found = STATISTICS[told.statistic]
    parts = parts_of(name)
    words = ["difference to the series named in against, of: " if parts.is_gain else "", found.description]
    words.append(f"; {_WHERE[told.band]}" if told.band in _WHERE else "")
    compared = found.better if not parts.is_gain and told.reference != "self" else None
    return Metric(name, found.unit, "".join(words), compared)


def metric_of(name: str) -> Metric:
    """As `metric`; one without unit, words and direction of merit where it is not registered."""
    try:
        return metric(name)
    except UndeclaredMetric:
        return Metric(name, "", "")


def better(name: str) -> Better | None:
    """Direction of merit; None where it is not compared or not registered."""
    return metric_of(name).better
