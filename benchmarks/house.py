"""The size of the house: what a reader meets in the program, counted on one checkout or on two.

python benchmarks/house.py [--before CHECKOUT] [--after CHECKOUT]

`--before` is another checkout, such as a worktree of the commit to compare with; `--after` is this
one unless given. Counted is the product, `bids_sr` and `workflows`: tokens of code (no comments,
docstrings, line ends, so that the layout of lines does not count), statements, classes and those
of one name, functions, names that modules offer, annotations of parameters and returned values
that say `Any` (or that take it from an alias, which is counted apart), files that import one
another in a circle at whatever place, and imports against the rule of the layers that the
checkout's own `tests/contracts/test_layers.py` holds. Beside it the tokens of tests and
benchmarks. Writes benchmarks/results/house.{json,md}.
"""

import argparse
import ast
import importlib.util
import io
import tokenize
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from types import ModuleType

from _table import keep

ROOT = Path(__file__).parents[1]
PRODUCT = ("bids_sr", "workflows")
NO_CODE = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENCODING,
    tokenize.ENDMARKER,
}
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
Trees = Mapping[Path, ast.Module]


@cache
def trees_of(*folders: Path) -> Trees:
    """Every Python file below folders, parsed."""
    files = (path for folder in folders for path in sorted(folder.rglob("*.py")))
    return {path: ast.parse(path.read_text(encoding="utf-8")) for path in files}


def tokens_of(text: str, tree: ast.Module) -> int:
    """Tokens of code.

    >>> text = 'def f():  # one\\n    "two"\\n    return 1\\n'
    >>> tokens_of(text, ast.parse(text))
    7
    """
    documented = (ast.Module, ast.ClassDef, *FUNCTIONS)
    nodes = (
        node
        for node in ast.walk(tree)
        if isinstance(node, documented) and ast.get_docstring(node) is not None
    )
    docs = {(node.body[0].lineno, node.body[0].col_offset) for node in nodes}
    found = tokenize.generate_tokens(io.StringIO(text).readline)
    return sum(
        1
        for each in found
        if each.type not in NO_CODE and (each.type != tokenize.STRING or each.start not in docs)
    )


def _tokens(trees: Trees) -> int:
    return sum(tokens_of(path.read_text(encoding="utf-8"), tree) for path, tree in trees.items())


def nodes_of(trees: Trees) -> Iterator[ast.AST]:
    """All nodes of all files."""
    return (node for tree in trees.values() for node in ast.walk(tree))


def public_names(tree: ast.Module) -> Iterator[str]:
    """What a module offers: functions, classes and values at its top whose names do not begin with
    `_`.
    """
    for node in tree.body:
        if isinstance(node, (ast.ClassDef, *FUNCTIONS)):
            names = [node.name]
        elif isinstance(node, ast.Assign):
            names = [each.id for each in node.targets if isinstance(each, ast.Name)]
        else:
            names = (
                [node.target.id]
                if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
                else []
            )
        yield from (name for name in names if not name.startswith("_"))


def annotations_of(trees: Trees) -> Iterator[ast.expr]:
    """Annotations of parameters and of returned values."""
    for node in nodes_of(trees):
        if isinstance(node, FUNCTIONS):
            every = node.args
            found = [*every.posonlyargs, *every.args, *every.kwonlyargs, every.vararg, every.kwarg]
            yield from (
                each.annotation
                for each in found
                if each is not None and each.annotation is not None
            )
            if node.returns is not None:
                yield node.returns


def names_in(annotation: ast.expr) -> set[str]:
    """Names that an annotation says, those in quotes too.

    >>> sorted(names_in(ast.parse("dict[str, 'list[np.Any]']", mode="eval").body))
    ['Any', 'dict', 'list', 'np', 'str']
    """
    found = set[str]()
    for node in ast.walk(annotation):
        if isinstance(node, ast.Name):
            found.add(node.id)
        elif isinstance(node, ast.Attribute):
            found.add(node.attr)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            try:
                found |= names_in(ast.parse(node.value, mode="eval").body)
            except SyntaxError:
                continue
    return found


def aliases_of_any(trees: Trees) -> set[str]:
    """Names of types, at the top of a module, that stand for one with `Any` in it."""
    types = (ast.Subscript, ast.BinOp, ast.Name)
    named = {
        target.id: names_in(node.value)
        for tree in trees.values()
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, types)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    found = {"Any"}
    while new := {name for name, said in named.items() if said & found} - found:
        found |= new
    return found - {"Any"}


def module_names(root: Path, trees: Trees) -> dict[str, Path]:
    """Files by the names under which they are imported; `workflows` installs below `bids_sr`."""
    found = {}
    for path in trees:
        parts = path.relative_to(root).with_suffix("").parts
        parts = parts if parts[0] == "bids_sr" else ("bids_sr", *parts)
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imported(name: str, path: Path, tree: ast.Module, modules: Mapping[str, Path]) -> set[str]:
    """Modules of the program that one imports, wherever the import stands."""
    found = set[str]()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                found.add(f"{base}.{alias.name}" if f"{base}.{alias.name}" in modules else base)
    return (found & set(modules)) - {name}


def circles(edges: Mapping[str, set[str]]) -> list[set[str]]:
    """Groups that reach one another.

    >>> circles({"a": {"b"}, "b": {"a", "c"}, "c": set()}) == [{"a", "b"}]
    True
    """
    reached = {name: _reached(name, edges) for name in edges}
    found: list[set[str]] = []
    for name in edges:
        group = {other for other in reached[name] if name in reached.get(other, set())}
        if len(group) > 1 and group not in found:
            found.append(group)
    return found


def _reached(name: str, edges: Mapping[str, set[str]]) -> set[str]:
    seen, open_ = set[str](), [name]
    while open_:
        new = edges.get(open_.pop(), set()) - seen
        seen |= new
        open_ += new
    return seen


def strays(root: Path) -> int:
    """Imports against the layers, by the rule that the checkout has."""
    rule = _module(root / "tests/contracts/test_layers.py")
    return sum(len(rule.strays(path.read_text(encoding="utf-8"), path)) for path in rule.sources())


def _module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def counted(root: Path) -> dict[str, int]:
    """Everything that is counted on a checkout."""
    trees = trees_of(*(root / folder for folder in PRODUCT))
    nodes = list(nodes_of(trees))
    classes = Counter(node.name for node in nodes if isinstance(node, ast.ClassDef))
    said = [names_in(each) for each in annotations_of(trees)]
    hidden = aliases_of_any(trees)
    modules = module_names(root, trees)
    edges = {name: imported(name, path, trees[path], modules) for name, path in modules.items()}
    return {
        "tokens": _tokens(trees),
        "files": len(trees),
        "statements": sum(isinstance(node, ast.stmt) for node in nodes),
        "functions": sum(isinstance(node, FUNCTIONS) for node in nodes),
        "public names": sum(1 for tree in trees.values() for _ in public_names(tree)),
        "classes": sum(classes.values()),
        "class names used twice": sum(1 for count in classes.values() if count > 1),
        "Any in annotations of parameters and returns": sum("Any" in each for each in said),
        "Any there by an alias alone": sum(
            "Any" not in each and bool(each & hidden) for each in said
        ),
        "circles of imports between files": len(circles(edges)),
        "imports against the layers": strays(root),
        "tokens of tests": _tokens(trees_of(root / "tests")),
        "tokens of benchmarks": _tokens(trees_of(root / "benchmarks")),
    }


def main() -> None:
    """Count, and keep the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--before", type=Path)
    parser.add_argument("--after", type=Path, default=ROOT)
    given = parser.parse_args()
    places = {"before": given.before, "after": given.after}
    found = {when: counted(place.resolve()) for when, place in places.items() if place is not None}
    rows: list[dict[str, object]] = [
        {"what": what, **{when: figures[what] for when, figures in found.items()}}
        for what in found["after"]
    ]
    if given.before is not None:
        rows = [
            {
                **row,
                "difference": found["after"][str(row["what"])] - found["before"][str(row["what"])],
            }
            for row in rows
        ]
    keep("house", "Size of the program", rows)


if __name__ == "__main__":
    main()
