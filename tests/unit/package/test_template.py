"""Packaged images of the default template are made by `.ci/template.py`, with their license."""

import gzip
import runpy

import nibabel as nib
import numpy as np
import pytest
from pages import ROOT

SCRIPT = runpy.run_path(str(ROOT / ".ci" / "template.py"))


@pytest.mark.parametrize(
    "ending", ["T1w", "desc-brain_mask", "label-GM_probseg", "label-WM_probseg"]
)
def test_the_script_makes_the_packaged_image(ending: str) -> None:
    path = SCRIPT["FOLDER"] / SCRIPT["name_of"](ending)
    image = nib.load(path)
    SCRIPT["check_grid"](path.name, image)
    integers = np.asarray(image.dataobj.get_unscaled()) * np.uint8(255 if "mask" in ending else 1)
    made = gzip.decompress(SCRIPT["to_file"](ending, integers))
    assert made == gzip.decompress(path.read_bytes())


def test_the_terms_are_next_to_the_images() -> None:
    """The license requires the copyright notice in all copies."""
    for path in (SCRIPT["FOLDER"] / "LICENSE", ROOT / "NOTICE"):
        text = " ".join(path.read_text(encoding="utf-8").split())
        assert "Louis Collins, McConnell Brain Imaging Centre, Montreal Neurological" in text
        assert "the above copyright notice appear in all copies" in text
