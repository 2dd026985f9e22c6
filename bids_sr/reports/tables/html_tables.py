"""HTML of the report: summary, facts, model card, metrics, registration, calibration, structural scans."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby

from markupsafe import Markup, escape

from bids_sr.io.json_values import real, texts
from bids_sr.metrics.long_tables import MISSING
from bids_sr.metrics.registry import METRICS, REGION_METRICS, metric_of
from bids_sr.reports.markup import folded, joined, picked, render, table
from bids_sr.reports.tables.evaluation_rows import series_text
from bids_sr.reports.text.training_text import held_out_text, started_text

Row = Mapping[str, str]
_CAPITALS = {"psnr", "ssim", "rmse", "mae", "nmse", "fdr", "cc", "fwhm", "roi", "sr", "lr"}
_THRESHOLDS = {"quarter": "upper quarter", "fdr": "FDR .05"}
SLOW = ("alff_median", "falff_median", "alff_half_r")
# what the report shows of the activation table, in this order; the rest is in the TSV
SINGLE = (
    "peak_cc", "peak_t", "peak_z", "peak_effect", "quarter_volume", "quarter_paper", "fdr_volume", "fdr_threshold",
)  # fmt: skip
PAIRED = (
    "quarter_dice", "fdr_dice", "quarter_centroid_distance", "fdr_centroid_distance", "peak_distance",
    "effect_separation",
)  # fmt: skip
Value = object


def number(value: str | None) -> str:
    """A value of a table as shown: three or four significant digits, a dash where there is none."""
    if value is None or value in (MISSING, ""):
        return "–"
    try:
        as_float = float(value)
    except ValueError:
        return escape(value)
    if as_float == int(as_float) and abs(as_float) < 1e6:
        return f"{int(as_float):d}".replace("-", "−")
    return f"{as_float:.4g}".replace("-", "−")


def label_html(value: Value) -> str:
    """A value of a summary: text, a list of texts, or a table of facts."""
    if isinstance(value, Mapping):
        return facts_html(value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return number(f"{value}")
    if isinstance(value, list | tuple):
        if all(isinstance(item, int | float | str) and len(str(item)) < 25 for item in value):
            return Markup(", ").join(label_html(item) for item in value) or "none"
        return render("items", [label_html(item) for item in value])
    return "none" if value is None else str(value)


def facts_html(facts: Mapping[str, Value]) -> Markup:
    """Labels and values in two columns; nested mappings become tables within."""
    return render("facts", {str(key).replace("_", " "): label_html(value) for key, value in facts.items()})


def messages_html(kind: str, messages: Value) -> Markup:
    """Messages that must not be overlooked, each in a box of its own; ``kind`` is ``warning`` or ``notice``."""
    return render("messages", kind, [messages] if isinstance(messages, str) else texts(messages))


def summary_html(summary: Mapping[str, Value]) -> Markup:
    """The summary: messages of the keys ``warnings`` and ``notices`` (any case) in boxes, then the facts."""
    found = {key.lower(): value for key, value in summary.items()}
    boxes = [messages_html(kind, found.get(f"{kind}s")) for kind in ("warning", "notice")]
    return joined(boxes) + facts_html({k: v for k, v in summary.items() if k.lower() not in ("warnings", "notices")})


def card_html(card: Mapping[str, Value]) -> Markup:
    """What the held-out slices say, what training began with, and the model card, folded."""
    numbers = " ".join(filter(None, (held_out_text(card), started_text(card))))
    text = Markup("<p>{}</p>").format(numbers) if numbers else Markup("")
    return text + folded("Model card", render("bounded", "Model card", facts_html(card)))


def ordered_series(rows: Iterable[Row], wanted: Sequence[str]) -> list[str]:
    """Series of a table in the wanted order, then the others as they come."""
    known = list(dict.fromkeys(row["series"] for row in rows))
    return [name for name in wanted if name in known] + [name for name in known if name not in wanted]


def pivot_html(rows: Sequence[Row], measures: Sequence[str], series: Sequence[str], caption: str) -> Markup:
    """A table of the rows of one contrast: a line each series and smoothing, a column each measure that occurs."""
    values = {(r["series"], r["fwhm_mm"], r["measure"]): r["value"] for r in rows}
    shown = [m for m in measures if any(key[2] == m and value != MISSING for key, value in values.items())]
    lines = [
        [series_text(name), number(fwhm), *(number(values.get((name, fwhm, m))) for m in shown)]
        for fwhm in sorted({r["fwhm_mm"] for r in rows}, key=float)
        for name in series
        if any((name, fwhm, m) in values for m in shown)
    ]
    return table(caption, ["series", ("smoothing", "mm"), *((_heading(m), _unit(m)) for m in shown)], lines)


def _heading(measure: str) -> str:
    """A measure as a column's head: its label, else words, abbreviations in capitals; a region's with its threshold."""
    threshold, _, rest = measure.partition("_")
    if threshold in _THRESHOLDS and rest in REGION_METRICS:
        return f"{_heading(rest)}, {_THRESHOLDS[threshold]}"
    declared = METRICS.get(measure) or REGION_METRICS.get(measure)
    words = " ".join(word.upper() if word in _CAPITALS else word for word in measure.split("_"))
    return declared.label or words if declared else words


def _unit(measure: str) -> str:
    unit = metric_of(measure).unit
    return "" if unit == "1" else unit.replace("mm^3", "mm³")


def difference_text(rows: Sequence[Row]) -> str:
    """What the image table says of each other series against `bspline`, without judging it; empty if nothing."""
    values = {(r["series"], r["contrast"], r["measure"]): r["value"] for r in rows if r["value"] != MISSING}
    lines = []
    for series in dict.fromkeys(r["series"] for r in rows):
        changes = []
        for (name, contrast, measure), value in values.items():
            other = values.get(("bspline", contrast, measure))
            if name != series or series in ("bspline", "raw") or other is None:
                continue
            if any(key in measure.lower() for key in ("psnr", "ssim")):
                unit = _unit(measure)
                change = f"{float(value) - float(other):+.3g}".replace("-", "−")
                changes.append(f"{_heading(measure)} {change} {unit}".strip())
        if changes:
            lines.append(f"{series} − bspline: {', '.join(changes)}")
    return "; ".join(lines)


def _glossary(measures: Iterable[str]) -> Markup:
    units = {measure: f" ({_unit(measure)})" if _unit(measure) else "" for measure in measures}
    entries = [(_heading(measure), metric_of(measure).description + unit) for measure, unit in units.items()]
    return folded("What the columns mean", render("glossary", entries)) if entries else Markup("")


def metrics_html(
    image: Sequence[Row], activation: Sequence[Row], names: Sequence[str] = (), mapped: str = "Activation",
    percent: float | None = None,
) -> Markup:  # fmt: skip
    """Both long tables (either may be empty): image measures, then measures of the maps (`mapped`) by contrast.

    Effects stand in signal units and, where it is known how many `percent` of the brain's mean signal one of them is,
    in percent.

    Nothing is highlighted: which difference counts is a matter of its interval, not of the larger value.
    """
    tables: list[tuple[str, Markup]] = []
    used: list[str] = []
    for contrast, group in _by_contrast(image):
        found = tuple(dict.fromkeys(row["measure"] for row in group))
        title = "Image measures" + (f", {contrast}" if contrast != MISSING else "")
        tables.append((title, pivot_html(group, found, ordered_series(group, names), title)))
        used += found
    activation = [_in_percent(row, percent) for row in activation]
    # the overlap of two conditions is the paper's main result: the first pair comes before single contrasts
    for contrast, group in sorted(_by_contrast(activation), key=lambda each: "+" not in each[0]):
        if contrast == MISSING:
            if slow := [row for row in group if row["measure"] in SLOW]:
                title = "Amplitude of slow fluctuations"
                tables.append((title, pivot_html(slow, SLOW, ordered_series(slow, names), title)))
                used += SLOW
            continue
        measures = PAIRED if "+" in contrast else SINGLE
        title = contrast.replace("+", " against ") if "+" in contrast else contrast
        title = f"{mapped} measures, {title}"
        tables.append((title, pivot_html(group, measures, ordered_series(group, names), title)))
        used += [m for m in measures if any(row["measure"] == m for row in group)]
    if not any(made for _, made in tables):
        return Markup("<p class='notice'>No measures were written.</p>")
    difference = difference_text(image)
    text = Markup("<p>Differences of images: {}.</p>").format(difference) if difference else ""
    return joined([picked(tables), text, _glossary(dict.fromkeys(used))])


def _in_percent(row: Row, percent: float | None) -> Row:
    """An effect with its share of the brain's mean signal, one number for all series of the run, beside it."""
    if percent is None or row["measure"] != "peak_effect" or row["value"] in (MISSING, ""):
        return row
    value = float(row["value"])
    return {**row, "value": f"{number(row['value'])} ({number(f'{value * percent:.3g}')} %)"}


def _by_contrast(rows: Sequence[Row]) -> list[tuple[str, list[Row]]]:
    order = list(dict.fromkeys(row["contrast"] for row in rows))
    kept = sorted(rows, key=lambda row: order.index(row["contrast"]))
    return [(contrast, list(group)) for contrast, group in groupby(kept, key=lambda row: row["contrast"])]


REGISTRATION_FACTS = {
    "brain_volume_ml": "Brain of the T1w image (ml)",
    "brain_determinant": "Template to T1w: volume of the registered template brain relative to the original",
    "brain_template_dice": "Template to T1w: Dice of the brain mask and the template's brain",
    "bold_t1w_origin": "BOLD to T1w: taken from",
    "bold_t1w_displacement_rms_mm": "BOLD to T1w: shift from header alignment (RMS over the brain, mm)",
    "bold_t1w_nmi": "BOLD to T1w: normalized mutual information",
    "bold_t1w_mask_dice": "BOLD to T1w: Dice of the two brain masks",
    "bold_pair_displacement_rms_mm": "T2* to BOLD: shift from header alignment (RMS over the brain, mm)",
    "bold_pair_nmi": "T2* to BOLD: normalized mutual information",
    "mask_source": "Brain mask of the BOLD",
    "roi_fraction_in_fov": "Share of the region of interest inside the field of view",
    "roi_voxels": "Voxels of the region of interest on the acquired grid",
}
PARTIAL_FOV = 0.9


def registration_warnings(facts: Mapping[str, object]) -> list[str]:
    """What seems wrong with a run's registrations."""
    told = {
        "bold_t1w_kept": "BOLD and T1w keep the alignment of their headers: registration did not improve it.",
        "bold_t1w_poor": "The registration of BOLD and T1w looks poor; atlas regions may lie in the wrong place.",
        "bold_pair_poor": "The registration of T2* and BOLD looks poor; inject and ratio depend on it.",
        "roi_is_brain": "The region of interest lies outside the field of view; the whole brain is used instead.",
    }
    warnings = [text for key, text in told.items() if facts.get(key)]
    if facts.get("brain_doubts"):
        why = "; ".join(texts(facts["brain_doubts"]))
        told_brain = f"The brain of the T1w image looks wrong: {why}. Do not trust its tissues, atlas and region of "
        told_brain += "interest; aCompCor and tissue signals were left out of the confounds."
        warnings.insert(0, told_brain)
    if not facts.get("roi_is_brain") and real(facts.get("roi_fraction_in_fov"), 1.0) < PARTIAL_FOV:
        share = f"{100 * real(facts['roi_fraction_in_fov']):.0f} %"
        warnings.append(f"Only {share} of the region of interest lies inside the field of view.")
    return warnings


def registration_html(facts: Mapping[str, object]) -> Markup:
    """Facts of a run's registrations in words, warnings first; unknown keys are left out."""
    shown = {label: facts[key] for key, label in REGISTRATION_FACTS.items() if key in facts}
    return messages_html("warning", registration_warnings(facts)) + facts_html(shown)


PAIR_FACTS = {
    "truncated": "Low-resolution image made from the high-resolution one (k-space truncation)",
    "offset_mm": "Translation (mm)",
    "offset_deg": "Rotation (°)",
    "displacement_rms_mm": "Shift from header alignment (RMS over the brain, mm)",
    "displacement_max_mm": "Shift from header alignment (largest, mm)",
    "tolerance_mm": "Shift up to which the high-resolution image is not moved (mm)",
    "same_grid": "High-resolution grid divides the low-resolution voxels evenly",
    "resampled": "High-resolution image resampled",
    "start": "Registration started from",
    "nmi": "Normalized mutual information",
}


def pair_html(facts: Mapping[str, object]) -> Markup:
    """Facts of a pair's registration; unknown keys are left out."""
    return facts_html({label: facts[key] for key, label in PAIR_FACTS.items() if key in facts})


CALIBRATION_FACTS = {
    "n_volumes": "Volumes",
    "n_dummy": "Volumes before the steady state",
    "censored": "Volumes excluded (counted from 0)",
    "n_used": "Volumes used",
    "dof": "Degrees of freedom of the variance",
    "n_drift": "Drift regressors",
    "n_motion": "Head motion regressors",
    "n_task": "Task regressors",
    "task": "Events",
    "voxel_mm": "Voxel (mm)",
    "fd_mean_mm": "Framewise displacement, mean (mm)",
    "fd_max_mm": "Framewise displacement, largest (mm)",
    "motion_max_mm": "Largest displacement from the reference (mm)",
    "far_share": "Share of volumes more than 1 mm from the reference (excluded)",
    "noise_sd": "Thermal noise (standard deviation, signal units)",
    "noise_share": "Share of the variance that is noise",
    "sd_median": "Median of the map in the brain (signal units)",
    "displacement_rms_mm": "Shift from header alignment with the run (RMS over the brain, mm)",
    "overlap": "Share of the run's brain that the calibration covers",
    "dice": "Dice of the two brain masks",
    "correlation": "Correlation of the two references after registration",
    "nmi": "Normalized mutual information",
    "edges_apart_mm": "Distance of the edges of the two references, median (mm)",
    "edges_apart_p90_mm": "90th percentile of that distance (mm)",
}
FAIR_OVERLAP = 0.9
MOSTLY_NOISE = 0.9
_HALF = 0.5  # of the run's voxel: edges farther apart are not in register, or distorted otherwise


def calibration_html(facts: Mapping[str, object], voxel_mm: float) -> Markup:
    """Facts of a calibration, warnings first; unknown keys are left out. `voxel_mm` is the run's in-plane voxel."""
    shown = {label: facts[key] for key, label in CALIBRATION_FACTS.items() if facts.get(key) is not None}
    return messages_html("warning", calibration_warnings(facts, voxel_mm)) + facts_html(shown)


def calibration_warnings(facts: Mapping[str, object], voxel_mm: float) -> list[str]:
    """What the reader has to know before the map is believed."""
    if not facts["usable"]:
        return [
            f"The calibration is left out: {facts['reason']}. The run's own variance is used instead, as without one."
        ]
    found = []
    overlap, apart = real(facts.get("overlap"), 1.0), real(facts.get("edges_apart_mm"), 0.0)
    noise = real(facts.get("noise_share"), 0.0)
    if overlap < FAIR_OVERLAP:
        found.append(f"Only {overlap:.0%} of the run's brain lies in the calibration.")
    if apart > _HALF * voxel_mm:
        found.append(
            f"Edges of the calibration and of the run lie {apart:.1f} mm apart (median), more than half a voxel of the "
            "run: their distortion differs, or the registration failed."
        )
    if noise > MOSTLY_NOISE:
        found.append(
            f"{noise:.0%} of the variance is thermal noise; a longer calibration, or larger voxels, would help."
        )
    return found


LIKENESS = ("psnr", "ssim", "mae", "nmse")
QUALITY = ("cjv", "efc", "fwhm", "wm2max", "ratio_gm_over_wm_mean", "ratio_csf_over_gm_mean")
_CAPTIONS = {
    "likeness": "against the measured scan, in the brain of slices that no model was trained on; data range 1",
    "quality": "quality of the whole brain; tissues as found in the measured scans",
    "classes": "volumes (ml), and overlap with the segmentation of the measured scans",
}


def structural_html(rows: Sequence[Row]) -> Markup:
    """All tables of rows of `long_tables.STRUCTURAL`: likeness and quality of each contrast, tissues and lesions."""
    parts = []
    for contrast in dict.fromkeys(row["contrast"] for row in rows):
        own = [row for row in rows if row["contrast"] == contrast]
        there = list(dict.fromkeys(row["measure"] for row in own))
        groups = {
            "likeness": [m for m in LIKENESS if m in there],
            "quality": [m for m in QUALITY if m in there],
            "classes": [m for m in there if m.startswith(("volume_", "dice_", "tpf_", "ppv_"))],
        }
        title = "All contrasts together" if contrast == "all" else contrast
        parts += [_structural_table(own, names, f"{title}: {_CAPTIONS[kind]}") for kind, names in groups.items()]
    return joined(parts)


def _structural_table(rows: Sequence[Row], measures: Sequence[str], caption: str) -> Markup:
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
