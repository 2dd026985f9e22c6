"""A BOLD run from the folder to its first step: which classes hold it on the way."""

import inspect
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from bidsmaker import BidsMaker
from graphmaker import made_by, nodes_of

from bids_sr.bids import BoldRun
from bids_sr.config import Paths, Selection, Settings
from bids_sr.preflight import check
from bids_sr.workflows.participant import graph_of

MOST = 8


def _classes() -> Iterator[type]:
    """Classes of the program that are imported by now."""
    modules = [module for name, module in sys.modules.items() if name.startswith("bids_sr")]
    for module in modules:
        for found in vars(module).values():
            if inspect.isclass(found) and found.__module__ == module.__name__:
                yield found


def _values(thing: object) -> Iterator[object]:
    """What stands in the fields of an object, and in containers in them."""
    names = [name for each in type(thing).__mro__ for name in getattr(each, "__slots__", ())]
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


def holders_of(bold: Path, made: list[object]) -> set[str]:
    """Names of the classes of which an object holds a run, or something that holds it."""
    holding = {id(each) for each in made if isinstance(each, BoldRun) and each.bold == bold}
    rest = [(each, {id(value) for value in _values(each)}) for each in made]
    found = -1
    while found != len(holding):
        found = len(holding)
        holding |= {id(each) for each, inside in rest if inside & holding}
    return {type(each).__name__ for each in made if id(each) in holding}


def test_a_run_meets_few_holders_on_its_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    maker = BidsMaker(tmp_path / "bids")
    maker.subject()
    out = tmp_path / "out"
    paths = Paths(bids_dir=maker.root, output_dir=out, work_dir=tmp_path / "work")
    settings = Settings(paths=paths, selection=Selection(skip_bids_validation=True))
    made: list[object] = []

    def followed(cls: type) -> None:
        init = cls.__init__  # type: ignore[misc]

        def noted(self: object, *args: object, **fields: object) -> None:
            init(self, *args, **fields)
            made.append(self)

        monkeypatch.setattr(cls, "__init__", noted)

    for cls in {each for each in _classes() if "__init__" in vars(each)}:
        followed(cls)
    plan = check(settings)
    assert plan.problems == ()
    graph = graph_of(settings, plan, "0")
    (run,) = plan.runs
    (first,) = nodes_of(graph, "import_series")
    assert made_by(graph, first, "bold_file") == [run.bold]
    found = holders_of(run.bold, made)
    assert {"BoldRun", "Subject", "Plan"} <= found
    assert len(found) <= MOST, sorted(found)
