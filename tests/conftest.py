"""How the tests run: all of them on several cores, chosen ones in this process; and which may be
skipped.
"""

import gc
import os
import sqlite3
import sys
from collections.abc import Callable
from typing import Any

MOST_WORKERS = 4
# Workers stand beside one another: a library that took all cores in each of them would only wait
# for itself.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

# Weights that `bids-sr-models vgg19` keeps for whoever runs the tests must not change results.
os.environ["BIDS_SR_VGG19"] = "/nonexistent/vgg19.safetensors"

import pytest  # noqa: E402


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Workers of ``-n auto``, which setup.cfg asks for: none where tests were chosen by path, as
    they start sooner.
    """
    if config.args_source is not pytest.Config.ArgsSource.TESTPATHS:
        return 0
    return min(len(os.sched_getaffinity(0)), MOST_WORKERS)


TOGETHER = (
    ("tests/e2e/test_documented_scripts.py", "tests/e2e/test_whole_run.py"),
    ("tests/unit/api/",),
    ("tests/unit/phantom/",),
)
"""Tests that share what takes long to make, by how their names begin: two workers would each make
it.
"""


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """A file stays in one worker, and so does each of `TOGETHER`."""
    from xdist.scheduler import LoadScopeScheduling

    if config.getoption("dist") != "loadscope":
        return None

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            return next((names[0] for names in TOGETHER if file.startswith(names)), file)

    return ByFile(config, log)


def pytest_collection_finish() -> None:
    """Modules and tests stay to the end: who looks for garbage need not look through them."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def one_list_of_entities() -> None:
    """pybids writes its entities, which are always the same, one by one into the database of every
    index. Those in memory begin with a copy of the first here.
    """
    if (database := sys.modules.get("bids.layout.db")) is not None:
        _begin_with_a_copy(database.ConnectionManager)


def _begin_with_a_copy(manager: Any) -> None:
    written: Callable[..., None] = manager.reset_database
    if written.__module__ == __name__:
        return
    from bids.layout import models

    kept: dict[tuple[str, ...], Any] = {}

    def reset_database(self: Any, init_args: Any, config: Any) -> None:
        if self.database_file is not None or any(
            each not in ("bids", "derivatives") for each in config
        ):
            written(self, init_args, config)
            return
        names, own = tuple(config), self.engine.raw_connection().driver_connection
        if names in kept:
            kept[names].backup(own)
            self.session.add(models.LayoutInfo(**init_args))
            self.session.commit()
            return
        written(self, init_args, config)
        kept[names] = sqlite3.connect(":memory:")
        own.backup(kept[names])
        kept[names].execute("DELETE FROM layout_info")
        kept[names].commit()

    manager.reset_database = reset_database


WITHOUT = {
    "browser": ("no Chromium on this machine", "could not import 'playwright"),
    "axe": ("BIDS_SR_AXE names no axe-core",),
    "shellcheck": ("shellcheck is not installed",),
    "slurm": ("BIDS_SR_TEST_SLURM does not name",),
    "cgroups": ("no control group of this machine keeps memory limits",),
    "container": ("names no container engine",),
    "others": ("BIDS_SR_TEST_OTHERS does not name", "could not import 'reftrace"),
}
"""What tests do without a tool say of their skip; a job of CI has each of the tools."""
ALWAYS = (
    "root may write anywhere",
    "this machine allows no name space of its own",
    "SCIPY_ARRAY_API is not set",  # checks of scikit-learn
    "could not import 'statsmodels",  # beside scipy's answers
)
"""What may be skipped on any machine."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """The tools without which tests may be skipped."""
    parser.addoption(
        "--strict-skips",
        metavar="TOOLS",
        help=f"a skip fails, but for want of these tools ({','.join(WITHOUT)}; none: 'none')",
    )


def _unexpected(config: pytest.Config) -> list[str]:
    """Skips for which there is no reason here, each with what it said."""
    tools = config.getoption("--strict-skips")
    if tools is None:
        return []
    allowed = [*ALWAYS, *(text for tool in tools.split(",") for text in WITHOUT.get(tool, ()))]
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    skipped = [] if reporter is None else reporter.stats.get("skipped", [])
    told = [(each.nodeid, each.longrepr[2] if each.longrepr else "") for each in skipped]
    return [f"{test}: {why}" for test, why in told if not any(text in why for text in allowed)]


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """A skip that is not expected fails the run."""
    if not hasattr(session.config, "workerinput") and _unexpected(session.config):
        session.exitstatus = session.exitstatus or pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Name the skips that are not expected."""
    for line in _unexpected(config):
        terminalreporter.line(f"SKIPPED and not expected: {line}", red=True)
