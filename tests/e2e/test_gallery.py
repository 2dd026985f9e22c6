"""The examples run, in less than a minute of two cores, draw, and find what their text says."""

import contextlib
import ctypes
import itertools
import os
import resource
import runpy
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
SECONDS = 60 * 2
"""A minute of two processors."""
Made = dict[str, Any]


def explained(made: Made, *rising: str) -> bool:
    """Whether series explain more and more of the detail, each by more than its interval."""
    detail = made["detail"]
    return all(detail.upper[low] < detail.lower[high] for low, high in itertools.pairwise(rising))


def of_calibration(made: Made) -> bool:
    detail = made["detail"].loc["active40"]
    return bool(detail.upper["sbl"] < detail.lower["sblCalibrated"])


def of_comparison(made: Made) -> bool:
    status = {each["name"]: each["status"] for each in made["evaluator"].compared_}
    return status == {"smoothed": "less accurate", "components": "not more accurate"}


def of_group(made: Made) -> bool:
    """The largest effect lies where the simulation has the thumb."""
    effect = made["effect"]
    found = np.unravel_index(effect.argmax(), effect.shape)
    return bool(np.abs(np.subtract(found, (26, 40, 8))).max() <= 1)


def of_cluster(made: Made) -> bool:
    ended = {record["participant"]: record["state"] for record in made["records"]}
    return ended == {"sub-01": "done", "sub-02": "done"}


FINDINGS: dict[str, Callable[[Made], bool]] = {
    "plot_1_one_run.py": lambda made: made["resolver"].applied_,
    "plot_2_truth.py": lambda made: explained(made, "bspline", "zerofill", "sdmod", "sbl"),
    "plot_3_calibration.py": of_calibration,
    "plot_4_rest.py": lambda made: explained(made, "bspline", "sdmod", "sbl", "measured"),
    "plot_5_compare.py": of_comparison,
    "plot_6_network.py": lambda made: explained(made, "bspline", "dcnet", "sdmod"),
    "plot_7_group_map.py": of_group,
    "plot_8_cluster.py": of_cluster,
}
"""What the text of each example says that it finds."""


@pytest.fixture
def gallery(tmp_path, monkeypatch):
    """A copy of the folder of scripts, beside the data, which the scripts must leave as it is."""
    shutil.copytree(EXAMPLES / "gallery", tmp_path / "examples" / "gallery")
    (tmp_path / "examples" / "studyforrest").symlink_to(EXAMPLES / "studyforrest")
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path / "examples" / "gallery")
    return Path.cwd()


@pytest.fixture
def adopting() -> Iterator[None]:
    """Processes whose parent has ended, as the jobs of a cluster, become children of this one."""
    prctl, child_subreaper = ctypes.CDLL(None).prctl, 36
    prctl(child_subreaper, 1)
    yield
    prctl(child_subreaper, 0)


def processor_seconds() -> float:
    """Of this process and of its children that have ended, those that it adopted among them."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG) != (0, 0):
            pass
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(each.ru_utime + each.ru_stime for each in used)


def test_every_example_has_a_finding():
    assert {path.name for path in (EXAMPLES / "gallery").glob("*.py")} == {*FINDINGS}


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
@pytest.mark.usefixtures("adopting")
@pytest.mark.parametrize("name", FINDINGS)
def test_an_example_runs(name, gallery):
    plt = pytest.importorskip("matplotlib.pyplot")
    before, began = {*gallery.iterdir()}, processor_seconds()
    made = runpy.run_path(str(gallery / name))
    assert processor_seconds() - began < SECONDS
    assert plt.get_fignums(), "each example ends with a figure"
    plt.close("all")
    assert FINDINGS[name](made)
    assert {*gallery.iterdir()} == before, "nothing is left beside the scripts"
