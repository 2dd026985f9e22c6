"""The first screen: it says what the verdict says, leads with active voxels, and names what was not applied first."""

import math
from dataclasses import replace

import pytest

from bids_sr.metrics.long_tables import MetricRow
from bids_sr.reports.text.overview_text import (
    RunFacts,
    flag_number,
    header_text,
    image_number,
    level_number,
    motion_chips,
    next_steps,
    overview_html,
    registration_chips,
)
from bids_sr.stats.evaluation.evidence import best_table
from bids_sr.stats.evaluation.verdict import make_verdict

RUN = RunFacts(
    name="sub-01_task-tap_run-2", acquired_mm=(6, 6, 3.3), made_mm=(3, 3, 3.3), displacement=(math.nan, 0.1, 0.2)
)


def row(series, measure, value, half=0.01, **where):
    return MetricRow(series=series, measure=measure, value=value, lower=value - half, upper=value + half, **where)


def rows_of(prefix="split_ev", against="measured", gain=0.1):
    found = []
    for region, factor in (("brain", 1), ("active40", 2)):
        place = {"contrast": "all", "region": region}
        for series, value in (("sbl", 0.2), ("srgan", 0.05), ("bspline", 0.01)):
            found.append(row(series, f"{prefix}_beyond", factor * value, against=against, **place))
        found.append(row("sbl", f"gain_{prefix}_beyond", gain, against="bspline", **place))
        found.append(row("srgan", f"gain_{prefix}_beyond", 0.0, against="bspline", **place))
    return found


def judged(rows, **how):
    verdict = make_verdict(rows, methods=["srgan", "sbl"], baselines=["bspline"], margin=0.0, **how)
    return verdict.to_json(), [*rows, *verdict.rows]


def test_the_header_names_run_resolution_and_volumes():
    assert header_text(RUN) == "sub-01 · tap · run-2 · 6 × 6 × 3.3 → 3 × 3 × 3.3 mm · 3 volumes"


def test_the_best_method_leads_with_active_voxels_beside_bspline():
    found = level_number(best_table(rows_of(), ["sbl", "srgan"]), "sbl")
    assert found.value == "sbl 40 %"
    assert found.label == "explained variance beyond the acquired Nyquist limit, active voxels, |t| > 4"
    assert found.note == "95 % interval [39, 41]; B-spline 2 %; whole brain 20 %"


def test_reproducibility_is_never_called_accuracy():
    said, rows = judged(rows_of("self_r", "self"))
    html = overview_html(said, rows, [], {}, RUN)
    assert "split-half correlation (reproducibility, not accuracy)" in html
    assert "so accuracy was not assessed" in html
    assert "class='answer open'" in html
    assert not any(word in html for word in ("more accurate", "better", "explained variance"))


@pytest.mark.parametrize(("gain", "kind"), [(0.1, "good"), (0.0, "bad")])
def test_the_sentence_is_that_of_the_verdict(gain, kind):
    said, rows = judged(rows_of(gain=gain))
    html = overview_html(said, rows, [], {}, RUN)
    assert said["headline"] in html
    assert f"class='answer {kind}'" in html
    assert "Evidence: high-resolution BOLD measured in the other half of the blocks; contrast all" in html
    assert "; seed all" in overview_html(said, rows, [], {}, replace(RUN, at_rest=True))


def test_a_method_that_was_not_applied_is_said_first_and_in_no_number():
    said, rows = judged(rows_of(), not_applied=["sbl"])
    html = overview_html(said, rows, [], {}, RUN)
    assert html.index("Not applied.") < html.index("class='headline'")
    assert "srgan 10 %" in html
    assert "sbl 40 %" not in html
    assert "calibration run" in html
    said, rows = judged(rows_of(), not_applied=["sbl", "srgan"])
    html = overview_html(said, rows, [], {}, RUN)
    assert "class='answer idle'" in html
    assert "No method was applied" in html
    assert "40 %" not in html
    assert "calibration run" not in overview_html(said, rows, [], {}, replace(RUN, calibrated=True))


def test_image_quality_stands_beside_what_static_detail_alone_gains():
    rows = [row("sbl", "gain_truth_psnr", v, against=o) for o, v in (("bspline", 16.0), ("inject", -0.01))]
    found = image_number(rows, "sbl")
    assert found.value == "sbl +16.0 dB"
    assert "over static detail alone (inject) +0.0 dB" in found.note
    assert image_number([], "sbl").value == "–"


def test_flags_are_counted_once_and_named():
    rows = [row("sbl", "flag_unrepeated", 1.0), row("run", "flag_broad", 0.0), row("raw", "flag_broad", math.nan)]
    flags = [{"name": "distortion", "raised": True, "remedy": "Correct it."}, {"name": "distortion", "raised": True}]
    assert flag_number(rows, flags).value == "2"
    assert flag_number(rows, flags).note == "susceptibility distortion, unsupported detail"
    assert flag_number(rows[1:], []).note == "1 quality check passed"


def test_checks_pass_or_fail():
    (still,) = motion_chips(RUN)
    assert still.passed
    assert still.text == "motion: mean FD 0.15 mm"
    assert not motion_chips(RunFacts(name="x", acquired_mm=(), made_mm=(), displacement=(0.6, 0.7)))[0].passed
    assert registration_chips({"bold_t1w_poor": False})[0].passed
    assert not registration_chips({"bold_t1w_poor": True})[0].passed


def test_what_to_do_next_follows_from_the_verdict():
    assert "--retrospective" in next_steps({"status": "not assessed"}, [], True)[0]
    assert "desc-sbl" in next_steps({"status": "more accurate", "best": "sbl"}, [], True)[0]
    assert "B-spline" in next_steps({"status": "not more accurate"}, [], True)[0]
    idle = {"status": "not applied", "not_applied": ["sbl"]}
    assert "Acquire a calibration run" in next_steps(idle, [], True)[0]
    assert not any("calibration" in step for step in next_steps(idle, [], True, calibrated=True))
    raised = [{"raised": True, "remedy": "First."}, {"raised": False, "remedy": "No."}]
    assert next_steps({"status": "more accurate", "best": "sbl"}, raised, True)[0] == "First."


def test_a_reference_without_reproducible_detail_gives_no_number():
    rows = [replace(row, value=math.nan, lower=math.nan, upper=math.nan) for row in rows_of()]
    said, rows = judged(rows)
    html = overview_html(said, rows, [], {}, RUN)
    assert "no reproducible detail" in said["headline"]
    assert "class='answer open'" in html
    assert "not assessed: no reproducible detail in the reference" in html
    assert "--retrospective" not in html
    assert "n/a" not in html
