"""Digests of code cover everything that steps of the program call and read.

The digests are determined from source files (`bids_sr.io.code_digests`). If a call could not be
seen there, a change of the called function would leave old results valid.
"""

import ast
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType, SimpleNamespace

import pytest
from data.simulated_run import Scene
from graphmaker import planned_graph
from graphrunner import GraphRunner

import bids_sr
from bids_sr.engine.nodes import Handle
from bids_sr.engine.step import Step
from bids_sr.io.code_digests import read_program
from bids_sr.io.code_modules import Definition, read_module

FOLDER = Path(bids_sr.__file__).parent
DYNAMIC_IMPORTS = {
    ("bids_sr.config.tedana", "find_spec('tedana')"): "another package",
    ("bids_sr.io.template_files", "find_spec('nilearn')"): "another package",
    ("bids_sr.io.lazy", "import_module(f'{package}.{module_by_name[name]}')"): (
        "the digests read the table of names"
    ),
    ("bids_sr.sr.method", "import_module(_list_module_names()[name])"): "found by `__path__`",
    ("bids_sr.sr.method", "walk_packages(methods.__path__, f'{methods.__name__}.')"): (
        "found by `__path__`"
    ),
    ("bids_sr.sr.recipe", "import_module(f'bids_sr.sr.networks.{module}')"): (
        "found by the beginning of the name"
    ),
    (
        "bids_sr.workflows.figure_declarations",
        "import_module(f'{figure_steps.__name__}.{name}')",
    ): "declarations only",
    (
        "bids_sr.workflows.figure_declarations",
        "iter_modules(figure_steps.__path__)",
    ): "declarations only",
}
"""Imports by names that are only known at run time, and why no code is missed."""
DATA_FILES = {
    ("bids_sr.boilerplate", "path(name)"): "called with names of files",
    ("bids_sr.report.assembler", "boilerplate_path(name)"): "names in a list of literal texts",
}
"""Reads of data files whose names are no literal texts in the call, and why no file is missed."""


def _iterate_modules() -> Iterator[tuple[str, Path]]:
    """Yield names and files of all modules."""
    for root, _, names in os.walk(FOLDER):
        for file in (Path(root, name) for name in names if name.endswith(".py")):
            parts = file.relative_to(FOLDER.parent).with_suffix("").parts
            yield ".".join(parts).removesuffix(".__init__"), file


def _iterate_calls(words: str) -> Iterator[tuple[str, Path, str, ast.Call]]:
    """Yield module, file, name of the function and syntax tree of calls in modules whose text
    contains one of the words.
    """
    for module, file in _iterate_modules():
        if re.search(words, text := file.read_text(encoding="utf-8")):
            for node in ast.walk(ast.parse(text)):
                if isinstance(node, ast.Call):
                    yield module, file, ast.unparse(node.func).rpartition(".")[2], node


def test_imports_by_names_at_run_time_are_known() -> None:
    words = "import_module|__import__|find_spec|walk_packages|iter_modules"
    assert {
        (module, f"{name}({', '.join(map(ast.unparse, call.args))})")
        for module, _, name, call in _iterate_calls(words)
        if name in words.split("|")
    } == DYNAMIC_IMPORTS.keys()


def test_data_files_are_named_by_literal_texts() -> None:
    package = "bids_sr.boilerplate"
    readers = {Definition(package, name) for name in ("path", "data_of")}
    names: dict[str, set[str]] = {package: {"path", "data_of"}}
    calls = set()
    for module, file, name, call in _iterate_calls(r"\bboilerplate\b"):
        if module not in names:
            imports = read_module(module, file).imports
            names[module] = {alias for alias, found in imports.items() if found & readers}
        if name in names[module] and not isinstance(call.args[0], ast.Constant):
            calls.add((module, ast.unparse(call)))
    assert calls == DATA_FILES.keys()


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> dict[Step[..., object], set[Definition]]:
    """Return a dictionary that collects functions and classes that each step calls."""
    called: dict[Step[..., object], set[Definition]] = {}
    modules = {str(file): module for module, file in _iterate_modules()}
    run_on_files = Step.run_on_files

    def run(step: Step[..., object], *arguments: object) -> dict[str, object]:
        names = called.setdefault(step, set())
        n_imports = 0

        def record(frame: FrameType, event: str, _: object) -> None:
            nonlocal n_imports
            code = frame.f_code
            if code.co_name == "<module>":
                n_imports += {"call": 1, "return": -1}.get(event, 0)
            elif event == "call" and not n_imports and code.co_filename in modules:
                name = code.co_qualname.partition(".")[0]
                if not name.startswith("<"):
                    names.add(Definition(modules[code.co_filename], name))

        sys.setprofile(record)
        try:
            return run_on_files(step, *arguments)  # type: ignore[arg-type]
        finally:
            sys.setprofile(None)

    monkeypatch.setattr(Step, "run_on_files", run)
    return called


@pytest.mark.slow
def test_digests_cover_all_functions_that_steps_call(
    calls: dict[Step[..., object], set[Definition]], tmp_path: Path
) -> None:
    scene = Scene(tmp_path).write()
    options = ("--sr-method", "sbl", "zerofill", "--sr-factor", "2", "--set", "run.sloppy=true")
    graph = planned_graph(SimpleNamespace(root=scene.bids), tmp_path, *options)
    (tmp_path / "steps").mkdir()
    handles = [Handle(node, output) for node in graph.nodes for output in node.step.outputs]
    GraphRunner(graph, tmp_path / "steps").load(*handles)
    missing = {
        (step.__name__, *definition)
        for step, definitions in calls.items()
        for definition in definitions
        - read_program().list_dependencies(step.__module__, step.__name__)
    }
    assert len(calls) > 40
    assert sum(map(len, calls.values())) > 2000
    assert missing == set()
