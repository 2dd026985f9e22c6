"""Packaged images of the default template, and the script that makes them."""

import gzip
import runpy
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

ROOT = Path(__file__).parents[3]
ENDINGS = ("T1w", "desc-brain_mask", "label-GM_probseg", "label-WM_probseg")


@pytest.fixture(scope="module")
def script() -> dict[str, Any]:
    return runpy.run_path(str(ROOT / ".ci" / "template.py"))


def read_packaged(script: dict[str, Any], ending: str) -> tuple[Path, np.ndarray]:
    """Return path and stored integers (0 to 255) of a packaged image."""
    path = script["FOLDER"] / script["name_of"](ending)
    integers = np.asarray(nib.load(path).dataobj.get_unscaled())
    return path, integers * np.uint8(255 if ending.endswith("_mask") else 1)


@pytest.mark.parametrize("ending", ENDINGS)
def test_the_script_makes_the_packaged_image(script: dict[str, Any], ending: str) -> None:
    path, integers = read_packaged(script, ending)
    assert gzip.decompress(script["to_file"](ending, integers)) == gzip.decompress(
        path.read_bytes()
    )
    script["check_grid"](path.name, nib.load(path))


@pytest.mark.parametrize("ending", ENDINGS[1:])
def test_another_mask_or_tissue_map_is_rejected(script: dict[str, Any], ending: str) -> None:
    _, integers = read_packaged(script, ending)
    with pytest.raises(ValueError, match=f"{ending}: .* ml are expected"):
        script["to_file"](ending, np.roll(integers, 1, axis=0) // 2 * 2)


def test_an_image_on_another_grid_is_rejected(script: dict[str, Any]) -> None:
    path, _ = read_packaged(script, "T1w")
    image = nib.load(path)
    moved = nib.Nifti1Image(np.asarray(image.dataobj), image.affine + np.eye(4, k=3))
    with pytest.raises(ValueError, match="not on the 2 mm grid"):
        script["check_grid"](path.name, moved)


def test_the_terms_are_next_to_the_images(script: dict[str, Any]) -> None:
    """The license requires the copyright notice in all copies."""
    for path in (script["FOLDER"] / "LICENSE", ROOT / "NOTICE"):
        text = " ".join(path.read_text(encoding="utf-8").split())
        assert "Louis Collins, McConnell Brain Imaging Centre, Montreal Neurological" in text
        assert "the above copyright notice appear in all copies" in text
