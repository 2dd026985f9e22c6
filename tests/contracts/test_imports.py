"""Importing the program is quick and changes nothing; which folder may import which is checked by
`lint-imports` (setup.cfg).
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STEP_FOLDERS = [
    str(folder.relative_to(ROOT)) for folder in sorted((ROOT / "bids_sr").rglob("*steps/"))
]
LIBRARIES = "ants bids matplotlib nilearn nireports numba seaborn skimage sklearn torch"
ARRAYS = "nibabel numpy pandas scipy"
WATCH = """
import importlib, os, pathlib, signal, socket, sys

def refuse(*args, **kwargs):
    raise OSError("importing reached for the network")

def state():
    threads = os.environ.get("OMP_NUM_THREADS")
    return os.getcwd(), os.listdir("."), signal.getsignal(signal.SIGTERM), threads

socket.socket.connect = socket.getaddrinfo = refuse
before = state()
for group in sys.argv[1:]:
    modules, _, heavy = group.partition(":")
    for name in modules.split():
        importlib.import_module(name)
    imported = sorted(set(heavy.split()) & set(sys.modules))
    assert not imported, f"{modules[:60]}...: also imported {imported}"
    assert state() == before, f"{modules[:60]}...: importing changed the process or its folder"
home = pathlib.Path(os.environ["HOME"]).rglob("*")
written = [path.name for path in home if "templateflow" in path.name or "bids_sr" in path.name]
assert not written, f"importing wrote {written}"
"""


def modules_in(*folders: str) -> str:
    """Return the names of all modules in folders of the repository, except programs."""
    names = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for folder in folders
        for path in sorted((ROOT / folder).rglob("*.py"))
        if path.name != "__main__.py"
    ]
    return " ".join(name if name.startswith("bids_sr") else f"bids_sr.{name}" for name in names)


def import_all(folder: Path, *groups: str) -> None:
    """Import groups of modules in a fresh process, in an empty folder and without network.

    A group is names of modules, and behind a colon names of modules that they must not import.
    """
    (folder / "empty").mkdir()
    (folder / "home").mkdir()
    env = {**os.environ, "HOME": str(folder / "home"), "NO_ET": "1", "NIPYPE_NO_ET": "1"}
    env.pop("TEMPLATEFLOW_HOME", None)
    done = subprocess.run(
        [sys.executable, "-c", WATCH, *groups],
        cwd=folder / "empty",
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


def test_help_and_settings_need_the_standard_library_only_and_graphs_no_heavy_library(
    tmp_path: Path,
) -> None:
    of_nipype = {
        f"bids_sr.engine.{name}"
        for name in ("multiproc", "nipype_interface", "nipype_workflow", "slurm.plugin")
    }
    names = set(modules_in("workflows", "bids_sr/engine", *STEP_FOLDERS).split())
    assert of_nipype < names
    import_all(
        tmp_path,
        f"bids_sr {modules_in('bids_sr/config')} bids_sr.cli.parser bids_sr.cli.main"
        f":{LIBRARIES} {ARRAYS} nipype",
        f"{' '.join(sorted(names - of_nipype))}:{LIBRARIES} nipype",
    )


@pytest.mark.slow
def test_importing_any_module_has_no_effect(tmp_path: Path) -> None:
    import_all(tmp_path, f"{modules_in('bids_sr', 'boilerplate')}:niworkflows.interfaces.bids")
