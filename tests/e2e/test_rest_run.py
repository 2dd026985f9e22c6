"""Resting-state run: every series recovers the connectivity simulated by the phantom."""

import pytest

from bids_sr.engine.metric_rows import read_frame

from .conftest import make_phantom, run_participants

pytestmark = pytest.mark.slow
BOUNDS = {
    "average_precision": {"motor": (0.7, 1.0), "defaultMode": (0.3, 1.0)},
    "connected_accuracy": {"motor": (0.99, 1.0), "defaultMode": (0.99, 1.0)},
    "connected_fdr": {"motor": (0.0, 0.65), "defaultMode": (0.0, 0.75)},
    "connected_jaccard": {"motor": (0.35, 1.0), "defaultMode": (0.25, 1.0)},
}
"""Scores of every series, by statistic and seed."""


def test_known_networks_are_recovered_by_every_series(tmp_path) -> None:
    data = make_phantom(tmp_path / "data", "--task", "rest", "--seed", "1")
    truth = str(data / "derivatives" / "ground-truth")
    rested = run_participants(
        data, tmp_path, "--nprocs", "2", "--truth", truth, "--sr-method", "sbl"
    )
    assert "The seed visual is skipped" in rested.text
    table = read_frame(rested.out / "sub-01/func/sub-01_task-rest_desc-evaluation_metrics.tsv")
    table = table.query(
        "reference == 'truth' and minus == 'n/a' and region == 'brain' and fwhm_mm == 0"
    )
    for statistic, bounds in BOUNDS.items():
        for seed, (low, high) in bounds.items():
            rows = table[(table.statistic == statistic) & (table.contrast == seed)]
            scores = rows.set_index("series").value
            assert {"bspline", "zerofill", "sdmod", "inject", "ratio", "sbl"} <= set(scores.index)
            assert scores.between(low, high).all(), (statistic, seed, scores.to_dict())
    assert "visual" not in set(table.contrast)
    assert ">Connectivity</h3>" in (rested.out / "sub-01.html").read_text(encoding="utf-8")
