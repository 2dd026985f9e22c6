"""Each implausible registration or calibration is one warning, and a failed check if it is of a
registration.
"""

import numpy as np
import pytest
from data.page import Page

from bids_sr.engine.artifacts import Volume
from bids_sr.io.grids import TURNED_DEG
from bids_sr.report.figure_steps.registration import draw_calibration
from bids_sr.report.registration_facts import calibration_html, registration_html
from bids_sr.report.run_checks import registration_checks

REGISTRATION = {
    "bold_t1w_nmi": 1.16,
    "roi_fraction_in_fov": 0.68,
    "roi_is_brain": False,
    "bold_t1w_poor": False,
}
CALIBRATION = {
    "usable": True,
    "reason": "",
    "n_volumes": 20,
    "n_used": 18,
    "censored": [7, 12],
    "dof": 12,
    "overlap": 0.9,
    "edges_apart_mm": 3.0,
    "noise_share": 0.9,
    "nmi": None,
}


def test_good_images_have_values_and_no_warning():
    registration = Page(registration_html(REGISTRATION))
    calibration = Page(calibration_html(CALIBRATION, 6.0))
    assert registration.warnings == calibration.warnings == []
    assert [value for _, value in registration.table()] == ["1.16", "0.68"]
    assert all(check.passed for check in registration_checks(REGISTRATION))
    values = dict(calibration.table())
    assert values["Degrees of freedom"] == "12"
    assert "7, 12" in values.values()
    assert not any("mutual" in label for label in values), "an unknown value"
    assert Page(calibration_html({"usable": True}, 1.0)).warnings == []


@pytest.mark.parametrize(
    ("fact", "words"),
    [
        ({"bold_t1w_poor": True}, "BOLD and T1w"),
        ({"brain_doubts": ["it holds 2080 ml", "why"]}, "(it holds 2080 ml; why)"),
        ({"bold_t1w_kept": True}, "headers"),
        ({"bold_pair_poor": True}, "T2* and BOLD"),
        ({"roi_is_brain": True}, "whole brain"),
        ({"rois_outside": ["knob.nii"]}, "knob.nii: the region"),
        ({"brain_turned_deg": TURNED_DEG + 60}, f"{TURNED_DEG + 60:.0f} degrees"),
        ({"bold_t1w_offset_deg": TURNED_DEG + 1}, "BOLD and T1w"),
    ],
)
def test_each_registration_fault_is_one_warning_and_a_failed_check(fact, words):
    (warning,) = Page(registration_html(REGISTRATION | fact)).warnings
    assert words in warning
    (check,) = registration_checks(REGISTRATION | fact)
    assert (check.passed, check.text) == (False, "Registration: 1 warning")
    at_limit = {key: TURNED_DEG if "deg" in key else None for key in fact}
    assert Page(registration_html(REGISTRATION | at_limit)).warnings == []


@pytest.mark.parametrize(
    ("fact", "words"),
    [
        ({"usable": False, "reason": "the head moved"}, "(the head moved)"),
        ({"overlap": 0.6}, "60 %"),
        ({"edges_apart_mm": 3.2}, "3.2 mm apart"),
        ({"noise_share": 0.95}, "95 %"),
    ],
)
def test_each_calibration_fault_is_one_warning(fact, words):
    (warning,) = Page(calibration_html(CALIBRATION | fact, 6.0)).warnings
    assert words in warning
    three = CALIBRATION | {"overlap": 0.1, "edges_apart_mm": 9.0, "noise_share": 1.0}
    assert len(Page(calibration_html(three, 6.0)).warnings) == 3


@pytest.mark.parametrize("usable", [True, False])
def test_a_calibration_run_is_drawn_next_to_the_run_with_its_use_by_each_method(usable):
    rng = np.random.default_rng(0)
    x, y, _ = np.meshgrid(*(np.linspace(-1, 1, n) for n in (24, 24, 6)), indexing="ij")
    high_res = np.where(x**2 + y**2 < 0.8, 500 + 100 * rng.random((24, 24, 6)), 0)
    low_res = high_res.reshape(12, 2, 12, 2, 6).mean(axis=(1, 3))
    affine = np.diag([6.0, 6, 4, 1])
    affine[:2, 3] = 1.5
    figure, facts = draw_calibration(
        Volume(low_res, affine),
        Volume(low_res > 250, affine),
        Volume(high_res.astype(np.float32), np.diag([3.0, 3, 4, 1])),
        np.eye(4)[None],
        CALIBRATION | {"usable": usable, "reason": "why"},
        {"sbl": {"share": 0.2, "calibration": "the calibration run was used with weight 0.4"}},
    )
    assert any(image.get_array().size > 1 for image in figure.content.axes[0].images)
    page = Page(str(facts.content))
    assert "the calibration run was used with weight 0.4" in page.text
    assert len(page.warnings) == (not usable)
