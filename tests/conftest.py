"""How the tests run: all of them on several cores, chosen ones in this process."""

import os

MOST_WORKERS = 4
# Workers stand beside one another: a library that took all cores in each of them would only wait
# for itself.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import pytest  # noqa: E402


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Workers of ``-n auto``, which setup.cfg asks for: none where tests were chosen by path, as
    they start sooner.
    """
    if config.args_source is not pytest.Config.ArgsSource.TESTPATHS:
        return 0
    return min(len(os.sched_getaffinity(0)), MOST_WORKERS)
