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
