"""The plugin must end, whatever happens to its workers."""

import time
from pathlib import Path

import pytest
from dyingnode import Die
from nipype.pipeline import engine as pe

from bids_sr.workflows.multiproc import ResilientMultiProc


def _workflow(base: Path, **second) -> pe.Workflow:
    workflow = pe.Workflow("wf", base_dir=str(base))
    workflow.config["execution"] = {
        "poll_sleep_duration": "0.05",
        "crashdump_dir": str(base),
        "crashfile_format": "txt",
    }
    first, other, last = (pe.Node(Die(), name=name, mem_gb=0.1) for name in ("first", "other", "last"))
    first.inputs.value, other.inputs.value = 1, 10
    first.inputs.trait_set(**second)
    workflow.connect(first, "out", last, "value")
    workflow.add_nodes([other])
    return workflow


def _run(workflow: pe.Workflow):
    return workflow.run(plugin=ResilientMultiProc({"n_procs": 2, "memory_gb": 2.0}))


@pytest.mark.timeout(120)
def test_node_killed_once_is_tried_again(tmp_path):
    done = _run(_workflow(tmp_path, marker=str(tmp_path / "marker")))
    assert {node.name: node.result.outputs.out for node in done.nodes()} == {
        "first": 2,
        "other": 11,
        "last": 3,
    }


@pytest.mark.timeout(120)
def test_node_killed_always_crashes_with_its_name_and_the_rest_goes_on(tmp_path):
    start = time.time()
    with pytest.raises(RuntimeError, match=r"first.*killed twice.*--mem"):
        _run(_workflow(tmp_path, always=True))
    assert time.time() - start < 60
    assert (tmp_path / "wf/other/result_other.pklz").exists()
    crash = next(iter(tmp_path.glob("crash*first*.txt")))
    assert "killed twice" in crash.read_text()
