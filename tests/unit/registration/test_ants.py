"""Use of private functions of antspyx: a release that changes them fails here."""

import ast
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from bids_sr.io.volume import Volume
from bids_sr.registration.ants import (
    Stage,
    image_name,
    read_linear,
    register,
    run_program,
    to_ants,
)

ROOT = Path(__file__).parents[3]


def private_imports(path: Path) -> set[str]:
    """Return functions of a file with imports that antspyx does not export.

    "" stands for the module itself.
    """
    functions = set()

    def visit(node: ast.AST, function: str) -> None:
        module = (node.module or "") if isinstance(node, ast.ImportFrom) else ""
        # this module is a type for type checkers and is not imported at run time
        if module.startswith("ants.") and module != "ants.core.ants_image":
            functions.add(function)
        for child in ast.iter_child_nodes(node):
            visit(child, node.name if isinstance(node, ast.FunctionDef) else function)

    visit(ast.parse(path.read_text(encoding="utf-8")), "")
    return functions


def test_private_functions_of_antspyx_are_used_in_two_functions() -> None:
    sources = [path for top in ("bids_sr", "workflows") for path in (ROOT / top).rglob("*.py")]
    functions_by_file = {str(path.relative_to(ROOT)): private_imports(path) for path in sources}
    assert {name: functions for name, functions in functions_by_file.items() if functions} == {
        "bids_sr/registration/ants.py": {"run_program", "image_name"}
    }


@pytest.fixture
def image() -> Volume:
    """Return a bright ball of smooth random values, 2 mm."""
    rng = np.random.default_rng(0)
    shape = (30, 32, 28)
    data = ndimage.gaussian_filter(rng.normal(size=shape), 2.5)
    radius = sum(
        ((g - n / 2) / (n / 4)) ** 2 for g, n in zip(np.indices(shape), shape, strict=True)
    )
    ball = (data / data.std() + 5) * np.exp(-(radius**2))
    return Volume(data=ball.astype(np.float32), affine=np.diag([2, 2, 2, 1]))


def test_registration_of_images_in_memory_recovers_a_shift(image: Volume, tmp_path: Path) -> None:
    shifted = image.like(np.roll(image.data, 2, axis=0))
    stage = Stage(transform="Rigid[0.1]", metric="GC", sampling=1.0, masked=False)
    (xfm_file,) = register(image, shifted, [stage], seed=0, prefix=str(tmp_path / "x"))
    center = np.array([30, 32, 28, 1])  # mm
    np.testing.assert_allclose((read_linear(xfm_file) @ center - center)[:3], [4, 0, 0], atol=0.1)


def test_images_have_distinct_names(image: Volume) -> None:
    first, second = to_ants(image, 0), to_ants(image, 0)
    assert image_name(first) == image_name(first) != image_name(second)


def test_error_of_a_failed_program_names_program_and_version() -> None:
    with pytest.raises(RuntimeError, match=r"Atropos failed with exit code \d+ \(antspyx \d"):
        run_program("Atropos", ["-d", "3", "-i", "Nothing[3]"])
