"""Test the table of the mean effects of a region."""

import re

from bids_sr.glm.region_means import MeanEffect, describe_mean_effect
from bids_sr.report.region_table import region_table_html


def rows_of(series, contrast="all", fwhm_mm=0.0, **error):
    mean = MeanEffect(effect=20.0, noise_sd=3.0, noise_dof=40.0)
    return describe_mean_effect(series, contrast, mean, fwhm_mm, 17, **error)


def cells_of(html):
    """Return the texts of the cells of each row below the head."""
    return [
        [
            re.sub("<[^>]+>", "", cell).strip()
            for cell in re.findall(r"<t[hd].*?</t[hd]>", row, re.S)
        ]
        for row in re.findall(r"<tr.*?</tr>", str(html), re.S)
    ][1:]


def test_each_contrast_and_series_has_its_mean_with_both_errors():
    rows = [
        *rows_of("sbl", error_sd=4.0, error_dof=64.0),
        *rows_of("acquired"),
        *rows_of("zerofill"),
        *rows_of("sbl", "left", error_sd=0.0, error_dof=64.0),
        *rows_of("acquired", fwhm_mm=5.0),
    ]
    html = region_table_html(rows, "v1.nii.gz", 0.1, ["sbl"])
    assert cells_of(html) == [
        ["v1.nii.gz", "all", "acquired", "2.00 ± 0.300", "–", "[1.39, 2.61]", "17"],
        ["v1.nii.gz", "all", "sbl", "2.00 ± 0.300", "0.400", "[1.01, 2.99]", "17"],
        ["v1.nii.gz", "left", "sbl", "2.00 ± 0.300", "0.000", "[1.39, 2.61]", "17"],
    ]
    assert "% of the mean signal" in html
    in_signal = cells_of(region_table_html(rows, "v1.nii.gz", None, []))
    assert in_signal[0][3] == "20.0 ± 3.00"


def test_without_a_region_there_is_no_table():
    assert region_table_html([], "", 1.0, []) == ""
