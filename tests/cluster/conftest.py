"""What tests with a SLURM of this machine share."""

from pathlib import Path

import pytest


@pytest.fixture
def confined(cluster: Path) -> None:
    """Jobs that take more memory than they asked for are ended by the kernel, which slurm-up asks
    of control groups (v1); where it cannot, SLURM looks now and then and tells no reason.
    """
    if not (cluster / "etc" / "cgroup.conf").read_text():
        pytest.skip("no control group of this machine keeps memory limits")
