"""The code around the schedulers."""

import time
from pathlib import Path

import pytest
from nipype.pipeline import engine as pe
from nipype.pipeline.plugins import base

from bids_sr.engine.execute import execute
from bids_sr.engine.slurm.commands import SlurmError


def test_a_slurm_error_is_reported_and_the_clock_is_monotonic_during_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the system clock were set back by a day, nipype would sleep for a day. The log directory
    cannot be written.
    """
    clocks = []

    def fail(*_: object, **__: object) -> None:
        clocks.append(base.time)
        raise SlurmError("sbatch ended with 1", "invalid partition", "mend what it names")

    monkeypatch.setattr(pe.Workflow, "run", fail)
    before = base.time
    outcome = execute(
        pe.Workflow("wf", base_dir=str(tmp_path)),
        nprocs=1,
        mem_gb=1,
        crash_dir=tmp_path / "absent",
    )
    assert clocks == [time.monotonic]
    assert base.time is before
    (crash,) = outcome.crashes
    assert (crash.what, crash.code) == ("sbatch ended with 1", "slurm")
    assert crash.remedy.startswith("mend what it names")
