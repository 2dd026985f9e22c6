"""Count the classes that hold a BOLD run between the data set and its first step."""

import inspect
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from data.dataset import BidsMaker
from graphmaker import made_by, nodes_of

from bids_sr.bids import BoldRun
from bids_sr.config import Paths, Selection, Settings
from bids_sr.preflight import check
from bids_sr.workflows.participant import make_graph

MOST = 8


def _classes() -> Iterator[type]:
    """Yield classes of the program that are imported already."""
    modules = [module for name, module in sys.modules.items() if name.startswith("bids_sr")]
    for module in modules:
        for value in vars(module).values():
            if inspect.isclass(value) and value.__module__ == module.__name__:
                yield value


def _values(thing: object) -> Iterator[object]:
    """Yield the values in the fields of an object, also in nested containers."""
    names = [name for cls in type(thing).__mro__ for name in getattr(cls, "__slots__", ())]
    inside = [getattr(thing, name, None) for name in names]
    inside += vars(thing).values() if hasattr(thing, "__dict__") else []
    while inside:
        value = inside.pop()
        if isinstance(value, Mapping):
            inside += [*value.keys(), *value.values()]
        elif isinstance(value, list | tuple | set | frozenset):
            inside += value
        else:
            yield value


def holders_of(bold: Path, instances: list[object]) -> set[str]:
    """Return names of the classes whose instances hold a run, directly or indirectly."""
    holding = {
        id(thing) for thing in instances if isinstance(thing, BoldRun) and thing.bold == bold
    }
    rest = [(thing, {id(value) for value in _values(thing)}) for thing in instances]
    count = -1
    while count != len(holding):
        count = len(holding)
        holding |= {id(thing) for thing, inside in rest if inside & holding}
    return {type(thing).__name__ for thing in instances if id(thing) in holding}


def test_few_classes_hold_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    maker = BidsMaker(tmp_path / "bids")
    maker.subject()
    out = tmp_path / "out"
    paths = Paths(bids_dir=maker.root, output_dir=out, work_dir=tmp_path / "work")
    settings = Settings(paths=paths, selection=Selection(skip_bids_validation=True))
    instances: list[object] = []

    def follow(cls: type) -> None:
        init = cls.__init__  # type: ignore[misc]

        def record(self: object, *args: object, **fields: object) -> None:
            init(self, *args, **fields)
            instances.append(self)

        monkeypatch.setattr(cls, "__init__", record)

    for cls in {candidate for candidate in _classes() if "__init__" in vars(candidate)}:
        follow(cls)
    plan = check(settings)
    assert plan.problems == ()
    graph = make_graph(settings, plan, "0")
    (run,) = plan.runs
    (first,) = nodes_of(graph, "import_series")
    assert made_by(graph, first, "bold_file") == [run.bold]
    holders = holders_of(run.bold, instances)
    assert {"BoldRun", "Subject", "Plan"} <= holders
    assert len(holders) <= MOST, sorted(holders)
