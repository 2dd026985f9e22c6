"""Share fixtures of the tests with a SLURM on this machine."""

from pathlib import Path

import pytest


@pytest.fixture
def confined(cluster: Path) -> None:
    """Skip tests if the kernel cannot end jobs that exceed their memory.

    slurm-up sets this limit with control groups (v1). Without them, SLURM only polls the memory
    now and then and does not report a reason.
    """
    if not (cluster / "etc" / "cgroup.conf").read_text():
        pytest.skip("no control group of this machine keeps memory limits")
