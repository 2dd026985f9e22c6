"""Check runs with validation: a retrospective reference, a second pair, and the group."""

import json

import pandas as pd
import pytest
from data.group_tables import indexed_tables

from bids_sr.engine.metric_rows import read_frame

from .conftest import call

pytestmark = pytest.mark.slow
FUNC = "sub-01/func/sub-01_task-tap"
BASELINES = {"bspline", "zerofill", "sdmod", "inject", "ratio", "bsplineSmooth", "bsplinePca"}


def evaluation_of(finished) -> pd.DataFrame:
    return read_frame(finished.out / f"{FUNC}_desc-evaluation_metrics.tsv")


def test_every_series_is_compared_with_the_measured_series(judged):
    halves = evaluation_of(judged).query(
        "reference == 'measured' and band == 'beyond' and minus == 'n/a' and region == 'brain'"
    )
    scored = halves.query("statistic == 'r'")
    assert BASELINES | {"srgan", "sbl", "measured"} <= set(scored.series)
    assert scored.lower.notna().any()
    assert (scored.lower <= scored.upper)[scored.lower.notna()].all()
    for name in ("ev", "amplitude", "correct_fraction"):
        assert set(halves[halves.statistic == name].series) == set(scored.series)


def test_a_method_is_compared_with_baselines_and_controls(judged):
    """After the sloppy training, `sbl` falls back to zero filling: it is listed, but not
    compared.
    """
    table = evaluation_of(judged)
    applied = table[table.statistic == "verdict_applied"].set_index("series").value.to_dict()
    assert applied["srgan"] == 1
    gains = table.query(
        "reference == 'measured' and band == 'beyond' and statistic in ('ev', 'r')"
        " and minus != 'n/a'"
    )
    for method in ("srgan", "sbl"):
        against = set(gains[gains.series == method].minus)
        assert against >= BASELINES if applied[method] else not against
        assert applied[method] or method not in set(gains.minus)
    verdict = json.loads((judged.out / f"{FUNC}_desc-verdict_metrics.json").read_text())
    assert verdict["not_applied"] == [name for name, was in applied.items() if not was]


def test_measured_series_is_stored(judged):
    names = {path.name for path in (judged.out / "sub-01" / "func").glob("*_bold.nii.gz")}
    assert "sub-01_task-tap_space-boldref_res-hr_desc-measured_bold.nii.gz" in names


def test_a_second_retrospective_run_recomputes_nothing(judged):
    before = {path: path.stat().st_mtime_ns for path in judged.out.rglob("*.nii.gz")}
    code, text, _ = call(judged.command)
    assert code == 0, text
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_series_are_compared_with_known_activation_and_the_held_out_pair(cohort):
    table = evaluation_of(cohort)
    scores = table.query(
        "reference == 'truth' and statistic == 'r' and band == 'all' and minus == 'n/a'"
    )
    assert {"bspline", "srgan", "sbl"} <= set(scores.series)
    assert scores.value.between(-1, 1).all()
    gains = table.query(
        "reference == 'heldOut' and statistic == 'psnr' and minus != 'n/a' and series == 'srgan'"
    )
    assert {"bspline", "zerofill"} <= set(gains.minus)
    assert gains.value.notna().all()


def test_the_group_level_combines_both_participants(cohort):
    long = pd.read_csv(cohort.out / "group_metrics.tsv", sep="\t", low_memory=False)
    assert set(long.participant) == {"sub-01", "sub-02"}
    assert (cohort.out / "group_stats.tsv").exists()
    page = (cohort.out / "group.html").read_text()
    assert 'src="http' not in page
    assert "sub-02" in page
    indexed, with_raw = indexed_tables(cohort.bids_dir, cohort.out, validate=True)
    n_tables = len(list((cohort.out / "sub-01" / "func").glob("*_metrics.tsv")))
    assert len(indexed) == len(with_raw) == 2 * n_tables
