"""Digests of functions change with the code that they reach, and with no other code."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from bids_sr.engine.store import store
from bids_sr.glm.steps import seeds
from bids_sr.io.code_digests import SourceCode, compute_code_digest, read_program
from bids_sr.io.code_modules import Definition
from bids_sr.preproc.steps import motion
from bids_sr.sr.networks.training.trainer import train_network
from bids_sr.sr.steps import super_resolution

FILES: Mapping[str, str] = {
    "__init__.py": "",
    "steps.py": '''
"""Steps."""
from typing import TYPE_CHECKING

import program.constants
from program import tables
from program.boilerplate import data_of, path
from program.deep import middle as helper
from program.parts import smooth
from program.version import VERSION
from .relative import shift
if TYPE_CHECKING:
    from program.typed import Typed

FACTOR, UNUSED = 2, 3

def double(image: "Typed"):
    """Return the image, doubled."""
    return FACTOR * image

def use_lazy(image):
    return smooth(image)

def use_relative(image):
    return shift(image)

def use_inner(image):
    from program.inner import sharpen

    return [sharpen(part) for part in image]

def use_far(image):
    return helper.pass_on(image)

def use_module(rows):
    return tables.write(rows)

def use_constant(image):
    return image * program.constants.SCALE

def use_any(image, name):
    return getattr(tables, name)(image)

def use_methods(image, name):
    import importlib

    return importlib.import_module(f"program.methods.{name}").METHOD(image)

def use_list(name):
    from program import methods

    return list(methods.__path__)

def use_data():
    return data_of("words.json")

def use_template(loader):
    return loader(path("words.json").parent).get("style.css")

def use_all_data():
    from program.boilerplate import HERE

    return list(HERE.iterdir())

class Model(helper.Base):
    def apply(self, image):
        return shift(image)

def use_class(image):
    return Model().apply(image)

def use_names():
    return [value for value in globals().values()]

def label(image):
    return VERSION

@step(Stage.EVALUATION, cost=estimate_cost, memory=1, makes="image")
def plan(image):
    return image

def estimate_cost():
    return 1
''',
    "constants.py": "SCALE = 3\nOTHER = 4\n",
    "typed.py": "class Typed: ...\n",
    "relative.py": "def shift(image):\n    return image\n",
    "inner.py": "def sharpen(image):\n    return image\n",
    "parts/__init__.py": """
from typing import TYPE_CHECKING

from program.lazy import import_on_use

if TYPE_CHECKING:
    from program.parts.kernels import smooth
else:
    __getattr__ = import_on_use(__name__, {"kernels": ["smooth", "roughen"]})
""",
    "parts/kernels.py": "def smooth(image):\n    return image\ndef roughen():\n    return 1\n",
    "lazy.py": "def import_on_use(package, modules):\n    return None\n",
    "deep/__init__.py": "",
    "deep/middle.py": """
from ..deep.end import finish as end

class Base:
    rank = 1

def pass_on(image):
    return end(image)
""",
    "deep/end.py": "def finish(image):\n    return image\n",
    "tables.py": """
ROWS = {}

def write(rows):
    return rows

def read(file):
    return file

for name in ("one", "two"):
    ROWS[name] = len(name)
""",
    "methods/__init__.py": "",
    "methods/first.py": "METHOD = abs\n",
    "boilerplate/__init__.py": """
from pathlib import Path

HERE = Path(__file__).parent

def path(name):
    return HERE / name

def data_of(name):
    return path(name).read_text()
""",
    "boilerplate/words.json": '{"word": 1}',
    "boilerplate/style.css": "p {}",
    "version.py": 'VERSION = "1"\n',
}
"""Package with the ways in which a function reaches others."""


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """Return the folder of the package."""
    folder = tmp_path / "program"
    for name, text in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def _read(folder: Path, **options: float) -> SourceCode:
    return SourceCode(folder, data="program.boilerplate", labels=["program.version"], **options)


def _edit(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert text.count(old) == 1
    file.write_text(text.replace(old, new))


@pytest.mark.parametrize(
    ("function", "file", "old", "new"),
    [
        ("double", "steps.py", "FACTOR * image", "FACTOR * FACTOR * image"),
        ("double", "steps.py", "= 2, 3", "= 5, 3"),
        ("use_lazy", "parts/kernels.py", "return image", "return -image"),
        ("use_lazy", "lazy.py", "return None", "return 1"),
        ("use_relative", "relative.py", "return image", "return -image"),
        ("use_inner", "inner.py", "return image", "return -image"),
        ("use_far", "deep/end.py", "return image", "return -image"),
        ("use_module", "tables.py", "return rows", "return rows[::-1]"),
        ("use_module", "tables.py", "len(name)", "-len(name)"),
        ("use_constant", "constants.py", "SCALE = 3", "SCALE = 4"),
        ("use_any", "tables.py", "return file", "return str(file)"),
        ("use_methods", "methods/first.py", "abs", "max"),
        ("use_list", "methods/first.py", "abs", "max"),
        ("use_data", "boilerplate/words.json", "1", "2"),
        ("use_data", "boilerplate/__init__.py", "/ name", "/ name.lower()"),
        ("use_template", "boilerplate/style.css", "p", "h1"),
        ("use_all_data", "boilerplate/style.css", "p", "h1"),
        ("use_class", "steps.py", "Model(helper.Base)", "Model(object)"),
        ("use_class", "deep/middle.py", "rank = 1", "rank = 2"),
        ("use_class", "relative.py", "return image", "return -image"),
        ("use_names", "steps.py", "= 2, 3", "= 2, 4"),
        ("plan", "steps.py", 'makes="image"', 'makes="mask"'),
    ],
)
def test_digest_changes_with_code_that_a_function_reaches(
    program: Path, function: str, file: str, old: str, new: str
) -> None:
    digest = _read(program).compute_digest("program.steps", function)
    assert _read(program).compute_digest("program.steps", function) == digest
    _edit(program / file, old, new)
    assert _read(program).compute_digest("program.steps", function) != digest


@pytest.mark.parametrize(
    ("function", "file", "old", "new"),
    [
        ("double", "steps.py", "Return the image, doubled.", "Double."),
        ("double", "steps.py", "    return FACTOR", "    # comment\n\n    return  FACTOR"),
        ("double", "steps.py", '"""Steps."""', ""),
        ("double", "steps.py", "return 1", "return 2"),
        ("double", "typed.py", "...", "size = 1"),
        ("use_lazy", "parts/kernels.py", "return 1", "return 2"),
        ("use_lazy", "parts/__init__.py", '"roughen"', '"roughen", "other"'),
        ("use_module", "tables.py", "return file", "return str(file)"),
        ("use_constant", "constants.py", "OTHER = 4", "OTHER = 5"),
        ("use_constant", "deep/end.py", "return image", "return -image"),
        ("use_data", "boilerplate/style.css", "p", "h1"),
        ("label", "version.py", '"1"', '"2"'),
        ("plan", "steps.py", "memory=1", "memory=2"),
        ("plan", "steps.py", "return 1", "return 2"),
    ],
)
def test_digest_does_not_depend_on_other_code_and_comments(
    program: Path, function: str, file: str, old: str, new: str
) -> None:
    digest = _read(program).compute_digest("program.steps", function)
    _edit(program / file, old, new)
    assert _read(program).compute_digest("program.steps", function) == digest


def test_digest_is_another_while_loaded_code_may_be_older_than_its_file(program: Path) -> None:
    os.utime(program / "steps.py", (100, 100))
    os.utime(program / "inner.py", (200, 200))
    before, later = (
        {
            function: _read(program, start=start).compute_digest("program.steps", function)
            for function in ("double", "use_inner")
        }
        for start in (150, 250)
    )
    assert before["double"] == later["double"]
    assert before["use_inner"] != later["use_inner"]


def test_a_function_outside_of_the_program_depends_on_what_it_imports_of_it(
    program: Path, tmp_path: Path
) -> None:
    (tmp_path / "outside.py").write_text(
        "from program import relative\n\ndef work(image):\n    return relative.shift(image)\n"
    )
    code = _read(program)
    code.add_module("outside", tmp_path / "outside.py")
    assert Definition("program.relative", "shift") in code.list_dependencies("outside", "work")


def test_a_function_without_a_source_file_has_no_digest() -> None:
    variables: dict[str, Any] = {"__name__": "typed_at_a_prompt"}
    exec("def work(): ...", variables)
    assert compute_code_digest(variables["work"]) == ""


def _list_dependencies(function: Callable[..., object]) -> set[str]:
    """Return the names of what a function of the program depends on."""
    definitions = read_program().list_dependencies(function.__module__, function.__name__)
    return {".".join(definition).removeprefix("bids_sr.") for definition in definitions}


def test_steps_of_the_program_depend_on_the_code_of_their_results_only() -> None:
    motion_names = _list_dependencies(motion.estimate_motion.function)
    assert motion_names >= {
        "preproc.hmc.MotionEstimator",
        "spatial.spline_kernels.filter_first",
        "spatial.itk_files._TransformsKind",
        "spatial.itk_files.write_itk",
    }
    assert not motion_names & {"engine.artifacts._MetricsKind", "glm.linear_model.ContrastModel"}
    assert "sr.methods.unet.METHOD" in _list_dependencies(super_resolution.super_resolve.function)
    assert "sr.networks.architectures.unet.UNet" in _list_dependencies(train_network)
    assert "glm.connectivity_seeds.Seed" in _list_dependencies(seeds.seed_series.function)
    assert "boilerplate.io_spec.json" in _list_dependencies(store.function)
