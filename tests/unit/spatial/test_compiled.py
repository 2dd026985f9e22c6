"""Where compiled code is kept, and that it computes where nothing can be kept."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from bids_sr.spatial import compiled
from bids_sr.spatial.compiled import cache_folder

SOURCE = """
from bids_sr.spatial.compiled import compiled

@compiled("float64(float64, float64)")
def sum_of(a, b):
    return a + b
"""


@pytest.fixture(autouse=True)
def _nothing_remembered(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    cache_folder.cache_clear()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    for name in ("NUMBA_CACHE_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


def _source(folder: Path) -> Path:
    folder.mkdir()
    (folder / "loops.py").write_text(SOURCE)
    return folder / "loops.py"


def _read_only(source: Path) -> None:
    """As far as anyone can write beside the code, whoever runs the test."""
    (source.parent / "__pycache__").write_text("no folder")


def test_beside_the_code_or_where_the_user_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = _source(tmp_path / "package")
    assert cache_folder(source).parent == source.parent / "__pycache__"
    cache_folder.cache_clear()
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "chosen"))
    assert cache_folder(source).parent == tmp_path / "chosen"


def test_where_the_installation_is_read_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = _source(tmp_path / "package")
    _read_only(source)
    assert cache_folder(source).parent == tmp_path / "home" / ".cache" / "bids-sr"
    cache_folder.cache_clear()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder(source).parent == tmp_path / "xdg" / "bids-sr"


def test_without_a_home_the_temporary_directory_unless_it_is_another_users(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = _source(tmp_path / "package")
    _read_only(source)
    monkeypatch.setenv("HOME", "/dev/null")
    own = tmp_path / "temporary" / f"bids-sr-{os.getuid()}"
    assert cache_folder(source).parent == own
    assert own.stat().st_mode & 0o077 == 0
    cache_folder.cache_clear()
    own.chmod(0o777)
    assert cache_folder(source) is None


def test_another_state_of_the_code_has_another_folder(tmp_path: Path) -> None:
    source = _source(tmp_path / "package")
    before = cache_folder(source)
    cache_folder.cache_clear()
    source.write_text(SOURCE + "\n")
    assert cache_folder(source) != before


def test_what_an_image_brings_along_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = _source(tmp_path / "package")
    installed = cache_folder(source)
    (installed / "of_this_package").mkdir()
    (installed / "of_this_package" / "loops.sum_of-4.py311.1.nbc").write_bytes(b"code")
    cache_folder.cache_clear()
    monkeypatch.setattr(compiled, "_places", lambda installed: [tmp_path / "elsewhere"])
    taken = cache_folder(source)
    assert taken.parent == tmp_path / "elsewhere"
    assert (taken / "of_this_package" / "loops.sum_of-4.py311.1.nbc").read_bytes() == b"code"


RUN = "from loops import sum_of; assert sum_of(1, 2) == 3; print(len(sum_of.stats.cache_hits))"


def _start(folder: Path, **variables: str) -> subprocess.Popen[str]:
    env = os.environ | {"PYTHONPATH": f"{folder}:{Path(__file__).parents[3]}"} | variables
    return subprocess.Popen([sys.executable, "-c", RUN], env=env, stdout=subprocess.PIPE, text=True)


def test_processes_that_begin_together_and_one_that_follows(tmp_path: Path) -> None:
    folder = _source(tmp_path / "package").parent
    together = [_start(folder) for _ in range(3)]
    assert [one.communicate(timeout=120)[0].strip() in ("0", "1") for one in together] == [True] * 3
    assert _start(folder).communicate(timeout=120)[0].strip() == "1"


def test_where_nothing_can_be_kept_it_computes(tmp_path: Path) -> None:
    source = _source(tmp_path / "package")
    _read_only(source)
    one = _start(source.parent, HOME="/dev/null", TMPDIR="/dev/null")
    assert one.communicate(timeout=120)[0].strip() == "0"
    assert one.returncode == 0


def test_a_damaged_file_is_no_obstacle(tmp_path: Path) -> None:
    folder = _source(tmp_path / "package").parent
    assert _start(folder).communicate(timeout=120)[0].strip() == "0"
    kept = [path for path in folder.rglob("*") if path.suffix in (".nbi", ".nbc")]
    assert len(kept) == 2
    for path in kept:
        path.write_bytes(path.read_bytes()[:40])
    assert _start(folder).communicate(timeout=120)[0].strip() == "0"
