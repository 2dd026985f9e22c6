#!/usr/bin/env python3
"""Check that functions stand below the functions of their file that call them.

usage: .ci/call_order.py [PATH ...]

Calls are names of functions of the module, and of private methods in methods of their class. A
call may lead up if the functions call each other, or if the called function has to be defined
first: it is a decorator or default, or it runs when the module is imported.
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CODE = ("bids_sr", "workflows", "boilerplate")
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
COMPILER = "compile_for"  # decorator that compiles a function when its module is imported


def main(paths: list[str]) -> int:
    """Print calls that lead up without need, and the number of calls that lead down."""
    roots = [Path(path) for path in paths] or [ROOT / name for name in CODE]
    files = [file for root in roots for file in sorted(root.rglob("*.py")) or [root]]
    calls = [(file, *call) for file in files for call in list_calls(file)]
    errors = [call for call in calls if not any(call[3:])]
    for file, caller, callee, *_ in errors:
        print(f"{file}: {callee} stands above {caller}, which calls it. Move it down.")
    downward = [file for file, *_, is_down, _ in calls if is_down]
    n_mixed = len(set(downward) & {file for file, *_, is_down, _ in calls if not is_down})
    print(f"{len(downward)} of {len(calls)} calls lead down; {n_mixed} files have both directions")
    return int(bool(errors))


def list_calls(file: Path) -> Iterator[tuple[str, str, bool, bool]]:
    """Yield caller, called function, whether the call leads down, and whether it may lead up."""
    module = ast.parse(file.read_text(encoding="utf-8"))
    for scope in (module, *(node for node in module.body if isinstance(node, ast.ClassDef))):
        in_class = scope is not module
        nodes = {name: node for node in reversed(scope.body) for name in list_names(node)}
        functions = {name for name, node in nodes.items() if isinstance(node, FUNCTIONS)}
        if in_class:
            functions = {name for name in functions if name[0] == "_" != name[1]}
        reads = {name: set(list_reads(node, in_class, True)) for name, node in nodes.items()}
        calls = {
            name: {read for read, _ in reads[name]} & functions - {name, *list_stored(node)}
            for name, node in nodes.items()
            if hasattr(node, "body")
        }
        below = {name: set(calls.get(name, ())) for name in nodes}
        for name in nodes:
            needs = {read for read, at_import in reads[name] if at_import} & set(nodes)
            for need in needs | reach(needs & functions, calls):
                below[need].add(name)
        for caller, callees in calls.items():
            for callee in sorted(callees):
                is_down = nodes[caller].lineno < nodes[callee].lineno
                yield caller, callee, is_down, caller in reach({callee}, below)


def list_names(node: ast.AST) -> list[str]:
    """Return the names that a statement defines or assigns."""
    return [node.name] if hasattr(node, "name") else list_stored(node)


def list_stored(node: ast.AST) -> list[str]:
    """Return the names of variables and parameters in code."""
    names = [part for part in ast.walk(node) if isinstance(part, ast.Name)]
    parameters = [part.arg for part in ast.walk(node) if isinstance(part, ast.arg)]
    return [*parameters, *(name.id for name in names if isinstance(name.ctx, ast.Store))]


def list_reads(node: ast.AST, in_class: bool, at_import: bool) -> Iterator[tuple[str, bool]]:
    """Yield the names that code reads, and whether it reads them when the module is imported."""
    if isinstance(node, ast.Name) and (at_import or not in_class):
        yield node.id, at_import
    if isinstance(node, ast.Attribute) and in_class and ast.unparse(node.value) in ("self", "cls"):
        yield node.attr, at_import
    is_compiled = COMPILER in " ".join(map(ast.unparse, getattr(node, "decorator_list", ())))
    for field, value in ast.iter_fields(node):
        is_run = at_import and (is_compiled or field != "body" or not isinstance(node, FUNCTIONS))
        for part in value if isinstance(value, list) else [value]:
            if isinstance(part, ast.AST):
                yield from list_reads(part, in_class, is_run)


def reach(starts: set[str], edges: dict[str, set[str]]) -> set[str]:
    """Return names, and all names to which their edges lead."""
    names: set[str] = set()
    while starts:
        names |= starts
        starts = {end for start in starts for end in edges.get(start, ())} - names
    return names


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
