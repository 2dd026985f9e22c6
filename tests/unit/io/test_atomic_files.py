"""Whole files or none, also where the disk is full."""

import errno
import os
import pickle
from pathlib import Path

import pytest

from bids_sr.io import atomic_files as files
from bids_sr.io.atomic_files import (
    DiskFullError,
    remove_leftovers,
    whole_file,
    write_bytes,
    write_whole,
)


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_text_and_bytes_come_back_and_directories_are_made(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "er" / "a.json"
    assert write_whole(target, "größer\n") == target
    assert target.read_text(encoding="utf-8") == "größer\n"
    assert write_bytes(target, b"\0\1").read_bytes() == b"\0\1"
    assert _names(tmp_path) == ["a.json"]


def test_the_same_content_keeps_the_time(tmp_path: Path) -> None:
    target = write_whole(tmp_path / "a.tsv", "x\n")
    os.utime(target, ns=(1, 1))
    write_whole(target, "x\n")
    with whole_file(target) as part:
        part.write_text("x\n")
    assert target.stat().st_mtime_ns == 1
    write_whole(target, "y\n")
    assert target.stat().st_mtime_ns != 1


@pytest.mark.parametrize("end", [ValueError("x"), KeyboardInterrupt()])
def test_what_ends_the_writer_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, end: BaseException
) -> None:
    target = write_whole(tmp_path / "a.tsv", "old")

    def fails() -> None:
        with whole_file(target) as part:
            part.write_text("half")
            assert target.read_text() == "old"
            raise end

    with pytest.raises(type(end)):
        fails()
    assert target.read_text() == "old"
    assert _names(tmp_path) == ["a.tsv"]


def test_two_writers_of_one_file_do_not_meet(tmp_path: Path) -> None:
    with whole_file(tmp_path / "a") as one, whole_file(tmp_path / "a") as other:
        one.write_text("one")
        other.write_text("other")
        assert one != other
    assert (tmp_path / "a").read_text() == "one"


def test_a_full_disk_is_named_with_what_is_needed_and_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = write_whole(tmp_path / "a.tsv", "old")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(DiskFullError) as caught:
        write_bytes(target, b"x" * 2500)
    text = str(caught.value)
    assert str(files.file_system_of(tmp_path)) in text
    assert "2.5 kB" in text
    assert "free on the file system" in text
    assert "rerun the same command" in str(caught.value.notice)
    assert "fix:" not in text
    assert caught.value.errno == errno.ENOSPC
    assert target.read_text() == "old"
    assert _names(tmp_path) == ["a.tsv"]
    back = pickle.loads(pickle.dumps(caught.value))
    assert text in str(back)


def test_other_errors_of_the_system_stay_what_they_are(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError):
        write_bytes(tmp_path / "folder", b"x")
    assert _names(tmp_path) == []


def test_leftovers_of_killed_writers_are_removed_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    part = files.beside(tmp_path / "sub" / "image.nii.gz")
    part.write_text("half")
    for name in ("image.nii.gz", ".bidsignore", "a.part"):
        (tmp_path / "sub" / name).write_text("whole")
    # a leftover is found by no pattern of final names
    assert not list(tmp_path.rglob("*.nii.gz"))[1:]
    assert remove_leftovers(tmp_path) == 1
    assert _names(tmp_path) == [".bidsignore", "a.part", "image.nii.gz"]
