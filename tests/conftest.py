"""How the tests run: all of them on several cores, chosen ones in this process."""

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

import pytest  # noqa: E402


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Workers of ``-n auto``, which setup.cfg asks for: none where tests were chosen by path, as
    they start sooner.
    """
    if config.args_source is not pytest.Config.ArgsSource.TESTPATHS:
        return 0
    return min(len(os.sched_getaffinity(0)), MOST_WORKERS)


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
        if self.database_file is not None or not {"bids", "derivatives"}.issuperset(config):
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
