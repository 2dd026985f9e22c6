"""What the files of the methods say of themselves, read as text: nothing of them is run and no library is imported.

The command line needs names, and settings need to know what a method learns from, long before a network is built.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

FOLDER = Path(__file__).parents[1] / "sr" / "methods"
REMOVED: Mapping[str, str] = MappingProxyType({"guided": "sbl"})
"""Methods of earlier versions, and what takes their place."""
_TEXT, _DEFAULTS = ("trained_on", "reference", "summary"), {"trained_on": "pair", "reference": "", "summary": ""}


@dataclass(frozen=True, kw_only=True, slots=True)
class MethodFacts:
    """One method, as its file declares it; the fields are those of `bids_sr.sr.method.Method`.

    Parameters
    ----------
    name : for ``--sr-method``
    trained_on : "pair", "images" (of which a pair is one), "series" (a run, one level of resolution down) or "self"
        (the coarse volumes of a run)
    needs_pair : whether fine images have to be there to train it
    ndim : 2 (slice by slice) or 3
    reference, summary : key in the bibliography, and one line
    """

    name: str
    trained_on: str
    needs_pair: bool
    ndim: int
    reference: str
    summary: str

    @property
    def about(self) -> str:
        """What it is, with its reference, for texts."""
        return f"{self.summary} [@{self.reference}]"

    @property
    def of_the_run(self) -> bool:
        """Whether a model belongs to one run, and not to the images of a participant."""
        return self.trained_on in ("series", "self")


def method_names() -> tuple[str, ...]:
    """Names of the methods that learn: one file each in ``sr/methods``; a hyphen of the name is ``_`` in the file's."""
    return tuple(sorted(path.stem.replace("_", "-") for path in FOLDER.rglob("[!_]*.py")))


@cache
def patch_of(name: str, recipe: str, folder: Path = FOLDER) -> tuple[int, ...] | None:
    """Sides of the training patches of a recipe (fine voxels; one stands for all axes); None for whole images,
    and where the sides are only the largest there may be (``patch_at_most``).

    A recipe may be made of another one, in its own file or in that of another method, by `dataclasses.replace` or a
    function whose first argument it is; the nearest ``patch=`` on that way counts. A method without `paper-mse` has
    `paper` in its place.
    """
    file = _file_of(name, folder)
    recipes = next((k.value for k in _method_call(file) if k.arg == "recipes"), None)
    if not isinstance(recipes, ast.Dict):
        return None
    found = {k.value: v for k, v in zip(recipes.keys, recipes.values, strict=True) if isinstance(k, ast.Constant)}
    made = found.get(recipe, found.get("paper") if recipe == "paper-mse" else None)
    patch = None if made is None else _patch(made, file)
    return patch if patch is None or isinstance(patch, tuple) else (patch,)


@cache
def method_facts(folder: Path = FOLDER) -> Mapping[str, MethodFacts]:
    """Facts of every method, by name, in the order of the names."""
    found = [_read(path) for path in sorted(folder.rglob("[!_]*.py"))]
    return MappingProxyType({facts.name: facts for facts in sorted(found, key=lambda each: each.name)})


def methods_trained_on(*sources: str) -> tuple[str, ...]:
    """Names of the methods that learn from one of these."""
    return tuple(name for name, facts in method_facts().items() if facts.trained_on in sources)


def _file_of(name: str, folder: Path) -> Path:
    """File of a method below the folder of all."""
    file = f"{name.replace('-', '_')}.py"
    return next(folder.rglob(file), folder / file)


def _assigned(path: Path) -> Mapping[str, ast.expr]:
    """Expressions that names of a module stand for."""
    found: dict[str, ast.expr] = {}
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign):
            found.update({target.id: node.value for target in node.targets if isinstance(target, ast.Name)})
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None:
            found[node.target.id] = node.value
    return found


def _method_call(path: Path) -> list[ast.keyword]:
    """Keywords of ``METHOD = Method(...)``."""
    value = _assigned(path).get("METHOD") if path.is_file() else None
    return value.keywords if isinstance(value, ast.Call) else []


def _patch(recipe: ast.expr, path: Path) -> Any:
    """``patch=`` of an expression that makes a recipe."""
    if isinstance(recipe, ast.Name):
        there = _assigned(path)
        return _patch(there[recipe.id], path) if recipe.id in there else None
    if isinstance(recipe, ast.Attribute) and isinstance(recipe.value, ast.Name):
        return _patch(ast.Name(recipe.attr), _file_of(recipe.value.id, path.parents[1]))
    if not isinstance(recipe, ast.Call):
        return None
    largest = any(k.arg == "patch_at_most" and getattr(k.value, "value", False) is True for k in recipe.keywords)
    for keyword in recipe.keywords:
        if keyword.arg == "patch" and largest:
            return None
        if keyword.arg == "patch":
            named = isinstance(keyword.value, ast.Name)
            return ast.literal_eval(_assigned(path)[keyword.value.id] if named else keyword.value)  # type: ignore[attr-defined]
    return _patch(recipe.args[0], path) if recipe.args else None


def _read(path: Path) -> MethodFacts:
    """Keywords of the method that are plain values; others keep the default of that class."""
    given: dict[str, object] = {"name": path.stem.replace("_", "-"), "ndim": 2, "needs_pair": True, **_DEFAULTS}
    for keyword in _method_call(path):
        if keyword.arg in given and isinstance(keyword.value, ast.Constant):
            given[keyword.arg] = keyword.value.value
    return MethodFacts(
        name=str(given["name"]), needs_pair=bool(given["needs_pair"]), ndim=3 if given["ndim"] == 3 else 2,
        **{key: str(given[key]) for key in _TEXT},
    )  # fmt: skip
