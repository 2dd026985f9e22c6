"""Crash files, which users and the report read."""

import errno
import os
import traceback
from pathlib import Path

import pytest
from dyingnode import Die
from nipype import config
from nipype.pipeline import engine as pe

from bids_sr.engine import crash
from bids_sr.engine.crash import report_crash
from bids_sr.io import atomic_files as files
from bids_sr.io.notices import CODES, Notice, UsageError, read_record

TRACEBACK = ["Traceback (most recent call last):\n", "  line\n", "ValueError: the reason\n"]


@pytest.fixture
def node(tmp_path: Path) -> pe.Node:
    """Return a step of a participant that was never run."""
    workflow = pe.Workflow("bids_sr_wf", base_dir=str(tmp_path / "the work"))
    inner = pe.Workflow("sub_01_wf")
    inner.add_nodes([pe.Node(Die(value=4), name="fit", mem_gb=1.5)])
    workflow.add_nodes([inner])
    (step_node,) = workflow._create_flat_graph().nodes()
    step_node.base_dir = workflow.base_dir
    step_node.config = {key: dict(config._sections[key]) for key in config._sections}
    step_node.config["execution"]["crashdump_dir"] = str(tmp_path / "logs")
    step_node.owner = ("01", "")
    (tmp_path / "logs").mkdir()
    return step_node


def test_a_crash_file_describes_the_crash(node: pe.Node, tmp_path: Path) -> None:
    notice = report_crash(node, {"traceback": TRACEBACK, "host": "node17", "peak_gb": 2.345}, [])
    assert read_record(tmp_path / "logs") == [notice]
    assert (notice.what, notice.whom, notice.code) == (node.fullname, "sub-01", "crashed")
    assert notice.why == "ValueError: the reason"
    text = Path(notice.file).read_text()
    values = (node.fullname, "sub-01", "Die", "node17", "1.50 GB", "2.35 GB", notice.why)
    for value in (*values, "value = 4", str(node.output_dir()), CODES["crashed"][1]):
        assert value in text, value
    assert text.endswith("".join(TRACEBACK))


def test_reason_and_remedy_of_an_error_are_in_the_notice(node: pe.Node) -> None:
    killed = Notice(what="", why="no memory", code="killed")
    notice = report_crash(node, {"traceback": ["the worker died"], "notice": killed}, [])
    assert (notice.why, notice.remedy) == ("no memory", CODES["killed"][1])
    assert Path(notice.file).read_text().endswith("the worker died\n")
    error = UsageError("the model gan does not fit", "another voxel size", "Train another.")
    outcome = {"traceback": traceback.format_exception(error), "notice": error.notice}
    notice = report_crash(node, outcome, [])
    assert (notice.what, notice.code) == (node.fullname, "crashed")
    assert notice.why == "the model gan does not fit: another voxel size"
    assert notice.remedy == "Train another."
    assert "Train another." in Path(notice.file).read_text()


def test_the_crash_file_is_in_the_working_directory_if_the_log_disk_is_full(
    node: pe.Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_whole = files.write_text

    def fail_in_logs(path: Path, text: str) -> Path:
        if path.is_relative_to(tmp_path / "logs"):
            raise files.DiskFullError(path, len(text))
        return write_whole(path, text)

    monkeypatch.setattr(crash.atomic_files, "write_text", fail_in_logs)
    notice = report_crash(node, {"traceback": TRACEBACK}, [])
    assert read_record(tmp_path / "logs") == [notice]
    assert Path(notice.file).parent == Path(node.base_dir)
    assert Path(notice.file).exists()


@pytest.mark.parametrize(
    ("why", "code"),
    [
        (f"OSError: {os.strerror(errno.ENOSPC)}", "full"),
        (f"OSError: [Errno 122] {os.strerror(errno.EDQUOT)}", "full"),
        ("MemoryError", "memory"),
        ("numpy._core._exceptions._ArrayMemoryError: Unable to allocate 3 GiB", "memory"),
        ("RuntimeError: DefaultCPUAllocator: can't allocate memory", "memory"),
        ("RuntimeError: std::bad_alloc", "memory"),
        ("torch.OutOfMemoryError: CUDA out of memory", "memory"),
        ("PermissionError: [Errno 13] Permission denied: 'x'", "forbidden"),
        ("ValueError: 28 of 12", "crashed"),
    ],
)
def test_notice_codes_follow_from_the_error_text(why: str, code: str, node: pe.Node) -> None:
    assert report_crash(node, {"traceback": [why]}, []).code == code


def test_a_full_disk_is_reported_once_with_its_file_system(node: pe.Node, tmp_path: Path) -> None:
    place = files.find_file_system(Path(node.output_dir()))
    assert f" {place}" in report_crash(node, {"traceback": ["No space left on device"]}, []).why
    file = tmp_path / "out" / "map.nii.gz"
    try:
        raise files.DiskFullError(file, 10)
    except files.DiskFullError:
        reason = report_crash(node, None, []).why
    assert str(file) in reason
    assert reason.count("file system") == 1
