"""Test the code around the schedulers."""

import time
from pathlib import Path

import pytest
from nipype.pipeline import engine as pe
from nipype.pipeline.plugins import base

from bids_sr.config.plugin import Plugin
from bids_sr.execution.execute import _monotonic_clock, execute
from bids_sr.slurm.commands import SlurmError


def test_schedulers_use_a_monotonic_clock() -> None:
    """If the system clock were set back by a day, nipype would sleep for a day."""
    before = base.time
    with _monotonic_clock():
        assert base.time is time.monotonic
    assert base.time is before


def test_a_slurm_error_is_reported_if_logs_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def raise_slurm_error(*_: object, **__: object) -> None:
        raise SlurmError("sbatch ended with 1", "invalid partition", "mend what it names")

    monkeypatch.setattr(pe.Workflow, "run", raise_slurm_error)
    outcome = execute(
        pe.Workflow("wf", base_dir=str(tmp_path)),
        nprocs=1,
        mem_gb=1,
        crash_dir=tmp_path / "absent",
        plugin=Plugin(),
    )
    (crash,) = outcome.crashes
    assert (crash.what, crash.code) == ("sbatch ended with 1", "slurm")
    assert crash.remedy.startswith("mend what it names. Then run the same command again")
