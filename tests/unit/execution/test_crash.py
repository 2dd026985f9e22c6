"""Crash files can be read by people and by our own report, and the command in them runs the step
alone.
"""

import errno
import os
import shlex
import subprocess
import traceback
from pathlib import Path

import pytest
from bidsmaker import BidsMaker
from dyingnode import Die
from graphmaker import planned_graph
from nipype import config
from nipype.pipeline import engine as pe

from bids_sr.cli import rerun
from bids_sr.execution import crash
from bids_sr.execution.crash import _cause_of, report_crash
from bids_sr.io import atomic_files as files
from bids_sr.notices import CODES, Notice, UsageError, recorded
from bids_sr.pipeline.nipype_workflow import workflow_of
from bids_sr.pipeline.nodes import owner_of

WHY = ["Traceback (most recent call last):\n", "  line\n", "ValueError: the reason\n"]


@pytest.fixture
def node(tmp_path: Path) -> pe.Node:
    """A step of a participant that never ran."""
    workflow = pe.Workflow("bids_sr_wf", base_dir=str(tmp_path / "the work"))
    inner = pe.Workflow("sub_01_wf")
    inner.add_nodes([pe.Node(Die(value=4), name="fit", mem_gb=1.5)])
    workflow.add_nodes([inner])
    (made,) = workflow._create_flat_graph().nodes()
    made.base_dir = workflow.base_dir
    made.config = {key: dict(config._sections[key]) for key in config._sections}
    made.config["execution"]["crashdump_dir"] = str(tmp_path / "logs")
    made.owner = ("01", "")
    (tmp_path / "logs").mkdir()
    return made


def test_a_crash_file_names_all_and_its_command_runs_the_step(
    node: pe.Node, tmp_path: Path
) -> None:
    found = report_crash(node, {"traceback": WHY, "host": "node17", "peak_gb": 2.345}, [])
    assert recorded(tmp_path / "logs") == [found]
    assert (found.what, found.whom, found.code) == (node.fullname, "sub-01", "crashed")
    assert found.why == "ValueError: the reason"
    text = Path(found.file).read_text()
    for part in (
        "Node: bids_sr_wf.sub_01_wf.fit\n",
        "Participant: sub-01\n",
        "Interface: dyingnode.Die\n",
        "Host: node17\n",
        "declared by the step: 1.50 GB; peak memory of its process: 2.35 GB",
        "What happened: ValueError: the reason\n",
        "  value = 4\n",
        f"Directory: {node.output_dir()}\n",
        f"What to do: {CODES['crashed'][1]}\n",
    ):
        assert part in text, part
    assert text.endswith("".join(WHY))
    command = next(
        line.partition(": ")[2]
        for line in text.splitlines()
        if line.startswith("To run only this step")
    )
    again = subprocess.run(
        [*shlex.split(command), "-w", str(tmp_path / "alone")],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert again.returncode == 0, again.stderr
    assert "  out = 5\n" in again.stdout
    assert list((tmp_path / "alone").rglob("result_fit.pklz"))
    assert not list((tmp_path / "the work").rglob("result_fit.pklz"))


def test_a_text_that_is_no_traceback_is_shown_as_the_reason(node: pe.Node, tmp_path: Path) -> None:
    found = report_crash(
        node,
        {
            "traceback": ["the worker was killed twice"],
            "notice": Notice(what="", why="no memory", code="killed"),
        },
        [],
    )
    assert found.why == "no memory"
    assert found.remedy == CODES["killed"][1]
    assert Path(found.file).read_text().endswith("\n\nTraceback:\nthe worker was killed twice\n")


def test_an_error_that_tells_a_remedy_gives_it_to_the_notice(node: pe.Node) -> None:
    error = UsageError("the model gan does not fit", "another voxel size", "Train another.")
    found = report_crash(
        node, {"traceback": traceback.format_exception(error), "notice": error.notice}, []
    )
    assert (found.what, found.why, found.remedy, found.code) == (
        node.fullname,
        "the model gan does not fit: another voxel size",
        "Train another.",
        "crashed",
    )
    assert "What to do: Train another.\n" in Path(found.file).read_text()


def test_where_the_logs_are_full_the_crash_file_lies_in_the_work(
    node: pe.Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = files.write_whole

    def full(path: Path, text: str) -> Path:
        if path.is_relative_to(tmp_path / "logs"):
            raise files.DiskFullError(path, len(text))
        return whole(path, text)

    monkeypatch.setattr(crash.atomic_files, "write_whole", full)
    found = report_crash(node, {"traceback": WHY}, [])
    assert recorded(tmp_path / "logs") == [found]
    path = Path(found.file)
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
def test_the_code_follows_from_the_error(why: str, code: str) -> None:
    assert _cause_of(why) == code


def test_a_full_disk_is_told_with_its_room(node: pe.Node) -> None:
    place = files.file_system_of(Path(node.output_dir()))
    told = report_crash(node, {"traceback": ["No space left on device"]}, []).why
    assert f"free on the file system {place}" in told


def test_the_full_file_system_of_a_step_is_said_once_without_a_remedy_inside(
    node: pe.Node, tmp_path: Path
) -> None:
    try:
        raise files.DiskFullError(tmp_path / "out" / "map.nii.gz", 10)
    except files.DiskFullError:
        told = report_crash(node, None, []).why
    assert str(tmp_path / "out" / "map.nii.gz") in told
    assert told.count("free on the file system") == 1
    assert "fix:" not in told


def test_rerun_refuses_what_is_no_step(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert rerun.main([str(tmp_path)]) == 2
    assert "not the working directory of a step" in capsys.readouterr().err
    (tmp_path / "_node.pklz").write_bytes(b"cut")
    assert rerun.main([str(tmp_path)]) == 2
    assert "could not be read" in capsys.readouterr().err


def test_rerun_opens_nothing_of_another_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "_node.pklz"
    file.write_bytes(b"cos\nsystem\n(S'exit 1'\ntR.")
    os.chown(file, 4242, -1) if os.getuid() == 0 else monkeypatch.setattr(
        rerun.os, "getuid", lambda: 4242
    )
    assert rerun.main([str(tmp_path)]) == 2
    assert "belongs to another user" in capsys.readouterr().err


def test_a_step_that_fails_alone_too_is_told(
    node: pe.Node, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    node.interface._run_interface = None
    report_crash(node, {"traceback": WHY}, [])
    assert rerun.main([node.output_dir(), "-w", str(tmp_path / "alone")]) == 1
    assert "The step failed" in capsys.readouterr().err


def test_labels_with_a_plus_run_and_keep_their_names(tmp_path: Path) -> None:
    """`+` is legal in labels of BIDS 1.10, and in no name of nipype."""
    maker = BidsMaker(tmp_path / "sub-x (copy)" / "bids")
    maker.subject("A+B")
    maker.bold("sub-A+B_task-tap+2")
    maker.events("sub-A+B_task-tap+2")
    maker.subject("AB")
    workflow = workflow_of(
        planned_graph(maker, tmp_path), base_dir=tmp_path, need_gb=lambda need: need.always
    )
    nodes = [workflow.get_node(name) for name in workflow.list_node_names() if "sub_A__B" in name]
    assert {owner_of(each) for each in nodes} == {
        ("A+B", ""),
        ("A+B", "sub-A+B_task-tap"),
        ("A+B", "sub-A+B_task-tap+2"),
    }
    executed = workflow._create_flat_graph().nodes()
    assert {owner_of(each) for each in executed} >= {owner_of(each) for each in nodes}
