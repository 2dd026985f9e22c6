"""What surrounds the schedulers, whichever runs the steps."""

import time
from pathlib import Path

import pytest
from nipype.pipeline import engine as pe
from nipype.pipeline.plugins import base

from bids_sr.config.plugin import Plugin
from bids_sr.execution.execute import _steady_time, execute
from bids_sr.slurm.calls import SlurmError


def test_schedulers_count_time_by_a_clock_that_nobody_sets() -> None:
    """nipype sleeps until a time of the day: for a day, where the clock is put back by one
    meanwhile.
    """
    before = base.time
    with _steady_time():
        assert base.time is time.monotonic
    assert base.time is before


def test_what_slurm_refuses_is_told_where_nothing_can_be_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise SlurmError("sbatch ended with 1", "invalid partition", "mend what it names")

    monkeypatch.setattr(pe.Workflow, "run", refused)
    found = execute(
        pe.Workflow("wf", base_dir=str(tmp_path)),
        nprocs=1,
        mem_gb=1,
        crash_dir=tmp_path / "absent",
        plugin=Plugin(),
    )
    (told,) = found.crashes
    assert (told.what, told.code) == ("sbatch ended with 1", "slurm")
    assert told.remedy.startswith("mend what it names. Then run the same command again")
