"""Wings: folders of bids_sr with everything of one subject that the core of a run does not need.

The core is the way of a BOLD run from the survey of the data set to its page.
"""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from syntax import statements

ROOT = Path(__file__).parents[1]
WORKFLOWS = {
    "combination": ("combination",),
    "compared_series": ("compared_series",),
    "group": (),
    "model_commands": (),
    "networks": (),
    "phantom": (),
    "slurm": (),
    "structural": ("structural",),
}
"""Wing → its files in `workflows/`."""
LAYERS = {
    "combination.api": "api",
    "combination.checks": "preflight",
    "combination.overview": "report",
    "combination.separate_calls": "preflight",
    "combination.steps": "steps",
    "combination": "glm",
    "compared_series.checks": "preflight",
    "compared_series.steps": "steps",
    "compared_series": "evaluation",
    "group.level": "cli",
    "model_commands.cli": "cli",
    "model_commands": "group",
    "networks": "sr",
    "phantom.cli": "cli",
    "slurm.cli": "cli",
    "slurm.plugin": "execution",
    "slurm.queue": "execution",
    "slurm.step_jobs": "execution",
    "structural.checks": "preflight",
    "structural.figures": "figures",
    "structural.group.level": "cli",
    "structural.group": "group",
    "structural.image_quality": "quality",
    "structural.lesion_references": "bids",
    "structural.lesions": "quality",
    "structural.overview": "report",
    "structural.steps": "steps",
    "structural.survey": "bids",
    "structural.tissue_overlap": "quality",
    "structural": "registration",
}
"""Module or folder of a wing → part of the core whose imports it may have; the longest applies."""


def modules_of_package() -> dict[str, Path]:
    """Return the source files of bids_sr by module, without the links to folders at the top."""
    paths = [
        *(ROOT / "bids_sr").rglob("*.py"),
        *(ROOT / "workflows").rglob("*.py"),
        *(ROOT / "boilerplate").rglob("*.py"),
    ]
    names: dict[str, Path] = {}
    for path in sorted(paths):
        parts = path.relative_to(ROOT).with_suffix("").parts
        if parts[:2] in (("bids_sr", "workflows"), ("bids_sr", "boilerplate")):
            continue
        full = parts if parts[0] == "bids_sr" else ("bids_sr", *parts)
        names[".".join(full).removesuffix(".__init__")] = path
    return names


def modules_with_steps() -> list[str]:
    """Return the modules that define steps, of the core and of wings."""
    names = (name.removeprefix("bids_sr.") for name in modules_of_package())
    return [f"bids_sr.{name}" for name in names if layer_of(name) == "steps"]


def wing_of(module: str) -> str:
    """Return the wing of a module, "" for the core."""
    parts = module.split(".")
    if parts[1:2] == ["workflows"]:
        return next(
            (wing for wing, files in WORKFLOWS.items() if parts[2:3] and parts[2] in files), ""
        )
    return parts[1] if len(parts) > 1 and parts[1] in WORKFLOWS else ""


def layer_of(module: str) -> str:
    """Return the part whose imports a module of a wing may have, given its name in bids_sr."""
    parts = module.split(".")
    names = (".".join(parts[:count]) for count in range(len(parts), 0, -1))
    return next((LAYERS[name] for name in names if name in LAYERS), parts[0])


@cache
def face_of(package: str) -> dict[str, str]:
    """Return the names that a package offers, and the modules that define them."""
    path = ROOT.joinpath(*package.split("."), "__init__.py")
    if not path.is_file():
        return {}
    return {
        alias.asname or alias.name: node.module
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(f"{package}.")
        for alias in node.names
    }


def imported_modules(path: Path, modules: dict[str, Path]) -> Iterator[tuple[int, str, str]]:
    """Yield line, module and name of each import from bids_sr, at any depth of the code.

    The name is "" if the module itself is imported. Names of a package are not resolved.
    """
    for node in statements(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("bids_sr"):
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield node.lineno, *((full, "") if full in modules else (node.module, alias.name))
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name in modules:
                    yield node.lineno, alias.name, ""
