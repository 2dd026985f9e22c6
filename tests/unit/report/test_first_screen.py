"""First screen of a run: sentence, answers with the numbers that decided, and what to use."""

import math
from dataclasses import replace

import pytest
from data.page import Page
from data.rows import judge_rows, make_measured_rows, make_row, make_run_rows, make_tested_rows

from bids_sr.io.metric_flags import FLAGS
from bids_sr.report.first_screen import (
    UseRow,
    make_first_screen,
    make_view,
    render_first_screen,
)
from bids_sr.report.run_checks import list_checks

SELF_TEST = {"from_mm": [12, 12, 3.3], "to_mm": [6, 6, 3.3]}
MEASURED = {"all": ((0.52, 0.02), (0.35, 0.08)), "scene": ((0.37, math.nan), (0.1, math.nan))}
STILL, MOVED = (math.nan, 0.1, 0.2), (math.nan, *[1.2] * 8, 0.1)


def first_screen(rows, *, use=(), alerts=(), addition="", **options) -> Page:
    """Return the first screen of a run; see `judge_rows` for options."""
    result = judge_rows(rows, ["sbl"], self_test_facts=SELF_TEST, **options).evidence.result
    screen = make_first_screen(
        title="sub-01 · task tap",
        facts="3 volumes",
        result=result,
        views=[make_view(result, addition=addition, use=use)],
        alerts=alerts,
    )
    return Page(render_first_screen(screen))


def read_answers(page: Page) -> dict[str, list[str]]:
    """Return answer and number in active voxels and in the brain, by contrast."""
    lines = [row.elements for table in page.all("table", "answers") for row in table.all("tr")]
    return {
        head.text: [cell.text for cell in cells]
        for head, *cells in lines
        if cells and cells[0].tag == "td"
    }


def sentence_of(page: Page) -> str:
    (sentence,) = page.all("p", "answer")
    return sentence.text


def test_each_contrast_has_an_answer_and_the_number_that_decided():
    page = first_screen(make_tested_rows())
    assert read_answers(page) == {
        "all": ["✓ yes", "54 [42, 66]", "✓ yes", "40 [28, 52]"],
        "body": ["✓ yes", "50 [37, 63]", "✓ yes", "25 [11, 39]"],
        "house": ["✓ yes", "58 [46, 70]", "✓ yes", "36 [22, 50]"],
        "body − others": ["✓ yes", "49 [31, 67]", "✗ no", "−96 [below −100, −56]"],
        "scene": ["✗ no", "−12 [−32, 8]", "✗ no", "−10 [−29, 9]"],
        "scene − others": ["✗ no", "−15 [−35, 5]", "✗ no", "−30 [−50, −10]"],
        "face": ["? not testable: run cannot be halved", ""] * 2,
        "tool − others": [
            *("? not testable: no reproducible detail", ""),
            *("? not testable: not recovered in active voxels", "22 [10, 34]"),
        ],
    }
    assert "In the test" in sentence_of(page)
    assert "unmeasured at 3 mm" in sentence_of(page)


def test_measured_values_are_filled_and_tested_values_are_hollow():
    rows = [*make_tested_rows({"all": ((0.5, 0.1), (0.4, 0.1)), "scene": ((0.5, 0.1),) * 2})]
    page = first_screen([*rows, *make_measured_rows(MEASURED)])
    answers = read_answers(page)
    assert [cells[1] for cells in answers.values()] == ["52 [50, 54]", "37"]
    assert [cells[3] for cells in answers.values()] == ["35 [27, 43]", "10"]
    assert answers["scene"][0] == "✓ yes"
    assert [circle.classes for circle in page.all("circle")] == [[], [], [], []]
    assert "In the test" not in sentence_of(page)


def test_detail_that_was_contradicted_has_its_value_in_each_region():
    """A contrast with too few active voxels has an answer in the brain."""
    rows = [
        replace(row, value=30.0)
        if (row.statistic, row.region) == ("voxels", "acquired40")
        else row
        for row in make_tested_rows({"all": ((0.5, math.nan), (-0.8, 0.5))})
    ]
    active, value, brain, contradicted = read_answers(first_screen(rows))["all"]
    assert (active, value) == ("? not testable: few active voxels", "50")
    assert (brain, contradicted) == ("✗ no", "−80 [below −100, −30]")


def test_ten_rows_with_an_answer_are_visible_and_the_others_are_folded():
    tested = {f"c{k}": ((0.5, 0.1), (0.4, 0.1)) for k in range(13)}
    page = first_screen(make_tested_rows(tested))
    (fold,) = page.all("details")
    assert fold.all("summary")[0].text == "3 more"
    assert len(fold.all("tr")) == 3
    assert len(read_answers(page)) == 13
    assert not first_screen(make_tested_rows({"face": None})).all("details")
    (fold,) = first_screen(make_tested_rows()).all("details")
    undecided = [row.all("th")[0].text for row in fold.all("tr")]
    assert undecided == ["face", "tool − others"]
    assert fold.all("summary")[0].text == "2 more"


def test_files_and_alerts_are_shown():
    use = [
        UseRow("Map", file="sub-01/func/sub-01_space-boldref_res-hr_contrast-all_statmap.nii.gz"),
        UseRow("Size", text="median 1.8 %", remark="large"),
    ]
    page = first_screen(
        make_tested_rows(), use=use, alerts=["run-2 was left out."], addition="Half is large."
    )
    assert page.links == {"contrast-all_statmap.nii.gz": use[0].file}
    assert "median 1.8 % large" in page.text
    assert page.warnings == ["run-2 was left out."]
    assert sentence_of(page).endswith("Half is large.")


def test_each_contrast_has_its_own_sentence_and_files():
    result = judge_rows(make_tested_rows(), ["sbl"], self_test_facts=SELF_TEST).evidence.result
    views = [
        make_view(result.select(name), use=[UseRow("Map", text=name)], contrast=name)
        for name in ("house", "scene", "other")
    ]
    house, scene, other = (view.sentence.replace("\N{NO-BREAK SPACE}", " ") for view in views)
    assert "58 % [46, 70] of the detail of house" in house
    assert "may be interpreted for scene (hardly any explained)" in scene
    assert "B-spline" in other
    screen = make_first_screen(title="", facts="", result=result, views=views)
    page = Page(render_first_screen(screen))
    assert [
        part.attributes["data-for"] for part in page.all("div") if "data-for" in part.attributes
    ] == [*("house", "scene", "other") * 2]


REGISTERED = {"bold_t1w_poor": False}
POOR = {"bold_t1w_poor": True, "bold_pair_poor": True}
DISTORTED = {("run", "distortion"): 1.0, ("run", "broad"): 0.0}
HARMFUL = {("srgan", "harm"): 1.0, ("sbl", "harm"): 0.0}


@pytest.mark.parametrize(
    ("displacement", "registration", "flags", "failed"),
    [
        (STILL, {}, {}, []),
        (STILL, {"roi_voxels": 900}, {("acquired", "task_not_done"): math.nan}, []),
        (MOVED, {}, {}, ["Head motion"]),
        ((0.6, 0.7), {}, {}, ["Head motion"]),
        (STILL, {"bold_t1w_poor": True}, {}, ["Registration: 1 warning"]),
        (STILL, POOR, {}, ["Registration: 2 warnings"]),
        (STILL, REGISTERED, DISTORTED, [FLAGS["distortion"].failed]),
        (STILL, REGISTERED, HARMFUL, [FLAGS["harm"].failed]),
    ],
)
def test_every_check_is_listed_once(displacement, registration, flags, failed):
    rows = [
        *make_run_rows(),
        *(make_row(series, f"flag_{name}", value) for (series, name), value in flags.items()),
    ]
    evidence = judge_rows(rows, ["srgan", "sbl"], margin=0.0).evidence
    checks = list_checks(displacement, registration, evidence)
    not_passed = [check.text for check in checks if not check.passed]
    assert len(not_passed) == len(failed)
    assert all(text.startswith(start) for text, start in zip(not_passed, failed, strict=True))
    is_registered = any(check.section == "registration" for check in checks)
    assert is_registered is any(name.startswith("bold_") for name in registration)
    if flags is HARMFUL:
        assert not_passed[0].endswith(": srgan")
