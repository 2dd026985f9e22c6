"""Files are written completely or not at all, also on a full disk."""

import errno
import os
import pickle
from pathlib import Path

import pytest

from bids_sr.io import atomic_files as files
from bids_sr.io.atomic_files import (
    DiskFullError,
    atomic_file,
    remove_leftovers,
    write_bytes,
    write_text,
)


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_text_and_bytes_are_read_back_and_parents_are_created(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "er" / "a.json"
    assert write_text(target, "größer\n") == target
    assert target.read_text(encoding="utf-8") == "größer\n"
    assert write_bytes(target, b"\0\1").read_bytes() == b"\0\1"
    assert _names(tmp_path) == ["a.json"]


def test_writing_equal_content_keeps_the_modification_time(tmp_path: Path) -> None:
    target = write_text(tmp_path / "a.tsv", "x\n")
    os.utime(target, ns=(1, 1))
    write_text(target, "x\n")
    with atomic_file(target) as part:
        part.write_text("x\n")
    assert target.stat().st_mtime_ns == 1
    write_text(target, "y\n")
    assert target.stat().st_mtime_ns != 1


@pytest.mark.parametrize("error", [ValueError("x"), KeyboardInterrupt()])
def test_a_failed_write_leaves_only_the_old_file(tmp_path: Path, error: BaseException) -> None:
    target = write_text(tmp_path / "a.tsv", "old")

    def fails() -> None:
        with atomic_file(target) as part:
            part.write_text("half")
            assert target.read_text() == "old"
            raise error

    with pytest.raises(type(error)):
        fails()
    assert target.read_text() == "old"
    assert _names(tmp_path) == ["a.tsv"]


def test_error_of_a_full_disk_names_file_system_and_required_space(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = write_text(tmp_path / "a.tsv", "old")

    def raise_disk_full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files.os, "fsync", raise_disk_full)
    with pytest.raises(DiskFullError) as error:
        write_bytes(target, b"x" * 2500)
    text = str(error.value)
    assert str(files.find_file_system(tmp_path)) in text
    assert "2.5 kB" in text
    assert error.value.errno == errno.ENOSPC
    assert target.read_text() == "old"
    assert _names(tmp_path) == ["a.tsv"]
    assert text in str(pickle.loads(pickle.dumps(error.value)))


def test_only_leftovers_of_killed_writers_are_removed(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    part = files.temporary_name(tmp_path / "sub" / "image.nii.gz")
    part.write_text("half")
    for name in ("image.nii.gz", ".bidsignore", "a.part"):
        (tmp_path / "sub" / name).write_text("whole")
    assert len(list(tmp_path.rglob("*.nii.gz"))) == 1, "leftovers do not match final names"
    assert remove_leftovers(tmp_path) == 1
    assert _names(tmp_path) == [".bidsignore", "a.part", "image.nii.gz"]
