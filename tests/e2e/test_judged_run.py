"""Runs that are judged: the truth made from the data, placebos, ensembles, a second pair, and the
group.
"""

import json
import re
from html import unescape

import pandas as pd
import pytest
from grouptables import indexed_tables

from bids_sr.metrics.rows import read_frame

from .conftest import call

pytestmark = pytest.mark.slow
FUNC = "sub-01/func/sub-01_task-tap"


def _evaluation(out) -> pd.DataFrame:
    return read_frame(out / f"{FUNC}_desc-evaluation_metrics.tsv")


def test_retrospective_run_ends_well(judged):
    assert judged.code == 0, judged.text


def test_every_series_is_held_against_the_measured_one(judged):
    table = _evaluation(judged.out)
    halves = table.query(
        "reference == 'measured' and band == 'beyond' and minus == 'n/a' and region == 'brain'"
    )
    scored = halves.query("statistic == 'r'")
    placebos = {"srganPhantom", "srganT1w", "sblMirror", "sblShift"}  # of others there are no maps
    series = {
        "bspline",
        "zerofill",
        "sdmod",
        "inject",
        "ratio",
        "srgan",
        "sbl",
        "measured",
        "bsplineSmooth",
        "bsplinePca",
    }
    assert series | placebos | {"srganSeed1", "sblSeed1"} <= set(scored.series)
    assert scored.lower.notna().any()
    assert (scored.lower <= scored.upper)[scored.lower.notna()].all()
    for name in ("ev", "amplitude", "correct_fraction"):
        assert set(halves[halves.statistic == name].series) == set(scored.series)


def test_a_method_is_held_against_baselines_controls_and_its_placebos(judged):
    """The sloppy training of `sbl` falls back to zero filling here: it is named, and compared with
    nobody.
    """
    table = _evaluation(judged.out)
    applied = table[table.statistic == "verdict_applied"].set_index("series").value.to_dict()
    assert applied["srgan"] == 1
    gains = table.query(
        "reference == 'measured' and band == 'beyond' and statistic in ('ev', 'r') and minus !="
        " 'n/a'"
    )
    others = {"bspline", "zerofill", "sdmod", "inject", "ratio", "bsplineSmooth", "bsplinePca"}
    placebos = {"srgan": {"srganPhantom", "srganT1w"}, "sbl": {"sblMirror", "sblShift"}}
    for method, own in placebos.items():
        against = set(gains[gains.series == method].minus)
        if applied[method]:
            assert others | own <= against
        else:
            assert not against
            assert method not in set(gains.minus)
    said = json.loads(
        (judged.out / "sub-01/func/sub-01_task-tap_desc-verdict_metrics.json").read_text()
    )
    idle = [name for name, was in applied.items() if not was]
    assert said["not_applied"] == idle
    assert said.get("not_applied_text", "").startswith(
        f"{idle[0]} was not applied" if idle else ""
    )


def test_measured_series_is_mapped_and_placebos_are_not_stored(judged):
    names = {path.name for path in (judged.out / "sub-01" / "func").glob("*_bold.nii.gz")}
    assert "sub-01_task-tap_res-hr_desc-measured_bold.nii.gz" in names
    assert not [name for name in names if re.search("Mirror|Shift|Phantom|T1w|Seed", name)]


def test_uncertainty_is_kept(judged):
    found = list(
        (judged.out / "sub-01" / "func").glob(
            "*_contrast-all_stat-ensemblesd_desc-sbl_statmap.nii.gz"
        )
    )
    assert len(found) == 1


def test_verdict_is_in_words_and_in_the_report(judged):
    verdict = json.loads((judged.out / f"{FUNC}_desc-verdict_metrics.json").read_text())
    assert len(verdict["headline"]) > 20
    assert verdict["sentences"]
    page = (judged.out / "sub-01.html").read_text()
    assert "No errors to report" in page
    shown = " ".join(unescape(re.sub(r"<[^>]+>", "", page)).split())
    # the other sentences are rows of its tables
    lines = [line["text"] for line in verdict["lines"]]
    for text in (*lines, verdict["sentences"][0]["text"], *verdict["limits"]):
        assert " ".join(text.split()) in shown


def test_second_retrospective_run_makes_nothing_anew(judged):
    before = {path: path.stat().st_mtime_ns for path in judged.out.rglob("*.nii.gz")}
    code, text, _ = call(judged.command)
    assert code == 0, text
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_known_activation_gives_figures_with_intervals(cohort):
    table = _evaluation(cohort.out)
    known = table.query(
        "reference == 'truth' and statistic == 'r' and band == 'all' and minus == 'n/a'"
    )
    assert {"bspline", "srgan", "sbl"} <= set(known.series)
    assert known.value.between(-1, 1).all()


def test_model_is_scored_on_the_pair_it_has_not_seen(cohort):
    table = _evaluation(cohort.out)
    gains = table.query(
        "reference == 'heldOut' and statistic == 'psnr' and minus != 'n/a' and series == 'srgan'"
    )
    assert {"bspline", "zerofill"} <= set(gains.minus)
    assert gains.value.notna().all()


def test_group_level_gathers_all_and_says_what_two_cannot_show(cohort):
    assert cohort.code == 0, cohort.text
    long = pd.read_csv(cohort.out / "group_metrics.tsv", sep="\t", low_memory=False)
    assert set(long.participant) == {"sub-01", "sub-02"}
    assert (cohort.out / "group_stats.tsv").exists()
    assert (cohort.out / "group_stats_columns.json").exists()
    page = (cohort.out / "group.html").read_text()
    assert 'src="http' not in page
    assert "sub-02" in page


@pytest.mark.parametrize("validate", [True, False])
def test_pybids_indexes_the_outputs_of_both_levels(cohort, validate):
    assert cohort.code == 0, cohort.text
    alone, beside = indexed_tables(cohort.bids_dir, cohort.out, validate=validate)
    assert (
        len(alone)
        == len(beside)
        == 2 * len(list((cohort.out / "sub-01" / "func").glob("*_metrics.tsv")))
    )


def test_tables_say_what_made_them(cohort):
    for name in ("image", "activation", "evaluation"):
        sidecar = json.loads((cohort.out / f"{FUNC}_desc-{name}_metrics.json").read_text())
        assert sidecar["GeneratedByVersion"], name
        assert len(sidecar["SettingsDigest"]) == 12, name
