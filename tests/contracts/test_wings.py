"""A wing is a folder that others know by its face: the names in its `__init__.py`."""

import ast
import importlib
from collections import defaultdict
from functools import cache

import pytest
from wings import LAYERS, WORKFLOWS, face_of, imported_modules, modules_of_package, wing_of

WINGS = sorted(WORKFLOWS)
BETWEEN_WINGS = {
    ("group", "combination"): "participants without a stored map of all runs are combined here",
    ("group", "compared_series"): "compared series have a table of their own",
    ("model_commands", "networks"): "the commands train and apply networks",
    ("structural", "group"): "tables of participants are found and checked alike",
    ("structural", "networks"): "contrasts are fused by a network",
}
"""Wing, and a wing that it imports → reason."""


@cache
def wing_imports() -> tuple[tuple[str, str, str, str], ...]:
    """Return (importer, wing, module, name) of all imports of wings from outside."""
    modules = modules_of_package()
    return tuple(
        (importer, wing, module, name)
        for importer, path in modules.items()
        for _, module, name in imported_modules(path, modules)
        if (wing := wing_of(module)) and wing_of(importer) != wing
    )


def is_on_face(wing: str, module: str, name: str) -> bool:
    """Return whether an import is of a face, or of the workflow of a wing by another workflow."""
    if module.startswith("bids_sr.workflows."):
        return True
    return module == f"bids_sr.{wing}" and (name == "" or name in face_of(module))


def test_listed_modules_exist() -> None:
    modules = modules_of_package()
    assert {f"bids_sr.{name}" for name in [*WORKFLOWS, *LAYERS]} <= set(modules)
    files = {f"bids_sr.workflows.{name}" for names in WORKFLOWS.values() for name in names}
    assert files <= set(modules)


def test_nothing_imports_past_a_face() -> None:
    strays = [
        f"{importer} imports {name or 'the module'} from {module}"
        for importer, wing, module, name in wing_imports()
        if not is_on_face(wing, module, name)
    ]
    assert strays == []


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("bids_sr.structural.survey", "survey_structural"),
        ("bids_sr.structural.steps", "measures"),
        ("bids_sr.structural", "fit_classes"),
    ],
)
def test_an_import_past_a_face_is_reported(module: str, name: str) -> None:
    assert not is_on_face("structural", module, name)


def test_workflows_of_wings_are_imported_only_by_workflows() -> None:
    assert not {
        importer
        for importer, _, module, _ in wing_imports()
        if module.startswith("bids_sr.workflows.")
        and not importer.startswith("bids_sr.workflows.")
    }


def test_wings_import_each_other_only_for_a_reason() -> None:
    pairs = {(wing_of(importer), wing) for importer, wing, _, _ in wing_imports()}
    pairs = {(importer, wing) for importer, wing in pairs if importer}
    assert pairs == set(BETWEEN_WINGS)


@pytest.mark.parametrize("wing", WINGS)
def test_a_wing_says_what_it_does_and_offers_what_others_use(wing: str) -> None:
    package = importlib.import_module(f"bids_sr.{wing}")
    assert len(ast.get_docstring(ast.parse(f'"""{package.__doc__}"""')) or "") > 80
    used: defaultdict[str, set[str]] = defaultdict(set)
    for _, other, module, name in wing_imports():
        used[other] |= {name} if module == f"bids_sr.{other}" and name else set()
    face = face_of(f"bids_sr.{wing}")
    as_module = {"import_compared", "match_resolution"}  # called as `compared_series.…`
    assert set(face) - as_module == used[wing] - as_module
    for name, home in face.items():
        assert getattr(package, name) is getattr(importlib.import_module(home), name)
    with pytest.raises(AttributeError, match="no attribute 'unknown'"):
        _ = package.unknown if face else getattr(package, "unknown")  # noqa: B009
