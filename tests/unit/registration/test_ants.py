"""What is used of antspyx beyond its public functions: a release that changes it is seen here."""

import ast
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from bids_sr.io.volume import Volume
from bids_sr.registration.ants import Stage, named, read_linear, register, run_program, to_ants

ROOT = Path(__file__).parents[3]


def private_imports(path: Path) -> set[str]:
    """Functions of a file that import what antspyx does not export; "" for the file itself."""
    found = set()

    def look(node: ast.AST, inside: str) -> None:
        module = (node.module or "") if isinstance(node, ast.ImportFrom) else ""
        # the one that is left out names a type for checkers, and is not imported
        if module.startswith("ants.") and module != "ants.core.ants_image":
            found.add(inside)
        for child in ast.iter_child_nodes(node):
            look(child, node.name if isinstance(node, ast.FunctionDef) else inside)

    look(ast.parse(path.read_text(encoding="utf-8")), "")
    return found


def test_private_calls_stand_in_two_functions() -> None:
    sources = [path for top in ("bids_sr", "workflows") for path in (ROOT / top).rglob("*.py")]
    found = {str(path.relative_to(ROOT)): private_imports(path) for path in sources}
    assert {name: where for name, where in found.items() if where} == {
        "bids_sr/registration/ants.py": {"run_program", "named"}
    }


@pytest.fixture
def image() -> Volume:
    """A bright ball of smooth random values, 2 mm."""
    rng = np.random.default_rng(0)
    shape = (30, 32, 28)
    data = ndimage.gaussian_filter(rng.normal(size=shape), 2.5)
    radius = sum(
        ((g - n / 2) / (n / 4)) ** 2 for g, n in zip(np.indices(shape), shape, strict=True)
    )
    ball = (data / data.std() + 5) * np.exp(-(radius**2))
    return Volume(data=ball.astype(np.float32), affine=np.diag([2, 2, 2, 1]))


def test_programs_read_images_in_memory_and_write_what_they_find(
    image: Volume, tmp_path: Path
) -> None:
    """A shift of 4 mm comes back."""
    moved = image.like(np.roll(image.data, 2, axis=0))
    stage = Stage(transform="Rigid[0.1]", metric="GC", sampling=1.0, masked=False)
    (found,) = register(image, moved, [stage], seed=0, prefix=str(tmp_path / "x"))
    center = np.array([30, 32, 28, 1])  # mm
    np.testing.assert_allclose((read_linear(found) @ center - center)[:3], [4, 0, 0], atol=0.1)


def test_two_images_have_two_names(image: Volume) -> None:
    one, other = to_ants(image, 0), to_ants(image, 0)
    assert named(one) == named(one) != named(other)


def test_a_program_that_fails_is_named_with_its_version() -> None:
    with pytest.raises(RuntimeError, match=r"Atropos failed with exit code \d+ \(antspyx \d"):
        run_program("Atropos", ["-d", "3", "-i", "Nothing[3]"])
