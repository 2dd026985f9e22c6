"""Text on registrations and the calibration of a run; warnings come first."""

from __future__ import annotations

from collections.abc import Mapping

from markupsafe import Markup

from bids_sr.engine.number_text import number
from bids_sr.io.grids import TURNED_DEG
from bids_sr.io.json_values import as_number, as_texts
from bids_sr.report.facts import messages_html, render_labeled

_MIN_OVERLAP = 0.9  # fraction of the run's brain in the calibration run
_MAX_NOISE_FRACTION = 0.9  # fraction of thermal noise in the variance of the calibration run
# fraction of the run's voxel size; if edges of both images are farther apart, misregistration or
# distortion is likely
_MAX_EDGE_DISTANCE_VOXELS = 0.5
_WARNINGS = {  # by fact
    "bold_t1w_kept": (
        "The alignment of the BOLD and T1w images was taken from their headers, because"
        " registration did not improve it."
    ),
    "bold_t1w_poor": (
        "The registration of the BOLD and T1w images appears to be poor, so atlas regions may be"
        " misplaced."
    ),
    "bold_pair_poor": (
        "The registration of the T2* and BOLD images appears to be poor. The baselines inject and"
        " ratio depend on this registration."
    ),
    "roi_is_brain": (
        "No region of interest contains a voxel of the brain mask, so the whole brain is used"
        " instead."
    ),
}


def registration_html(facts: Mapping[str, object]) -> Markup:
    """Render the facts on a run's registrations, warnings first; unknown keys are skipped."""
    warnings = messages_html("warning", registration_warnings(facts))
    return warnings + render_labeled(facts, "registration")


def registration_warnings(facts: Mapping[str, object]) -> list[str]:
    """Return warnings about implausible registrations of a run, the T1w brain mask first."""
    warnings = []
    if reasons := "; ".join(as_texts(facts.get("brain_doubts", ()))):
        warnings.append(
            f"The T1w brain mask appears to be wrong ({reasons}). Tissue maps, atlas labels and"
            " the region of interest may therefore be wrong, and aCompCor components and tissue"
            " signals were omitted from the confounds."
        )
    for key, images in (("brain_turned_deg", "T1w"), ("bold_t1w_offset_deg", "BOLD and T1w")):
        if (angle := as_number(facts.get(key), 0.0)) > TURNED_DEG:
            warnings.append(
                f"The orientation in the headers of {images} appears to be wrong, because"
                f" registration rotated the head by {angle:.0f} degrees. Check the figures below."
                " Also check left and right, which registration cannot distinguish. Then correct"
                " the headers (qform, sform)."
            )
    warnings += [
        f"{region}: the region contains no voxel of the brain mask, so it is not measured."
        for region in as_texts(facts.get("rois_outside", ()))
    ]
    return warnings + [warning for key, warning in _WARNINGS.items() if facts.get(key)]


def calibration_html(facts: Mapping[str, object], voxel_mm: float) -> Markup:
    """Render the facts of a calibration run, warnings first.

    Unknown keys are skipped. `voxel_mm` is the in-plane voxel size of the run (mm).
    """
    warnings = messages_html("warning", _calibration_warnings(facts, voxel_mm))
    known_facts = {key: value for key, value in facts.items() if value is not None}
    return warnings + render_labeled(known_facts, "calibration")


def _calibration_warnings(facts: Mapping[str, object], voxel_mm: float) -> list[str]:
    """Return warnings about the use and quality of a calibration run."""
    if not facts["usable"]:
        return [
            f"The calibration run is not used ({facts['reason']}). The variance of the run itself"
            " is used instead."
        ]
    warnings = []
    overlap = as_number(facts.get("overlap"), 1.0)
    edge_distance_mm = as_number(facts.get("edges_apart_mm"), 0.0)
    noise_fraction = as_number(facts.get("noise_share"), 0.0)
    if overlap < _MIN_OVERLAP:
        warnings.append(
            f"The calibration run covers only {number(overlap, '.0%')} of the brain in the run."
        )
    if edge_distance_mm > _MAX_EDGE_DISTANCE_VOXELS * voxel_mm:
        warnings.append(
            "The edges in the calibration run and in the run are"
            f" {edge_distance_mm:.1f} mm apart (median), which is more than half a voxel."
            " Either the two runs differ in susceptibility distortion, or their registration"
            " failed."
        )
    if noise_fraction > _MAX_NOISE_FRACTION:
        warnings.append(
            f"{number(noise_fraction, '.0%')} of the variance in the calibration run is thermal"
            " noise. A longer calibration run or larger voxels would reduce this fraction."
        )
    return warnings
