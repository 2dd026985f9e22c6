"""Test the calibration run in the report: figures and warnings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from figure_helpers import kept

from bids_sr.pipeline.artifacts import Volume
from bids_sr.report.registration_facts import _calibration_warnings, calibration_html
from bids_sr.steps.figures.registration import draw_calibration

GOOD = {
    "usable": True,
    "reason": "",
    "n_volumes": 20,
    "n_used": 18,
    "censored": [7, 12],
    "dof": 12,
    "overlap": 0.97,
    "edges_apart_mm": 0.6,
    "noise_share": 0.4,
}


def test_a_good_calibration_run_has_values_and_no_warning() -> None:
    page = calibration_html(GOOD, 6.0)
    assert "7, 12" in page
    assert "Degrees of freedom" in page
    assert "warning" not in page


@pytest.mark.parametrize(
    ("fact", "words"),
    [
        (
            {"usable": False, "reason": "the head moved by 1.4 mm"},
            "not used (the head moved by 1.4 mm). The variance of the run",
        ),
        ({"overlap": 0.6}, "only 60 % of the brain in the run"),
        ({"edges_apart_mm": 3.2}, "are 3.2 mm apart"),
        ({"noise_share": 0.95}, "95 % of the variance in the calibration run is thermal noise"),
    ],
)
def test_each_calibration_fault_is_a_warning(fact: dict[str, Any], words: str) -> None:
    (warning,) = _calibration_warnings({**GOOD, **fact}, 6.0)
    assert words in warning
    assert calibration_html({**GOOD, **fact}, 6.0).count("class='warning'") == 1


@pytest.mark.parametrize("usable", [True, False])
def test_calibration_figures_are_declared_in_the_report(tmp_path: Path, usable: bool) -> None:
    rng = np.random.default_rng(0)
    x, y, _ = np.meshgrid(*(np.linspace(-1, 1, n) for n in (24, 24, 6)), indexing="ij")
    high_res = np.where(x**2 + y**2 < 0.8, 500 + 100 * rng.random((24, 24, 6)), 0).astype(
        np.float32
    )
    low_res = high_res.reshape(12, 2, 12, 2, 6).mean(axis=(1, 3))
    low_affine = np.diag([6.0, 6, 4, 1])
    low_affine[:2, 3] = 1.5
    facts = {**GOOD, "usable": usable, "reason": "" if usable else "why"}
    high_affine = np.diag([3.0, 3, 4, 1])
    figures = draw_calibration(
        Volume(low_res, low_affine),
        Volume(low_res > 250, low_affine),
        Volume(high_res, high_affine),
        np.eye(4)[None],
        facts,
        {"sbl": {"share": 0.2, "calibration": "the calibration run was used with weight 0.4"}},
    )
    assert "the calibration run was used with weight 0.4" in str(figures[-1].content)
    names = ["calibrationreg.svg", "calibrationfacts.html"]
    assert kept(draw_calibration, figures, tmp_path) == [("registration", name) for name in names]
