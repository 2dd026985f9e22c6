"""Imports point one way, and importing has no effect.

The table is the whole rule; there is no list of exceptions. Steps do not see the inputs as a
whole; workflows pass them on by name. At the bottom is `bids_sr/io/atomic_files.py`, which writes
complete files, imports nothing else of bids_sr and may be imported everywhere, like the version.
`sr/methods` (`bids_sr/sr/method.py`, `recipe.py`, `recipe_changes.py` and `methods/`) describes
methods as plain values for settings, estimates, steps, workflows and tables.
`bids_sr/steps/memory.py` has the measured memory of steps, also as plain values.
"""

import ast
import importlib
import inspect
import os
import subprocess
import sys
from collections.abc import Collection, Iterator
from pathlib import Path

import pytest
from syntax import statements
from wings import WORKFLOWS, face_of, layer_of, wing_of

ROOT = Path(__file__).parents[2]
STANDARD = sys.stdlib_module_names
"""Names of the modules of the standard library."""
PURE = {
    "boilerplate",
    "config",
    "evaluation",
    "figures",
    "glm",
    "io",
    "metrics",
    "quality",
    "report",
    "spatial",
    "sr",
    "sr/methods",
}
MAY_IMPORT: dict[str, set[str]] = {
    "boilerplate": set(),
    "series": set(),
    "region_names": set(),
    "version": set(),
    "frozen": set(),
    "lazy": set(),
    "run_time": set(),
    "notices": set(),
    "config": {"boilerplate", "sr/methods"},
    "io": set(),
    "spatial": {"io"},
    "metrics": {"boilerplate", "io"},
    "statistics": {"boilerplate", "io", "metrics"},
    "sr": {"io", "spatial", "metrics"},
    "sr/methods": {"io"},
    "glm": {"boilerplate", "io", "metrics", "spatial"},
    "quality": {"glm", "io", "metrics", "spatial"},
    "evaluation": {"glm", "io", "metrics", "spatial", "sr/methods"},
    "registration": {"glm", "io", "spatial", "sr"},
    "report": {"boilerplate", "evaluation", "io", "metrics", "statistics"},
    "figures": {"evaluation", "glm", "io", "metrics", "quality", "report"},
    "bids": {"config", "io", "sr/methods"},
    "preflight": {
        "bids",
        "config",
        "glm",
        "io",
        "registration",
        "spatial",
        "sr",
        "sr/methods",
        "steps/memory",
    },
    "retrospective": {"bids", "config", "glm", "io", "spatial", "sr"},
    "group": {
        "bids",
        "boilerplate",
        "evaluation",
        "figures",
        "glm",
        "io",
        "metrics",
        "registration",
        "report",
        "spatial",
        "sr/methods",
        "statistics",
    },
    "slurm": {"config", "boilerplate"},
    "phantom": {"config", "io", "sr", "spatial"},
    "pipeline": {
        "boilerplate",
        "config",
        "evaluation",
        "figures",
        "glm",
        "io",
        "metrics",
        "report",
        "spatial",
        "sr/methods",
    },
    "steps/memory": {"config"},
    "steps": PURE | {"pipeline", "registration", "steps/memory"},
    "execution": {"io", "config", "pipeline", "slurm"},
    "workflows": {
        "bids",
        "boilerplate",
        "config",
        "glm",
        "io",
        "pipeline",
        "preflight",
        "sr",
        "sr/methods",
        "steps",
    },
    "api": PURE - {"boilerplate", "quality"} | {"pipeline", "registration", "steps", "workflows"},
    "cli": PURE
    | {
        "api",
        "bids",
        "execution",
        "group",
        "phantom",
        "pipeline",
        "preflight",
        "retrospective",
        "slurm",
        "statistics",
        "steps",
        "steps/memory",
        "workflows",
    },
}
EVERYWHERE = {
    "io.atomic_files",
    "io.data_folders",
    "io.json_values",
    "io.tables",
    "series",
    "region_names",
    "version",
    "frozen",
    "lazy",
    "notices",
    "run_time",
}
"""Modules that import only the standard library; every part may import them."""
LIGHT = {"method", "methods", "recipe", "recipe_changes"}
HEAVY = {
    "torch",
    "nilearn",
    "ants",
    "skimage",
    "matplotlib",
    "nireports",
    "seaborn",
    "sklearn",
    "bids",
    "numba",
}


def sources() -> list[Path]:
    paths = [
        path
        for folder in ("bids_sr", "workflows", "boilerplate")
        for path in (ROOT / folder).rglob("*.py")
    ]
    return sorted(path for path in paths if path != ROOT / "bids_sr" / "__init__.py")


def module_of(path: Path) -> list[str]:
    parts = list(path.relative_to(ROOT).with_suffix("").parts)
    return parts if parts[0] == "bids_sr" else ["bids_sr", *parts]


def part_of(path: Path) -> str:
    return part_named(module_of(path)[1:])


def part_named(module: list[str]) -> str:
    """Return the part of a module, given its names below bids_sr."""
    if module[0] == "sr" and module[1:2] and module[1] in LIGHT:
        return "sr/methods"
    if wing_of(".".join(["bids_sr", *module])):
        return layer_of(".".join(module))
    return "steps/memory" if module == ["steps", "memory"] else module[0]


def imported_parts(tree: ast.AST, path: Path) -> Iterator[tuple[int, str]]:
    """Yield (line, part of bids_sr) for every import in a module, at any depth."""
    for node in statements(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            package = module_of(path)[: -node.level] if node.level else []
            base = ".".join([*package, *([node.module] if node.module else [])])
            if base in ("bids_sr", "bids_sr.sr"):
                names = [f"{base}.{alias.name}" for alias in node.names]
            else:  # names of a package count as imports of the module that defines them
                homes = face_of(base) if base.startswith("bids_sr.") else {}
                in_wing = wing_of(base)
                names = [
                    homes.get(alias.name, f"{base}.{alias.name}" if in_wing else base)
                    for alias in node.names
                ]
        for name in names:
            top, _, rest = name.partition(".")
            if rest in WORKFLOWS:  # a face, whose names are imported when they are used
                continue
            if top == "bids_sr" and rest and not rest.startswith("_") and rest not in EVERYWHERE:
                yield node.lineno, part_named(rest.split("."))


def strays(text: str, path: Path) -> list[str]:
    importer = part_of(path)
    top_part = importer.partition("/")[0]
    return [
        f"{path.relative_to(ROOT)}:{line}: {importer} imports {part}"
        for line, part in imported_parts(ast.parse(text), path)
        if part.partition("/")[0] != top_part and part not in MAY_IMPORT[importer]
    ]


def test_every_part_has_a_rule_and_every_rule_a_part() -> None:
    parts = {part_named(module_of(path)[1:]) for path in sources()}
    parts |= {path.name for path in (ROOT / "bids_sr").iterdir() if path.is_dir()}
    assert {part_of(path) for path in sources()} <= set(MAY_IMPORT) <= parts
    assert PURE | COMPUTES | set().union(*MAY_IMPORT.values()) <= set(MAY_IMPORT)


def test_modules_with_a_rule_exist() -> None:
    modules = {".".join(module_of(path)[1:]).removesuffix(".__init__") for path in sources()}
    assert modules >= EVERYWHERE
    assert {f"sr.{name}" for name in LIGHT} <= modules
    assert {
        f"bids_sr.{name}" for name in modules
    } >= OF_NIPYPE | READERS.keys() | WITHOUT_STEPS.keys()


def test_imports_point_one_way() -> None:
    faces = [ROOT / "bids_sr" / wing / "__init__.py" for wing in WORKFLOWS]
    paths = [path for path in sources() if path not in faces]
    violations = [stray for path in paths for stray in strays(path.read_text(), path)]
    assert not violations, "\n".join(violations)


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("bids_sr/spatial/x.py", "from bids_sr.sr import train"),
        ("bids_sr/spatial/x.py", "from bids_sr import sr"),
        ("bids_sr/spatial/x.py", "from ..sr.train import fit"),
        ("bids_sr/glm/x.py", "def f():\n    import bids_sr.figures.canvas"),
        ("bids_sr/steps/x.py", "from bids_sr.bids import BoldRun"),
        (
            "bids_sr/steps/x.py",
            "def f():\n    from bids_sr.workflows.participant import make_graph",
        ),
        ("bids_sr/pipeline/x.py", "from bids_sr.steps.bold_reference import mask_head"),
        ("workflows/x.py", "from bids_sr.execution.execute import execute"),
        ("boilerplate/x.py", "import bids_sr.config"),
        ("bids_sr/spatial/x.py", "from bids_sr.config import files"),
        ("bids_sr/config/x.py", "from bids_sr.networks.architectures.critics import PatchCritic"),
        ("bids_sr/config/x.py", "from bids_sr.sr import networks"),
        ("bids_sr/io/atomic_files.py", "from bids_sr.config import UsageError"),
        ("bids_sr/phantom/x.py", "from bids_sr.phantom.cli import main"),
    ],
)
def test_an_import_against_the_direction_is_reported(path: str, text: str) -> None:
    assert len(strays(text, ROOT / path)) == 1


@pytest.mark.parametrize(
    ("path", "text"),
    [
        (
            "workflows/x.py",
            "from bids_sr.config import Settings\nfrom bids_sr.workflows.run import add_run",
        ),
        ("bids_sr/cli/x.py", "from bids_sr import __version__, preflight\nimport bids_sr"),
        ("bids_sr/sr/x.py", "from . import degrade\nfrom ..spatial import nifti"),
        ("bids_sr/spatial/x.py", "from bids_sr import _files"),
        (
            "bids_sr/config/x.py",
            "from bids_sr.sr.method import Method\nfrom bids_sr.sr.methods.volumes import tv",
        ),
    ],
)
def test_an_import_along_the_direction_is_allowed(path: str, text: str) -> None:
    assert strays(text, ROOT / path) == []


def test_config_and_parser_need_the_standard_library_only() -> None:
    for path in [
        ROOT / "bids_sr/io/atomic_files.py",
        *(ROOT / "bids_sr" / "config").rglob("*.py"),
        *(path for path in sources() if part_of(path) == "sr/methods"),
        ROOT / "bids_sr/cli/parser.py",
        ROOT / "bids_sr/cli/parser.py",
        ROOT / "bids_sr/cli/main.py",
    ]:
        for node in ast.parse(path.read_text()).body:
            tops = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            tops += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert {top.partition(".")[0] for top in tops} <= STANDARD | {"bids_sr"}, path


WATCH = """
import os, pathlib, signal, socket, sys

def refuse(*args, **kwargs):
    raise OSError("importing reached for the network")

socket.socket.connect = refuse
socket.getaddrinfo = refuse
before = (
    os.getcwd(), signal.getsignal(signal.SIGTERM), os.listdir("."),
    os.environ.get("OMP_NUM_THREADS"),
)
for names in sys.argv[2:]:
    for name in names.split(","):
        __import__(name)
    after = (
        os.getcwd(), signal.getsignal(signal.SIGTERM), os.listdir("."),
        os.environ.get("OMP_NUM_THREADS"),
    )
    assert before == after, f"{names}: importing changed the process or its directory: {after}"
    home = pathlib.Path(os.environ["HOME"])
    written = [
        str(path) for path in home.rglob("*")
        if "templateflow" in path.name or "bids_sr" in path.name
    ]
    assert not written, f"{names}: importing wrote {written}"
    heavy = sorted(set(sys.argv[1].split(",")) & set(sys.modules))
    assert not heavy, f"{names}: these were imported too: {heavy}"
"""


def modules(part: str) -> list[str]:
    """Return every module of one part."""
    paths = [path for path in sources() if part_of(path).partition("/")[0] == part]
    names = (".".join(module_of(path)).removesuffix(".__init__") for path in paths)
    return sorted(name for name in names if not name.endswith("__main__"))


def watch(tmp_path: Path, heavy: set[str], *parts: list[str]) -> subprocess.CompletedProcess[str]:
    """Import modules, part by part, in a fresh process.

    The process has no network, and its directory and home are empty.
    """
    (tmp_path / "empty").mkdir()
    (tmp_path / "home").mkdir()
    environment = {**os.environ, "HOME": str(tmp_path / "home"), "NO_ET": "1", "NIPYPE_NO_ET": "1"}
    environment.pop("TEMPLATEFLOW_HOME", None)
    return subprocess.run(
        [sys.executable, "-c", WATCH, ",".join(heavy), *map(",".join, parts)],
        cwd=tmp_path / "empty",
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    "name", ["bids_sr", "bids_sr.config", "bids_sr.cli.main", "bids_sr.cli.parser"]
)
def test_light_modules_import_nothing_heavy_and_change_nothing(name: str, tmp_path: Path) -> None:
    done = watch(tmp_path, HEAVY | {"numpy", "nibabel", "nipype", "scipy", "pandas"}, [name])
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""


def test_importing_a_part_has_no_effect(tmp_path: Path) -> None:
    """Parts are imported one after another, each before the parts that import it."""
    parts = {path.partition("/")[0] for path in MAY_IMPORT} - {"steps", "workflows"}
    done = watch(
        tmp_path,
        {"niworkflows.interfaces.bids"},
        *map(modules, sorted(parts, key=list(MAY_IMPORT).index)),
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""


OF_NIPYPE = {"bids_sr.pipeline.nipype_interface", "bids_sr.pipeline.nipype_workflow"}


def test_steps_and_workflows_import_neither_nipype_nor_numerical_libraries(
    tmp_path: Path,
) -> None:
    """Plans, graphs and the Python interface load quickly and without nipype."""
    names = [
        *modules("steps"),
        *modules("workflows"),
        *(name for name in modules("pipeline") if name not in OF_NIPYPE),
    ]
    done = watch(tmp_path, HEAVY | {"nipype", "niworkflows"}, names)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""


def test_there_are_no_import_cycles() -> None:
    """Imports count at any depth, also if they only serve type annotations."""
    names = {".".join(module_of(path)).removesuffix(".__init__"): path for path in sources()}
    imports = {
        name: set(_imported(path, names)) - {name}
        for name, path in names.items()
        if not face_of(name)
    }
    while leaves := {name for name, imported in imports.items() if not imported & imports.keys()}:
        imports = {name: imported for name, imported in imports.items() if name not in leaves}
    assert sorted(imports) == []


def _imported(path: Path, names: Collection[str]) -> Iterator[str]:
    for node in statements(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            homes = face_of(node.module)
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield full if full in names else homes.get(alias.name, node.module)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


COMPUTES = {"evaluation", "glm", "quality", "registration", "spatial", "sr"}
READERS = {
    "bids_sr.registration.series_alignment": {"check_alignment", "check_nan_voxels"},
    "bids_sr.spatial.itk_files": {"read_itk"},
    "bids_sr.spatial.transforms": {"hr_grid"},
    "bids_sr.sr.models.card": {"card_path"},
    "bids_sr.sr.models.model": {"load_model"},
    "bids_sr.evaluation.evidence": {"was_applied"},
    "bids_sr.evaluation.verdict_lines": {"verdict_line"},
    "bids_sr.evaluation.support_table": {"tabulate_support"},
    "bids_sr.glm.contrasts": {"resolve_contrasts"},
    "bids_sr.glm.model_confounds": {"model_confounds"},
    "bids_sr.glm.regressors": {"read_events"},
}
"""Functions that the Python interface calls directly.

They read events, headers or cards, select columns of a table, tabulate results, or return the grid
of a series. They do not compute results.
"""

WITHOUT_STEPS = {
    "bids_sr.combination.run_combination": {
        "combine_estimates",
        "precision_weights",
        "correlate_error",
        "widen_error",
    },
}
"""Functions of a few maps in memory, which `bids_sr.combine_runs` calls without a folder of steps.

The step of the program calls them with the same arrays.
"""


def arithmetic(text: str) -> Iterator[str]:
    """Yield functions and modules that compute, among the imports of a module.

    Functions in `READERS` and `WITHOUT_STEPS` are left out.
    """
    for node in statements(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if of_arithmetic(alias.name))
        elif isinstance(node, ast.ImportFrom) and of_arithmetic(node.module or ""):
            module = importlib.import_module(node.module or "")
            allowed = {**READERS, **WITHOUT_STEPS}.get(node.module or "", set())
            for name in {alias.name for alias in node.names} - allowed:
                value = getattr(module, name, None)
                if value is None or inspect.isfunction(value) or inspect.ismodule(value):
                    yield f"{node.module}.{name}"


def of_arithmetic(module: str) -> bool:
    return module.startswith("bids_sr.") and part_named(module.split(".")[1:]) in COMPUTES


def test_the_python_interface_computes_only_with_steps() -> None:
    """Estimators may call steps of the program and name types of the computing modules."""
    paths = [path for path in sources() if part_of(path) == "api"]
    assert {path.name: names for path in paths if (names := [*arithmetic(path.read_text())])} == {}


@pytest.mark.parametrize(
    "text",
    [
        "from bids_sr.evaluation.verdict import make_verdict",
        "from bids_sr.spatial import hmc",
        "import bids_sr.glm.confound_table",
        "def f():\n    from bids_sr.sr.inference.apply_to_series import Consistency, write_series",
    ],
)
def test_an_import_of_arithmetic_is_reported(text: str) -> None:
    assert len([*arithmetic(text)]) == 1
