"""Configure the tests: several workers for the whole suite, one process for chosen tests, and
allowed skips.
"""

import gc
import os
import sqlite3
import sys
from collections.abc import Callable
from typing import Any

MOST_WORKERS = 4
# Workers share the processors; a library that uses all of them in every worker would
# only wait.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import pytest  # noqa: E402
from hypothesis import settings  # noqa: E402

# Examples are slower on a busy machine, which is no fault of the program.
settings.register_profile("suite", deadline=None)
settings.load_profile("suite")


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Return the number of workers for ``-n auto``, which setup.cfg sets.

    Tests that are chosen by path run in this process, because they start sooner. There is one
    worker more than processors, because many tests wait for programs that they start.
    """
    if config.args_source is not pytest.Config.ArgsSource.TESTPATHS:
        return 0
    return min(len(os.sched_getaffinity(0)) + 1, MOST_WORKERS)


TOGETHER = (
    ("tests/e2e/test_documented_scripts.py", "tests/e2e/test_whole_run.py"),
    ("tests/unit/api/",),
    ("tests/unit/phantom/",),
)
"""Prefixes of tests that share slow fixtures; two workers would each compute them."""


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Keep the tests of a file in one worker, and likewise each group of `TOGETHER`."""
    from xdist.scheduler import LoadScopeScheduling

    if config.getoption("dist") != "loadscope":
        return None

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            return next((names[0] for names in TOGETHER if file.startswith(names)), file)

    return ByFile(config, log)


def pytest_collection_finish() -> None:
    """Exclude modules and tests from garbage collection, because they are needed until the end."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def one_list_of_entities() -> None:
    """Fill the list of entities of pybids once.

    pybids writes the same entities one by one into the database of every index. Databases in
    memory start with a copy of the first one here.
    """
    if (database := sys.modules.get("bids.layout.db")) is not None:
        _begin_with_a_copy(database.ConnectionManager)


def _begin_with_a_copy(manager: Any) -> None:
    reset_original: Callable[..., None] = manager.reset_database
    if reset_original.__module__ == __name__:
        return
    from bids.layout import models

    databases: dict[tuple[str, ...], Any] = {}

    def reset_database(self: Any, init_args: Any, config: Any) -> None:
        if self.database_file is not None or any(
            name not in ("bids", "derivatives") for name in config
        ):
            reset_original(self, init_args, config)
            return
        names, connection = tuple(config), self.engine.raw_connection().driver_connection
        if names in databases:
            databases[names].backup(connection)
            self.session.add(models.LayoutInfo(**init_args))
            self.session.commit()
            return
        reset_original(self, init_args, config)
        databases[names] = sqlite3.connect(":memory:")
        connection.backup(databases[names])
        databases[names].execute("DELETE FROM layout_info")
        databases[names].commit()

    manager.reset_database = reset_database


WITHOUT = {
    "browser": ("no Chromium on this machine", "could not import 'playwright"),
    "axe": ("BIDS_SR_AXE names no axe-core",),
    "shellcheck": ("shellcheck is not installed",),
    "slurm": ("BIDS_SR_TEST_SLURM does not name",),
    "cgroups": ("no control group of this machine keeps memory limits",),
    "container": ("names no container engine",),
}
"""Skip messages of tests without a tool; a CI job has each of the tools."""
ALWAYS = (
    "root may write anywhere",
    "this machine allows no name space of its own",
    "SCIPY_ARRAY_API is not set",  # checks of scikit-learn
    "could not import 'statsmodels",  # reference for scipy
)
"""Skip messages that are allowed on any machine."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add an option with the tools whose absence may skip tests."""
    parser.addoption(
        "--strict-skips",
        metavar="TOOLS",
        help=f"a skip fails, but for want of these tools ({','.join(WITHOUT)}; none: 'none')",
    )


def _unexpected(config: pytest.Config) -> list[str]:
    """Return unexpected skips with their messages."""
    tools = config.getoption("--strict-skips")
    if tools is None:
        return []
    allowed = [*ALWAYS, *(text for tool in tools.split(",") for text in WITHOUT.get(tool, ()))]
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    skipped = [] if reporter is None else reporter.stats.get("skipped", [])
    reasons = [
        (report.nodeid, report.longrepr[2] if report.longrepr else "") for report in skipped
    ]
    return [f"{test}: {why}" for test, why in reasons if not any(text in why for text in allowed)]


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail the session if there is an unexpected skip."""
    if not hasattr(session.config, "workerinput") and _unexpected(session.config):
        session.exitstatus = session.exitstatus or pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Print the unexpected skips."""
    for line in _unexpected(config):
        terminalreporter.line(f"SKIPPED and not expected: {line}", red=True)
