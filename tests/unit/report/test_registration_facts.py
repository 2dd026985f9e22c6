"""Test warnings about registration in the report."""

import pytest

from bids_sr.report.overview import registration_checks
from bids_sr.report.registration_facts import registration_html

GOOD = {
    "bold_t1w_nmi": 1.16,
    "roi_fraction_in_fov": 1.0,
    "roi_is_brain": False,
    "bold_t1w_poor": False,
}


def test_a_good_registration_has_values_and_no_warning():
    page = registration_html(GOOD)
    assert "1.16" in page
    assert "warning" not in page


def test_a_partial_field_of_view_is_listed_without_a_warning():
    facts = {**GOOD, "roi_fraction_in_fov": 0.68}
    page = registration_html(facts)
    assert "0.68" in page
    assert "warning" not in page
    assert all(check.passed for check in registration_checks(facts))


@pytest.mark.parametrize(
    ("fact", "words"),
    [
        ({"bold_t1w_poor": True}, "BOLD and T1w images appears to be poor"),
        (
            {"brain_doubts": ["its brain mask holds 2080 ml"]},
            r"appears to be wrong \(its brain mask holds 2080 ml",
        ),
        ({"bold_t1w_kept": True}, "taken from their headers"),
        ({"bold_pair_poor": True}, r"T2\* and BOLD images appears to be poor"),
        ({"roi_is_brain": True, "roi_fraction_in_fov": 0.0}, "the whole brain is used instead"),
    ],
)
def test_each_registration_fault_is_a_warning(fact, words):
    page = registration_html({**GOOD, **fact})
    assert words.replace("\\", "") in page
    assert page.count("class='warning'") == 1
