"""Test crash files, which users and the report read."""

import errno
import os
import traceback
from pathlib import Path

import pytest
from data.dataset import BidsMaker
from dyingnode import Die
from graphmaker import planned_graph
from nipype import config
from nipype.pipeline import engine as pe

from bids_sr.execution import crash
from bids_sr.execution.crash import _find_cause, report_crash
from bids_sr.io import atomic_files as files
from bids_sr.notices import CODES, Notice, UsageError, read_record
from bids_sr.pipeline.nipype_workflow import make_workflow
from bids_sr.pipeline.nodes import get_owner

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
    for part in (
        "Node: bids_sr_wf.sub_01_wf.fit\n",
        "Participant: sub-01\n",
        "Interface: dyingnode.Die\n",
        "Host: node17\n",
        "Declared memory: 1.50 GB\n",
        "Peak memory: 2.35 GB\n",
        "What happened: ValueError: the reason\n",
        "  value = 4\n",
        f"Directory: {node.output_dir()}\n",
        f"What to do: {CODES['crashed'][1]}\n",
    ):
        assert part in text, part
    assert text.endswith("".join(TRACEBACK))


def test_a_reason_without_traceback_is_shown(node: pe.Node) -> None:
    notice = report_crash(
        node,
        {
            "traceback": ["the worker was killed twice"],
            "notice": Notice(what="", why="no memory", code="killed"),
        },
        [],
    )
    assert notice.why == "no memory"
    assert notice.remedy == CODES["killed"][1]
    assert Path(notice.file).read_text().endswith("\n\nTraceback:\nthe worker was killed twice\n")


def test_the_remedy_of_a_usage_error_is_in_the_notice(node: pe.Node) -> None:
    error = UsageError("the model gan does not fit", "another voxel size", "Train another.")
    notice = report_crash(
        node, {"traceback": traceback.format_exception(error), "notice": error.notice}, []
    )
    assert (notice.what, notice.why, notice.remedy, notice.code) == (
        node.fullname,
        "the model gan does not fit: another voxel size",
        "Train another.",
        "crashed",
    )
    assert "What to do: Train another.\n" in Path(notice.file).read_text()


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
    path = Path(notice.file)
    assert path.parent == Path(node.base_dir)
    assert path.exists()


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
def test_notice_codes_follow_from_the_error_text(why: str, code: str) -> None:
    assert _find_cause(why) == code


def test_a_full_disk_is_reported_with_its_free_space(node: pe.Node) -> None:
    place = files.find_file_system(Path(node.output_dir()))
    reason = report_crash(node, {"traceback": ["No space left on device"]}, []).why
    assert f"free on the file system {place}" in reason


def test_the_full_file_system_of_a_step_is_reported_once(node: pe.Node, tmp_path: Path) -> None:
    try:
        raise files.DiskFullError(tmp_path / "out" / "map.nii.gz", 10)
    except files.DiskFullError:
        reason = report_crash(node, None, []).why
    assert str(tmp_path / "out" / "map.nii.gz") in reason
    assert reason.count("free on the file system") == 1
    assert "fix:" not in reason


def test_labels_with_a_plus_sign_are_preserved(tmp_path: Path) -> None:
    """`+` is valid in labels since BIDS 1.10, but not in node names of nipype."""
    maker = BidsMaker(tmp_path / "sub-x (copy)" / "bids")
    maker.subject("A+B")
    maker.bold("sub-A+B_task-tap+2")
    maker.events("sub-A+B_task-tap+2")
    maker.subject("AB")
    workflow = make_workflow(
        planned_graph(maker, tmp_path), base_dir=tmp_path, need_gb=lambda need: need.always
    )
    nodes = [workflow.get_node(name) for name in workflow.list_node_names() if "sub_A__B" in name]
    assert {get_owner(step_node) for step_node in nodes} == {
        ("A+B", ""),
        ("A+B", "sub-A+B_task-tap"),
        ("A+B", "sub-A+B_task-tap+2"),
    }
    executed = workflow._create_flat_graph().nodes()
    assert {get_owner(step_node) for step_node in executed} >= {
        get_owner(step_node) for step_node in nodes
    }
