"""All parts of a report name one contrast, whatever the metrics of the run."""

import itertools
import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data.group_tables import joined, write_tables
from data.rows import make_tested_rows

from bids_sr.engine.metric_rows import MISSING, MetricRow
from bids_sr.evaluation.evidence import Evidence, select_compared_rows
from bids_sr.evaluation.qc_flags import Flag, read_flags
from bids_sr.evaluation.run_evidence import RunEvidence, gather_evidence
from bids_sr.evaluation.support_table import tabulate_support
from bids_sr.evaluation.verdict import Verdict, make_verdict
from bids_sr.group.comparisons import compare_primary
from bids_sr.io.json_records import record_from_json, record_to_json
from bids_sr.report.run_summaries import read_run_summary
from bids_sr.report.stored_verdicts import VERDICT_SUFFIX
from bids_sr.report.verdict_html import verdict_html

N_TABLES = 50
CONTRASTS = ("face", "all", "house", "allWithoutFace")
METHODS = ("srgan", "tv", "sbl")
Named = set[tuple[str, str]]
"""Parts of a report, and the contrasts that they name."""
SERIES = ("bspline", "zerofill", *METHODS, "measured")


def make_level(
    rng: np.random.Generator, *, is_missing: bool, has_interval: bool, **cells: Any
) -> MetricRow:
    value = math.nan if is_missing or rng.random() > 0.9 else float(rng.normal(0.2, 0.3))
    half_width = 0.1 if has_interval else math.nan
    return MetricRow(value=value, lower=value - half_width, upper=value + half_width, **cells)


def make_rows(rng: np.random.Generator) -> list[MetricRow]:
    """Return metrics with missing values, for some references, contrasts and regions."""
    contrasts = [name for name in rng.permutation(CONTRASTS) if rng.random() > 0.3]
    rows = []
    for reference, statistic in (("measured", "ev"), ("truth", "ev"), ("measuredMap", "r")):
        if rng.random() > 0.6:
            continue
        has_interval = bool(rng.random() > 0.3)
        for contrast, series in itertools.product(contrasts, SERIES):
            missing = {"is_missing": series in METHODS and bool(rng.random() > 0.5)}
            for region in ("brain", "acquired40"):
                cells = {
                    "statistic": statistic,
                    "band": "beyond",
                    "reference": reference,
                    "region": region,
                    "contrast": str(contrast),
                    "series": series,
                    "has_interval": has_interval,
                }
                rows.append(make_level(rng, **missing, **cells))
                if series in METHODS:
                    rows.append(make_level(rng, minus="bspline", **missing, **cells))
    for method in METHODS:
        if rng.random() > 0.8:
            rows.append(
                MetricRow(series=method, statistic="tested_share", value=0.1, region="brain")
            )
        if rng.random() > 0.6:
            rows += [
                MetricRow(series=method, statistic=name, value=value, contrast="face")
                for name, value in (
                    ("acquired_slope", 0.1),
                    ("acquired_r", 0.2),
                    ("flag_lost_activation", 1.0),
                )
            ]
    if rng.random() > 0.5:
        estimates = dict.fromkeys(contrasts, ((0.5, 0.1), (0.2, 0.4)))
        rows += make_tested_rows(estimates)
    return rows


def judge(rng: np.random.Generator) -> tuple[Verdict, list[MetricRow]]:
    """Return the verdict on generated metrics, and the rows of the evaluation."""
    rows = make_rows(rng)
    not_applied = [name for name in METHODS if rng.random() > 0.8]
    flags = [flag for flag in read_flags(rows) if flag.series not in not_applied]
    evidence = gather_evidence(
        rows, methods=METHODS, baselines=["bspline"], not_applied=not_applied, flags=flags
    )
    verdict = make_verdict(evidence)
    flag_rows = [flag.row() for flag in evidence.flags if flag.name == "harm"]
    return verdict, select_compared_rows([*rows, *flag_rows, *verdict.rows], not_applied)


def list_named_contrasts(verdict: Verdict, rows: Sequence[MetricRow], root: Path) -> Named:
    """Return the contrasts of the accuracy in all parts of a report, with the name of the part."""
    facts, evidence = json.loads(json.dumps(verdict.to_json())), verdict.evidence
    named: Named = set()
    table = str(verdict_html(facts, evidence, rows))
    named |= {("table", name) for name in re.findall(r"<caption>[^<]*, contrast (\w+)", table)}
    named |= {
        ("JSON", sentence["contrast"])
        for sentence in facts["sentences"]
        if sentence.get("band") == "beyond"
    }
    write_tables(root, "01", rows=rows)
    file = root / "sub-01" / "func" / f"sub-01_task-tap{VERDICT_SUFFIX}"
    file.write_text(json.dumps(facts))
    assert read_run_summary(file, "01")["verdict"].endswith(verdict.headline)
    tables = joined(root)
    compared = compare_primary(tables.values, evidence.best, tables.contrasts)
    return named | {("group", row.contrast) for row in compared.itertuples()}


@pytest.mark.parametrize("seed", range(N_TABLES))
def test_all_parts_of_a_report_name_one_contrast(seed: int, tmp_path: Path) -> None:
    verdict, rows = judge(np.random.default_rng(seed))
    evidence = verdict.evidence
    named = list_named_contrasts(verdict, rows, tmp_path)
    assert {contrast for _, contrast in named} <= {evidence.contrast}, named
    if evidence.accuracy is not None:
        assert {part for part, _ in named} >= {"table", "JSON"}
    results = {result.contrast: result for result in evidence.result.contrasts}
    if evidence.best == "sbl" and results:
        (contrasts,) = {tuple(item["contrast"] for item in verdict.to_json()["contrasts"])}
        table = tabulate_support(rows, {"sbl": ""}, contrasts)
        in_active = table[table["region"] == "active voxels"].set_index("contrast")["state"]
        assert in_active.to_dict() == {
            name: result.active.test.state for name, result in results.items()
        }


def test_generated_tables_differ_in_what_is_known() -> None:
    judged = [judge(np.random.default_rng(seed))[0].evidence for seed in range(N_TABLES)]
    assert {evidence.contrast for evidence in judged} == {*CONTRASTS, ""}
    assert sum(evidence.accuracy is not None for evidence in judged) > N_TABLES / 2
    assert {evidence.best for evidence in judged} >= {*METHODS}
    without_value = [
        evidence
        for evidence in judged
        if isinstance(evidence.accuracy, Evidence)
        and not evidence.accuracy.select_finite_rows(evidence.best)
    ]
    assert len(without_value) > 1, "the contrast does not depend on the best method alone"


def test_evidence_is_stored_and_loaded_as_it_is() -> None:
    for seed in range(20):
        evidence = judge(np.random.default_rng(seed))[0].evidence
        text = json.dumps(record_to_json(evidence), allow_nan=False)
        loaded = record_from_json(json.loads(text), RunEvidence)
        assert json.dumps(record_to_json(loaded)) == text
        assert loaded.accuracy is None or loaded.accuracy.row("sbl") is not None
    flags = (Flag(name="broad", raised=None, text="é", contrast=MISSING),)
    assert record_from_json(record_to_json(flags), tuple[Flag, ...]) == flags
