"""Count lists of names that are typed again and again: python benchmarks/repeated_lists.py.

A list is five or more equal names that stand together in more than three places: parameters of a
function, fields of a class, or keywords of a call that pass a value on under its name (``x=x`` or
``x=y.x``). The list with the most names in total is printed with its places and taken out of them,
until none remains.
"""

import argparse
import ast
from collections.abc import Iterator, Mapping
from itertools import combinations
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDERS = ("bids_sr", "workflows")
_LEAST_NAMES, _LEAST_PLACES = 5, 4


def places(root: Path) -> dict[str, frozenset[str]]:
    """Return the names of each place, by file, line and kind."""
    found = {}
    for folder in FOLDERS:
        for path in sorted((root / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                for kind, names in _names(node):
                    if len(names) >= _LEAST_NAMES:
                        where = f"{path.relative_to(root)}:{node.lineno} {kind}"  # type: ignore[attr-defined]
                        found[where] = names
    return found


def _names(node: ast.AST) -> Iterator[tuple[str, frozenset[str]]]:
    """Yield kind and names of a node: parameters, fields, or keywords that pass values on."""
    if isinstance(node, ast.FunctionDef):
        parameters = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        yield f"parameters of {node.name}", frozenset(parameter.arg for parameter in parameters)
    elif isinstance(node, ast.ClassDef):
        yield (
            f"fields of {node.name}",
            frozenset(
                item.target.id
                for item in node.body
                if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name)
            ),
        )
    elif isinstance(node, ast.Call):
        yield (
            f"keywords of {ast.unparse(node.func)}",
            frozenset(
                keyword.arg
                for keyword in node.keywords
                if keyword.arg is not None and keyword.arg == _last_name(keyword.value)
            ),
        )


def _last_name(value: ast.expr) -> str | None:
    """Return ``x`` of ``x`` or ``y.x``; None for other expressions."""
    if isinstance(value, ast.Attribute):
        return value.attr
    return value.id if isinstance(value, ast.Name) else None


def repeated_lists(
    names_of_places: Mapping[str, frozenset[str]],
) -> Iterator[tuple[frozenset[str], list[str]]]:
    """Yield repeated lists with their places, the one with the most names in total first."""
    left = dict(names_of_places)
    while True:
        candidates = {
            one & other
            for one, other in combinations(set(left.values()), 2)
            if len(one & other) >= _LEAST_NAMES
        } | set(left.values())
        best: tuple[int, tuple[str, ...], list[str]] = (0, (), [])
        for names in candidates:
            where = [place for place, other in left.items() if names <= other]
            if len(where) >= _LEAST_PLACES:
                best = max(best, (len(names) * len(where), tuple(sorted(names)), where))
        if not best[0]:
            return
        names = frozenset(best[1])
        yield names, best[2]
        for place in best[2]:
            left[place] -= names
        left = {place: rest for place, rest in left.items() if len(rest) >= _LEAST_NAMES}


def main() -> None:
    """Print the repeated lists of the package, or of another checkout."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("root", nargs="?", type=Path, default=ROOT, help="folder of a checkout")
    root = parser.parse_args().root.resolve()
    lists = list(repeated_lists(places(root)))
    for names, where in lists:
        print(f"{len(names)} names in {len(where)} places: {', '.join(sorted(names))}")
        print(*(f"    {place}" for place in where), sep="\n")
    typed = sum(len(names) * len(where) for names, where in lists)
    print(f"{len(lists)} lists, {typed} names typed")


if __name__ == "__main__":
    main()
