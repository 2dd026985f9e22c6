"""Examples run in less than a minute on two processors, draw figures, and confirm the findings in
their texts.
"""

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
"""s, one minute on two processors"""
Namespace = dict[str, Any]


def explained(namespace: Namespace, *rising: str) -> bool:
    """Return whether each series explains more detail than the one before, with separate
    intervals.
    """
    detail = namespace["detail"]
    return all(detail.upper[low] < detail.lower[high] for low, high in itertools.pairwise(rising))


def of_calibration(namespace: Namespace) -> bool:
    detail = namespace["detail"].loc["active voxels"]
    return bool(detail.upper["sbl"] < detail.lower["sbl, calibrated"])


def of_rest(namespace: Namespace) -> bool:
    agreement = namespace["agreement"]
    return bool(agreement["B-spline"] + 0.05 < agreement["sbl"] < agreement["measured"] - 0.1)


def of_group(namespace: Namespace) -> bool:
    """Return whether the largest effect is in the simulated thumb region."""
    effect = namespace["effect"]
    peak = np.unravel_index(effect.argmax(), effect.shape)
    return bool(np.abs(np.subtract(peak, (26, 40, 8))).max() <= 1)


def of_cluster(namespace: Namespace) -> bool:
    return "done: 2" in namespace["again"] and len(namespace["records"]) == 2


FINDINGS: dict[str, Callable[[Namespace], bool]] = {
    "plot_1_one_run.py": lambda namespace: namespace["resolver"].applied_,
    "plot_2_truth.py": lambda namespace: explained(
        namespace, "bspline", "zerofill", "sdmod", "sbl"
    ),
    "plot_3_calibration.py": of_calibration,
    "plot_4_rest.py": of_rest,
    "plot_6_network.py": lambda namespace: explained(namespace, "dcnet", "sdmod"),
    "plot_7_group_map.py": of_group,
    "plot_8_cluster.py": of_cluster,
}
"""Check of the finding that the text of each example states."""


@pytest.fixture
def gallery(tmp_path, monkeypatch):
    """Copy the scripts next to the data, which the scripts must not change."""
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
    """Adopt orphaned processes, such as the jobs of a cluster, as children."""
    prctl, child_subreaper = ctypes.CDLL(None).prctl, 36
    prctl(child_subreaper, 1)
    yield
    prctl(child_subreaper, 0)


def processor_seconds() -> float:
    """Return the processor time of this process and its finished children, including
    adopted ones.
    """
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG) != (0, 0):
            pass
    used = (
        resource.getrusage(process) for process in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def test_every_example_has_an_expected_finding():
    assert {path.name for path in (EXAMPLES / "gallery").glob("*.py")} == {*FINDINGS}


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
@pytest.mark.usefixtures("adopting")
@pytest.mark.parametrize("name", FINDINGS)
def test_an_example_runs_and_confirms_its_finding(name, gallery):
    plt = pytest.importorskip("matplotlib.pyplot")
    before, start_s = {*gallery.iterdir()}, processor_seconds()
    namespace = runpy.run_path(str(gallery / name))
    assert processor_seconds() - start_s < SECONDS
    assert plt.get_fignums(), "each example ends with a figure"
    plt.close("all")
    assert FINDINGS[name](namespace)
    assert {*gallery.iterdir()} == before, "nothing is left beside the scripts"
