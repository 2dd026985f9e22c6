"""Digests change with source files, and with nothing else."""

import os
from pathlib import Path

import pytest

from bids_sr.io import code_digests
from bids_sr.io.code_digests import digest_files, find_outside_file


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return the folder of a program of two modules and a compiled one."""
    folder = tmp_path / "program"
    (folder / "__pycache__").mkdir(parents=True)
    for name in ("one.py", "two.json", "__pycache__/one.pyc"):
        _write(folder / name, "1")
    return folder


def _write(file: Path, text: str, *, time: float = 100) -> None:
    file.write_text(text)
    os.utime(file, (time, time))


def _digest(*paths: Path) -> str:
    """Return the digest that another process computes."""
    digest_files.cache_clear()
    return digest_files(*paths)


@pytest.mark.parametrize("name", ["one.py", "two.json", "three.py"])
def test_a_digest_changes_with_the_content_of_any_file(folder: Path, name: str) -> None:
    before = _digest(folder)
    assert _digest(folder) == before
    _write(folder / name, "2")
    assert _digest(folder) != before


def test_a_digest_depends_on_names_and_not_on_times_and_compiled_files(folder: Path) -> None:
    before = _digest(folder)
    _write(folder / "one.py", "1", time=200)
    _write(folder / "__pycache__" / "one.pyc", "2")
    assert _digest(folder) == before
    (folder / "one.py").rename(folder / "other.py")
    assert _digest(folder) != before


def test_a_file_that_changed_while_older_code_may_run_has_another_digest(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digests = []
    for start in (50, 150):
        monkeypatch.setattr(code_digests, "_START", start)
        digests.append(_digest(folder / "one.py"))
    assert digests[0] != digests[1]


def test_functions_and_objects_outside_of_the_program_have_a_file() -> None:
    typed_at_a_prompt = type("Typed", (), {"__module__": "typed_at_a_prompt"})
    assert find_outside_file(_write) == Path(__file__)
    assert find_outside_file(digest_files) is None
    assert find_outside_file(typed_at_a_prompt()) is None
    assert find_outside_file(None) is None
