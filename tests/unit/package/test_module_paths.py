"""Modules and files named in docstrings, comments and docs exist."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
CODE = ("bids_sr", "workflows", "boilerplate", "benchmarks", "docker", "docs", "paper")
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", ROOT / "NOTICE"]
INVENTED = {  # files that readers of docs/extending.md write
    "bids_sr/sr/methods/new_net.py",
    "bids_sr/steps/figures/tsnr.py",
    "bids_sr/steps/motion_by_center.py",
    "bids_sr/steps/signal_drift.py",
}
HISTORY = {"archive.md"}  # removed modules under their former names

FULL = re.compile(r"(?<![\w/])bids_sr(?:\.[A-Za-z]\w*)+")
SHORT = re.compile(r"`((?:[a-z]\w*\.)+[A-Za-z]\w*)`")
FILE = re.compile(
    r"(?<![\w/.-])(?:bids_sr|workflows|boilerplate|benchmarks|docker|tests)/[\w./-]+\.py\b"
)


def module_file(parts: tuple[str, ...]) -> Path | None:
    """Return the source file of a module or package of bids_sr, or None.

    `parts` does not include the name of the package.
    """
    top = ROOT if parts[:1] in (("workflows",), ("boilerplate",)) else ROOT / "bids_sr"
    path = top.joinpath(*parts)
    return next((f for f in (path / "__init__.py", path.with_suffix(".py")) if f.is_file()), None)


@cache
def names_in(module: Path) -> frozenset[str]:
    """Return the names that a module defines, assigns or imports, at any depth."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        match node:
            case ast.FunctionDef() | ast.ClassDef():
                names.add(node.name)
            case ast.Name():
                names.add(node.id)
            case ast.arg():
                names.add(node.arg)
            case ast.Import() | ast.ImportFrom():
                names |= {alias.asname or alias.name for alias in node.names}
    return frozenset(names)


def resolves(dotted: str) -> bool:
    """Return whether a name in bids_sr is a folder, a module, or a name in a module."""
    parts = tuple(dotted.split("."))[1:]
    if (ROOT / "bids_sr").joinpath(*parts).is_dir() or module_file(parts):
        return True
    for count in range(len(parts) - 1, -1, -1):
        module = module_file(parts[:count]) if count else ROOT / "bids_sr" / "__init__.py"
        if module is not None:
            return set(parts[count:]) <= names_in(module)
    return False


@cache
def homes() -> dict[str, set[str]]:
    """Return full names of packages and modules by their last name, for short references."""
    by_name: dict[str, set[str]] = {}
    for top in ("bids_sr", "workflows", "boilerplate"):
        for path in (ROOT / top).rglob("*.py"):
            parts = list(path.relative_to(ROOT).with_suffix("").parts)
            parts = parts[:-1] if parts[-1] == "__init__" else parts
            full = ".".join(parts if top == "bids_sr" else ["bids_sr", *parts])
            by_name.setdefault(full.rpartition(".")[2], set()).add(full)
    return by_name


def stale(text: str) -> set[str]:
    """Return references in a text that do not resolve."""
    references = {name for name in FULL.findall(text) if not resolves(name)}
    for name in SHORT.findall(text):
        head, _, remainder = name.partition(".")
        full = homes().get(head, set())
        # only if both are modules: `series.mean` may be an attribute of a value
        is_module_path = full and head != "bids_sr" and remainder.partition(".")[0] in homes()
        if is_module_path and not any(resolves(f"{home}.{remainder}") for home in full):
            references.add(name)
    return references | {
        name for name in FILE.findall(text) if name not in INVENTED and not (ROOT / name).is_file()
    }


def prose(path: Path) -> str:
    """Return the text of a page, or docstrings (of attributes also) and comments of a program."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".py":
        return text
    parts = [
        str(node.value.value)
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    ]
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    parts += [token.string for token in tokens if token.type == tokenize.COMMENT]
    return "\n".join(parts)


def texts() -> Iterator[Path]:
    for top in CODE:
        for suffix in ("py", "md"):
            yield from (
                p for p in sorted((ROOT / top).rglob(f"*.{suffix}")) if p.name not in HISTORY
            )
    yield from PAGES


def test_modules_and_files_named_in_texts_exist() -> None:
    references = {
        f"{path.relative_to(ROOT)}: {name}" for path in texts() for name in stale(prose(path))
    }
    assert sorted(references) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("see `bids_sr.glm.contrasts.camel_case` and bids_sr.workflows.run", set()),
        ("see bids_sr.stats.controls", {"bids_sr.stats.controls"}),
        ("`bids_sr.glm.contrasts.gone`", {"bids_sr.glm.contrasts.gone"}),
        ("`glm.blocks` and `steps.motion`", set()),
        ("`glm.motion`", {"glm.motion"}),
        ("tests/unit/gone.py and bids_sr/frozen.py", {"tests/unit/gone.py"}),
    ],
)
def test_references_to_missing_modules_and_files_are_detected(
    text: str, expected: set[str]
) -> None:
    assert stale(text) == expected
