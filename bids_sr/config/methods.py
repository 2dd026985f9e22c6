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

FOLDER = Path(__file__).parents[1] / "sr" / "methods"
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
    def of_the_run(self) -> bool:
        """Whether a model belongs to one run, and not to the images of a participant."""
        return self.trained_on in ("series", "self")


def method_names() -> tuple[str, ...]:
    """Names of the methods that learn: one file each in ``sr/methods``; a hyphen of the name is ``_`` in the file's."""
    return tuple(sorted(path.stem.replace("_", "-") for path in FOLDER.glob("[!_]*.py")))


@cache
def method_facts(folder: Path = FOLDER) -> Mapping[str, MethodFacts]:
    """Facts of every method, by name, in the order of the names."""
    found = [_read(path) for path in sorted(folder.glob("[!_]*.py"))]
    return MappingProxyType({facts.name: facts for facts in sorted(found, key=lambda each: each.name)})


def methods_trained_on(*sources: str) -> tuple[str, ...]:
    """Names of the methods that learn from one of these."""
    return tuple(name for name, facts in method_facts().items() if facts.trained_on in sources)


def _read(path: Path) -> MethodFacts:
    """Keywords of ``METHOD = Method(...)``, those that are plain values; others keep the default of that class."""
    given: dict[str, object] = {"name": path.stem.replace("_", "-"), "ndim": 2, "needs_pair": True, **_DEFAULTS}
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        if not any(isinstance(target, ast.Name) and target.id == "METHOD" for target in targets):
            continue
        value = getattr(node, "value", None)
        for keyword in value.keywords if isinstance(value, ast.Call) else ():
            if keyword.arg in given and isinstance(keyword.value, ast.Constant):
                given[keyword.arg] = keyword.value.value
    return MethodFacts(
        name=str(given["name"]), needs_pair=bool(given["needs_pair"]), ndim=3 if given["ndim"] == 3 else 2,
        **{key: str(given[key]) for key in _TEXT},
    )  # fmt: skip
