"""HTML of the report's sections.

The sections are summary, facts, model card, metrics, registration, calibration and structural
scans.

Rows of the evaluation table shown in a figure or table, their order, and their labels.

HTML of the table of clusters.

Held-out scores, and what training began with, from a model card.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from bids_sr import series as registry
from bids_sr.boilerplate import data_of
from bids_sr.io.atomic_files import listed, mapped, real, texts
from bids_sr.io.grids import TURNED_DEG
from bids_sr.metrics import MISSING, MetricRow, interval, number, short
from bids_sr.report.sections import Head, picked, render, table
from bids_sr.series import ACQUIRED, BASELINES, CONTROLS, Kind

if TYPE_CHECKING:
    import pandas as pd


NETWORK = "network"


def scores_of(held_out: Mapping[str, object]) -> dict[str, Mapping[str, float]]:
    """Return scores of the network and of interpolations by name, from a card's ``held_out``."""
    return {
        name: each
        for name, each in held_out.items()
        if isinstance(each, Mapping) and "psnr" in each
    }


def held_out_text(card: Mapping[str, object]) -> str:
    """What the held-out slices say in numbers, without a verdict; empty if the card has none.

    Of a training that held nothing out the slices trained on are told, for what they are.

    Sentence with PSNR (dB) and SSIM, or an empty text.
    """
    seen = mapped(card.get("on_trained_slices"))
    held_out = seen or mapped(card.get("held_out"))
    scores = scores_of(held_out)
    network_score = scores.pop(NETWORK, None)
    if network_score is None:
        return ""
    method = card.get("method", NETWORK)
    parts = [
        f"{method} {number(network_score['psnr'], '.2f')} dB"
        + (f", SSIM {number(network_score['ssim'], '.3f')}" if "ssim" in network_score else "")
    ]
    for name, each in scores.items():
        change = f"{method} − {name} {number(network_score['psnr'] - each['psnr'], '+.2f')} dB"
        if "ssim" in network_score and "ssim" in each:
            change += f", SSIM {number(network_score['ssim'] - each['ssim'], '+.3f')}"
        parts.append(change)
    spans = (listed(mapped(part).get("slices")) for part in listed(held_out.get("parts")))
    # models of version 0.2 and before tell the slices of a pair themselves
    slices = len(listed(held_out.get("slices"))) or sum(
        int(real(last) - real(first)) for first, last in spans
    )
    if seen:
        return (
            f"No slices were held out: the final weights were trained on all {slices} slices of"
            " the pair. The following values for these slices show how closely the slices were"
            " fitted, but not the accuracy on other slices: " + "; ".join(parts) + "."
        )
    return f"On {slices or 'the'} held-out slices of the pair: " + "; ".join(parts) + "."


def started_text(card: Mapping[str, object]) -> str:
    """With which weights training began, where it began with any; empty otherwise.

    Sentence with name and checksum, or an empty text.
    """
    start = card.get("started_from")
    if not isinstance(start, Mapping):
        return ""
    learned = f", trained with {start['trained_with']}" if start.get("trained_with") else ""
    checksum = str(start.get("weights_sha256", ""))[:12]
    return (
        "Training was initialized with the weights of"
        f" {start.get('name', start.get('method', ''))} ({checksum}…{learned})."
    )


_Value = object


def _label_html(value: _Value) -> str:
    """A value of a summary: text, a list of texts, or a table of facts."""
    if isinstance(value, Mapping):
        return facts_html(value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return short(value)
    if isinstance(value, list | tuple):
        if all(isinstance(item, int | float | str) and len(str(item)) < 25 for item in value):
            return Markup(", ").join(_label_html(item) for item in value) or "none"
        return render("items", [_label_html(item) for item in value])
    return "none" if value is None else str(value)


def facts_html(facts: Mapping[str, _Value]) -> Markup:
    """Return labels and values in two columns; nested mappings become tables within.

    `facts`: values by key; underscores in keys become spaces.
    """
    return render(
        "facts", {str(key).replace("_", " "): _label_html(value) for key, value in facts.items()}
    )


def messages_html(kind: str, messages: Iterable[str]) -> Markup:
    """Render prominent messages, each in its own box; ``kind`` is ``warning`` or ``note``.

    Returns markup of the boxes; empty for none.
    """
    return render("messages", kind, list(messages))


def card_html(card: Mapping[str, _Value]) -> Markup:
    """What the held-out slices say, and what training began with.

    Paragraph, or empty markup where the card tells neither.
    """
    numbers = " ".join(filter(None, (held_out_text(card), started_text(card))))
    return Markup("<p>{}</p>").format(numbers) if numbers else Markup("")


def labeled_html(facts: Mapping[str, _Value], of: str) -> Markup:
    """Return facts that have a label, in the order of the labels; others are left out."""
    labels = data_of("facts.json")[of]
    return facts_html({label: facts[key] for key, label in labels.items() if key in facts})


def registration_warnings(facts: Mapping[str, object]) -> list[str]:
    """What seems wrong with a run's registrations.

    Warnings, that of the T1w brain first; empty for none.
    """
    texts_of = {
        "bold_t1w_kept": (
            "The alignment of the BOLD and T1w images was taken from their headers, because"
            " registration did not improve it."
        ),
        "bold_t1w_poor": (
            "The registration of the BOLD and T1w images appears to be poor, so atlas regions may"
            " be misplaced."
        ),
        "bold_pair_poor": (
            "The registration of the T2* and BOLD images appears to be poor. The baselines inject"
            " and ratio depend on this registration."
        ),
        "roi_is_brain": (
            "The region of interest is outside the field of view, so the whole brain is used"
            " instead."
        ),
    }
    warnings = [text for key, text in texts_of.items() if facts.get(key)]
    for key, images in (("bold_t1w_offset_deg", "BOLD and T1w"), ("brain_turned_deg", "T1w")):
        angle = facts.get(key)
        if isinstance(angle, int | float) and angle > TURNED_DEG:
            warnings.insert(
                0,
                f"The orientation in the headers of {images} appears to be wrong, because"
                f" registration rotated the head by {angle:.0f} degrees. Check the figures below."
                " Also check left and right, which registration cannot distinguish. Then correct"
                " the headers (qform, sform).",
            )
    if facts.get("brain_doubts"):
        why = "; ".join(texts(facts["brain_doubts"]))
        told_brain = (
            f"The T1w brain mask appears to be wrong ({why}). Tissue maps, atlas labels and the"
            " region of interest may therefore be wrong, and aCompCor components and tissue"
            " signals were omitted from the confounds."
        )
        warnings.insert(0, told_brain)
    return warnings


def registration_html(facts: Mapping[str, object]) -> Markup:
    """Return facts of a run's registrations in words, warnings first, unknown keys left out."""
    warnings = messages_html("warning", registration_warnings(facts))
    return warnings + labeled_html(facts, "registration")


_FAIR_OVERLAP = 0.9
_MOSTLY_NOISE = 0.9
_HALF = 0.5  # of the run's voxel: edges farther apart are not in register, or distorted otherwise


def calibration_html(facts: Mapping[str, object], voxel_mm: float) -> Markup:
    """Render the facts of a calibration, warnings first.

    Unknown keys are left out. `voxel_mm` is the run's in-plane voxel size.
    """
    warnings = messages_html("warning", _calibration_warnings(facts, voxel_mm))
    known = {key: value for key, value in facts.items() if value is not None}
    return warnings + labeled_html(known, "calibration")


def _calibration_warnings(facts: Mapping[str, object], voxel_mm: float) -> list[str]:
    """What the reader has to know before the calibration is believed."""
    if not facts["usable"]:
        return [
            f"The calibration run is not used ({facts['reason']}). The variance of the run itself"
            " is used instead."
        ]
    warnings = []
    overlap, apart = real(facts.get("overlap"), 1.0), real(facts.get("edges_apart_mm"), 0.0)
    noise = real(facts.get("noise_share"), 0.0)
    if overlap < _FAIR_OVERLAP:
        warnings.append(
            f"The calibration run covers only {number(overlap, '.0%')} of the brain in the run."
        )
    if apart > _HALF * voxel_mm:
        warnings.append(
            f"The edges in the calibration run and in the run are {apart:.1f} mm apart (median),"
            " which is more than half a voxel. Either the two runs differ in susceptibility"
            " distortion, or their registration failed."
        )
    if noise > _MOSTLY_NOISE:
        warnings.append(
            f"{number(noise, '.0%')} of the variance in the calibration run is thermal noise. A"
            " longer calibration run or larger voxels would reduce this fraction."
        )
    return warnings


_ORDER: tuple[Kind, ...] = (
    "run",
    "baseline",
    "control",
    "method",
    "placebo",
    "member",
    "measured",
)
KIND_TEXT: Mapping[Kind, str] = {
    "baseline": "interpolation and other baselines",
    "control": "denoising and smoothing controls",
    "method": "methods",
    "measured": "measured at high resolution",
    "placebo": "negative controls",
    "member": "ensemble members",
    "run": "the run",
}
_ACQUIRED_TEXT: Mapping[str, str] = {
    registry.RAW: "acquired",
    registry.RAW_SPLINE: "acquired (interpolated maps)",
}


def kind_of(series: str) -> Kind:
    """Return the kind of a series; the acquired one counts among the baselines.

    The kinds are those of tables and figures.
    """
    kind = registry.kind_of(series)
    return "baseline" if kind == "acquired" else kind


def series_text(series: str) -> str:
    """A series as a figure or a table of the report names it; files keep the name itself."""
    found = registry.series(series)
    if found.variant == registry.SAME:
        return f"acquired, smoothed to the resolution of {found.method}"
    return _ACQUIRED_TEXT.get(series) or CONTROLS.get(series, series)


def contrasts_of(rows: Iterable[MetricRow]) -> list[str]:
    """Return contrasts as they come, that of all conditions first."""
    found = list(dict.fromkeys(row.contrast for row in rows))
    return sorted(found, key=lambda name: name != "all")


def series_of(
    rows: Iterable[MetricRow], names: Sequence[str] = (), kinds: Iterable[Kind] = ()
) -> list[str]:
    """Return the series of the rows by kind, in the wanted order within each kind.

    The kinds are baselines, controls, methods, ..., measured.

    Raw comes before all, those not wanted follow as they come. `kinds` are those to keep; default:
    all but members of ensembles and placebos.
    """
    kept = set(kinds) or {"baseline", "control", "method", "measured", "run"}
    ordered = [name for name in dict.fromkeys(row.series for row in rows) if kind_of(name) in kept]
    place = {name: k for k, name in enumerate(names)}
    known = {name: k for k, name in enumerate((*ACQUIRED, *BASELINES, *CONTROLS))}
    return sorted(
        ordered,
        key=lambda name: (
            _ORDER.index(kind_of(name)),
            not name.startswith("raw"),
            place.get(name, len(place)),
            known.get(name, 99),
        ),
    )


def placebo_gains(rows: Iterable[MetricRow]) -> list[MetricRow]:
    """Return the measured detail each method explains beyond its placebos.

    The denoised B-spline is listed apart.
    """
    return [
        row
        for row in rows
        if (row.statistic, row.reference) == ("ev", "measured")
        and kind_of(row.series) == "method"
        and row.is_difference
        and kind_of(row.minus) == "placebo"
    ]


def shown_series(names: Sequence[str], scores: Mapping[str, float]) -> list[str]:
    """Return the series to show: plain interpolation, two best methods, and measured series.

    Without scores, the last methods are the best.

    `scores`: row that ranks each method; empty keeps the order of the names.
    """
    methods = [name for name in names if kind_of(name) == "method"]
    known = {name: value for name, value in scores.items() if math.isfinite(value)}
    if scores:
        methods.sort(key=lambda name: known.get(name, -math.inf))
    wanted = ("bspline", *methods[-2:], "measured")
    return [name for name in wanted if name in names]


_LISTED = 5
"""Clusters of each contrast but the first that the page has; the file has them all."""
_NUMBERS = (
    *("fwhm_mm", "x", "y", "z", "scanner_x", "scanner_y", "scanner_z", "above", "label_mm"),
    *("peak", "volume_mm3", "effect", "lower", "upper", "wrongsign", "expected_wrong"),
)
_NBSP = "\N{NO-BREAK SPACE}"
_STATISTIC_HEADS: Mapping[str, Head] = {
    "tTotal": ("t", "including the reconstruction error"),
    "cc": "CC",
}
_THRESHOLDS: Mapping[str, str] = {
    "Fdr": "a false discovery rate (FDR) of .05 over the brain",
    "Reliable": "a false discovery rate (FDR) of .05 over the brain, with the reconstruction"
    " error included",
    "Quarter": "a CC in the upper quarter of its range within the region of interest",
}


def clusters_html(clusters: pd.DataFrame, series: str, *, first: str = "") -> Markup:
    """Return the largest clusters of a series, one table per contrast, of which one is shown.

    `first`: contrast that is shown first, with further peaks of its clusters.
    """
    if clusters.empty:
        return Markup(
            "<p class='note'>There are no clusters, because no voxel of any series exceeds the"
            " threshold.</p>"
        )
    # as made, a table holds text; as read from its file, numbers
    cells = clusters.reindex(columns=list(dict.fromkeys([*clusters.columns, *_NUMBERS])))
    cells = cells.replace(MISSING, math.nan).astype(dict.fromkeys(_NUMBERS, float))
    widest = cells["fwhm_mm"].max()
    shown = cells[(cells["series"] == series) & (cells["fwhm_mm"] == widest)]
    tables: list[tuple[str, Markup]] = []
    for contrast in sorted(clusters["contrast"].unique(), key=lambda name: name != first):
        rows = list(shown[shown["contrast"] == contrast].itertuples())
        if tables:
            rows = [row for row in rows if str(row.cluster).isdigit()][:_LISTED]
        if rows:
            caption = (
                f"Largest clusters in the {series} map of the contrast {contrast}."
                f" {_made_text(rows[0])}"
            )
            space = "MNI, mm" if rows[0].space == "MNI" else "scanner, mm"
            statistic = rows[0].statistic
            heads: list[Head] = [
                "cluster",
                ("peak at x, y, z", space),
                _STATISTIC_HEADS.get(statistic, statistic),
                ("effect", "95 % interval"),
                ("wrong sign", "probability at the peak"),
                "label",
                ("volume, mm³", "cluster threshold"),
                ("expected wrong sign", "fraction of the cluster"),
                "atlas labels of the cluster",
            ]
            title = f"{series}, contrast {contrast}"
            tables.append((title, table(caption, heads, map(_line, rows), texts={5, 8})))
    return picked(tables) or Markup(
        "<p class='note'>The maps of this series have no clusters.</p>"
    )


def _made_text(row: Any) -> str:
    """Return smoothing and cluster thresholds of a map."""
    smoothing = (
        f"smoothed with a {row.fwhm_mm:g} mm FWHM kernel" if row.fwhm_mm else "not smoothed"
    )
    label = str(getattr(row, "threshold", ""))
    threshold = _THRESHOLDS.get(
        label, f"z ≥ {label[1:2]}.{label[2:]}" if label[:1] == "Z" else label
    )
    return (
        f"The map was {smoothing}. The threshold is {threshold}. Clusters larger than 10 cm³ were"
        " split by a higher threshold."
    )


def _line(row: Any) -> list[str]:
    place = ", ".join(number(mm, ".0f") for mm in (row.x, row.y, row.z))
    scanner = ",".join(f"{mm:.1f}" for mm in (row.scanner_x, row.scanner_y, row.scanner_z))
    smoothing = f"{row.fwhm_mm:g} mm" if row.fwhm_mm else "none"
    peak = render("peak", place, scanner, row.contrast, row.series, smoothing)
    label = row.label if isinstance(row.label, str) else MISSING
    if label != MISSING and row.label_mm > 0:
        label = f"{label}, {row.label_mm:.0f} mm away".replace(" ", _NBSP)
    ends = interval(row.lower, row.upper, ".3g")
    line = [
        row.cluster,
        peak,
        short(row.peak),
        render("value", short(row.effect), ends),
        _probability(row.wrongsign),
        label,
    ]
    if not str(row.cluster).isdigit():
        return [*line, "", "", ""]
    labels = row.labels if isinstance(row.labels, str) else MISSING
    threshold = "" if math.isnan(row.above) else f"{_sign_of(row.statistic)} ≥ {row.above:.3g}"
    volume = render("value", short(row.volume_mm3), threshold)
    return [*line, volume, _probability(row.expected_wrong), labels.replace(" %", f"{_NBSP}%")]


def _sign_of(statistic: str) -> str:
    """Return the symbol of a statistic: t, z or CC."""
    return "CC" if statistic == "cc" else statistic[:1]


def _probability(value: float) -> str:
    """Return a probability or share, small values as ``< .001``."""
    return "< .001" if value < 1e-3 else short(value)
