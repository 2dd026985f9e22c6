"""Resting-state run: every series recovers the connectivity simulated by the phantom."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bids_sr.metrics.rows import read_frame

from .conftest import call

pytestmark = pytest.mark.slow
BIN = Path(sys.executable).parent
FUNC = "sub-01/func/sub-01_task-rest"


@pytest.fixture(scope="module")
def rested(tmp_path_factory) -> Path:
    """Return derivatives of the smallest resting-state phantom, compared with its known
    networks.
    """
    base = tmp_path_factory.mktemp("rest")
    data, out = base / "data", base / "out"
    code, text, _ = call(
        [
            str(BIN / "bids-sr-phantom"),
            str(data),
            "--preset",
            "tiny",
            "--task",
            "rest",
            "--seed",
            "1",
        ]
    )
    assert code == 0, text
    code, text, _ = call(
        [
            str(BIN / "bids-sr"),
            str(data),
            str(out),
            "participant",
            "-w",
            str(base / "work"),
            "--nprocs",
            "2",
            "--truth",
            str(data / "derivatives" / "ground-truth"),
            "--sr-method",
            "sbl",
        ]
    )
    assert code == 0, text
    assert "The seed visual is skipped" in text
    return out


def test_known_networks_are_recovered_by_every_series(rested: Path) -> None:
    table = read_frame(rested / f"{FUNC}_desc-evaluation_metrics.tsv")
    table = table[
        (table.reference == "truth")
        & (table.minus == "n/a")
        & (table.region == "brain")
        & (table.fwhm_mm == 0)
    ]
    for statistic, bounds in {
        "average_precision": {"motor": (0.7, 1.0), "defaultMode": (0.3, 1.0)},
        "connected_accuracy": {"motor": (0.99, 1.0), "defaultMode": (0.99, 1.0)},
        "connected_fdr": {"motor": (0.0, 0.65), "defaultMode": (0.0, 0.75)},
        "connected_jaccard": {"motor": (0.35, 1.0), "defaultMode": (0.25, 1.0)},
    }.items():
        for seed, (low, high) in bounds.items():
            scores = (
                table[(table.statistic == statistic) & (table.contrast == seed)]
                .set_index("series")
                .value
            )
            assert {"bspline", "zerofill", "sdmod", "inject", "ratio", "sbl"} <= set(scores.index)
            assert scores.between(low, high).all(), (statistic, seed, scores.to_dict())
    assert "visual" not in set(table.contrast)


def test_the_report_has_a_section_on_connectivity(rested: Path) -> None:
    page = (rested / "sub-01.html").read_text(encoding="utf-8")
    assert '<a href="#activation">Connectivity</a>' in page
    assert "Activation measures" not in page


def test_the_validator_finds_no_error(rested: Path) -> None:
    done = subprocess.run(
        [str(BIN / "bids-validator-deno"), "--json", str(rested)],
        capture_output=True,
        text=True,
        check=False,
    )
    issues = json.loads(done.stdout)["issues"]["issues"]
    assert [issue for issue in issues if issue.get("severity") == "error"] == []
