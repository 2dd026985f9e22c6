"""The calibration in the report: drawn in the place of the run, and its faults said aloud."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import yaml

from bids_sr import boilerplate
from bids_sr.interfaces.reporting.reportlet_figures import CalibrationReport
from bids_sr.reports.tables.html_tables import calibration_html, calibration_warnings
from bids_sr.spatial.transforms import write_itk

GOOD = {
    "usable": True, "reason": "", "n_volumes": 20, "n_used": 18, "censored": [7, 12], "dof": 12, "overlap": 0.97,
    "edges_apart_mm": 0.6, "noise_share": 0.4,
}  # fmt: skip


def test_a_sound_one_has_figures_and_no_warning() -> None:
    page = calibration_html(GOOD, 6.0)
    assert "7, 12" in page
    assert "Degrees of freedom" in page
    assert "warning" not in page


@pytest.mark.parametrize(
    ("fact", "words"),
    [
        ({"usable": False, "reason": "the head moved by 1.4 mm"}, "left out: the head moved by 1.4 mm. The run's own"),
        ({"overlap": 0.6}, "Only 60% of the run's brain"),
        ({"edges_apart_mm": 3.2}, "lie 3.2 mm apart"),
        ({"noise_share": 0.95}, "95% of the variance is thermal noise"),
    ],
)
def test_each_fault_is_a_warning(fact: dict[str, Any], words: str) -> None:
    (told,) = calibration_warnings({**GOOD, **fact}, 6.0)
    assert words in told
    assert calibration_html({**GOOD, **fact}, 6.0).count("class='warning'") == 1


@pytest.mark.parametrize("usable", [True, False])
def test_what_is_drawn_has_a_place_in_the_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, usable: bool) -> None:
    rng = np.random.default_rng(0)
    x, y, _ = np.meshgrid(*(np.linspace(-1, 1, n) for n in (24, 24, 6)), indexing="ij")
    fine = np.where(x**2 + y**2 < 0.8, 500 + 100 * rng.random((24, 24, 6)), 0).astype(np.float32)
    low = fine.reshape(12, 2, 12, 2, 6).mean(axis=(1, 3))
    coarse = np.diag([6.0, 6, 4, 1])
    coarse[:2, 3] = 1.5
    for name, data, affine in (
        ("boldref", low, coarse), ("bold_mask", (low > 250).astype(np.float32), coarse),
        ("calibration_ref", fine, np.diag([3.0, 3, 4, 1])), ("sd_file", fine / 50, np.diag([3.0, 3, 4, 1])),
    ):  # fmt: skip
        nib.save(nib.Nifti1Image(data, affine), tmp_path / f"{name}.nii")
    write_itk(tmp_path / "xfm.txt", np.eye(4))
    (tmp_path / "facts.json").write_text(json.dumps({**GOOD, "usable": usable, "reason": "" if usable else "why"}))
    monkeypatch.chdir(tmp_path)
    images = {name: str(tmp_path / f"{name}.nii") for name in ("boldref", "bold_mask", "calibration_ref", "sd_file")}
    found = CalibrationReport(
        **images, boldref2calibration_xfm=str(tmp_path / "xfm.txt"), calibration_json=str(tmp_path / "facts.json")
    ).run().outputs  # fmt: skip
    drawn = {(entities["desc"], entities["extension"]) for entities in found.out_entities}
    wanted = {("calibrationreg", ".svg"), ("calibrationsd", ".svg"), ("calibrationfacts", ".html")}
    assert drawn == wanted - ({("calibrationsd", ".svg")} if not usable else set())
    spec = yaml.safe_load(boilerplate.path("reports-spec.yml").read_text().replace("{subject}", "01"))
    places = [each["bids"] for section in spec["sections"] for each in section["reportlets"] if "bids" in each]
    for desc, extension in wanted:
        assert any(p.get("desc") == desc and p["suffix"] == "bold" and extension in p["extension"] for p in places)
