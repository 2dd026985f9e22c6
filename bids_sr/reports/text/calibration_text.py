"""Facts of a calibration run, and warnings, as HTML."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from bids_sr.reports.tables.html_tables import facts_html, messages_html

FACTS = {
    "n_volumes": "Volumes",
    "n_dummy": "Volumes before the steady state",
    "censored": "Volumes left out (counted from 0)",
    "n_used": "Volumes used",
    "dof": "Degrees of freedom of the variance",
    "n_drift": "Regressors of drift",
    "n_motion": "Regressors of head motion",
    "n_task": "Regressors of the task",
    "task": "Events",
    "voxel_mm": "Voxel (mm)",
    "fd_mean_mm": "Framewise displacement, mean (mm)",
    "fd_max_mm": "Framewise displacement, largest (mm)",
    "motion_max_mm": "Farthest from the reference (mm)",
    "far_share": "Share of the volumes farther than 1 mm from the reference, which are left out",
    "noise_sd": "Thermal noise (standard deviation, signal units)",
    "noise_share": "Share of the variance that is noise",
    "sd_median": "Median of the map in the brain (signal units)",
    "displacement_rms_mm": "Displacement from the headers to the run, rms over the brain (mm)",
    "overlap": "Share of the run's brain that lies in the calibration's",
    "dice": "Dice of the two brain masks",
    "correlation": "Correlation of the two references in register",
    "nmi": "Normalized mutual information",
    "edges_apart_mm": "Distance of the edges of the two references, median (mm)",
    "edges_apart_p90_mm": "The same distance, which a tenth of the edges exceeds (mm)",
}
FAIR_OVERLAP = 0.9
MOSTLY_NOISE = 0.9
_HALF = 0.5  # of the run's voxel: edges farther apart are not in register, or distorted otherwise


def calibration_html(facts: Mapping[str, Any], voxel_mm: float) -> Markup:
    """Facts of a calibration as its interfaces write them, warnings first; unknown keys are left out.

    `voxel_mm` is the in-plane voxel of the run.
    """
    shown = {label: facts[key] for key, label in FACTS.items() if facts.get(key) is not None}
    return messages_html("warning", warnings(facts, voxel_mm)) + facts_html(shown)


def warnings(facts: Mapping[str, Any], voxel_mm: float) -> list[str]:
    """What the reader has to know before the map is believed."""
    if not facts["usable"]:
        return [
            f"The calibration is left out: {facts['reason']}. The run's own variance is used instead, as without one."
        ]
    found = []
    if facts.get("overlap", 1.0) < FAIR_OVERLAP:
        found.append(f"Only {facts['overlap']:.0%} of the run's brain lie in the calibration.")
    apart = facts.get("edges_apart_mm")
    if apart is not None and apart > _HALF * voxel_mm:
        found.append(
            f"Edges of the calibration and of the run lie {apart:.1f} mm apart (median), more than half a voxel of the "
            "run: their distortion differs, or the registration failed."
        )
    if facts.get("noise_share", 0.0) > MOSTLY_NOISE:
        found.append(
            f"{facts['noise_share']:.0%} of the variance is thermal noise; a longer calibration, or larger voxels, "
            "would tell more."
        )
    return found
