"""Templates on this computer: packaged images, TemplateFlow cache, and their grids.

Images of the default template are always those in `bids_sr.boilerplate`, at 2 mm with 8 bit per
voxel, also if the cache contains the template. Default results therefore do not depend on the
cache. Other templates are read from the cache; MNI152NLin2009aSym otherwise from nilearn.

A template has the same name as in transforms, with its cohort after a plus sign. Files are located
by their names: the first query of the client of TemplateFlow takes 2.3 s and would be repeated in
the process of each step. Only `bids_sr.survey.preflight.output_spaces` uses the client.
"""

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bids_sr.io.arrays import Float
from bids_sr.io.data_folders import PACKAGED_DATA, templateflow_home
from bids_sr.io.grids import Shape
from bids_sr.io.json_values import parse_json

DEFAULT_SPACE = "MNI152NLin2009cAsym"
NILEARN_SPACE = "MNI152NLin2009aSym"
DESCRIPTION = "template_description.json"
"""Name of the file with the grids of a template, in its folder."""
_MIN_BYTES = 352  # bytes of an image header; the cache has empty files for what can be downloaded
_T1W, _MASK = "T1w.nii.gz", "desc-brain_mask.nii.gz"

_TemplateGrid = tuple[Shape, Float]  # shape, and voxel-to-world matrix (4 x 4, RAS+ mm)


def find_t1w(template: str) -> Path | None:
    """Return the T1w image of a template, or None if it is not on this computer."""
    t1w = template_file(template, _T1W)
    if template == NILEARN_SPACE and not (t1w and template_file(template, _MASK)):
        return nilearn_image("t1")
    return t1w


def load_grid(template: str, resolution: str) -> _TemplateGrid | None:
    """Return the grid of a template at one of its resolutions, with RAS axes.

    The grid is taken from a file of the template, then from nilearn's image, then from the
    template's description. `resolution` is the label of the resolution (``res``); if "", the file
    with label 1, then 2, or without a label is used. Returns shape and voxel-to-world matrix
    (4 x 4, RAS+ mm); None if unknown.
    """
    for ending in (_T1W, _MASK, "desc-brain_T1w.nii.gz"):
        if (path := template_file(template, ending, resolution)) is not None:
            return _read_ras_grid(path)
    if template == NILEARN_SPACE and resolution in ("", "1"):
        # the template's description has the grid of another image
        return _read_ras_grid(nilearn_image("t1"))
    grid = _list_grids(_read_description(template)).get(resolution)
    if grid is None:
        return None
    affine = np.diag([*map(float, grid["zooms"]), 1.0])
    affine[:3, 3] = grid["origin"]
    x, y, z = map(int, grid["shape"])
    return (x, y, z), affine


def _read_ras_grid(image: Path) -> _TemplateGrid:
    """Return the grid of an image after reordering its axes to RAS."""
    import nibabel as nb

    canonical = nb.as_closest_canonical(nb.load(image))
    x, y, z = (int(size) for size in canonical.shape[:3])
    return (x, y, z), np.asarray(canonical.affine, dtype=float)


def nilearn_image(kind: str) -> Path:
    """Return nilearn's image of `NILEARN_SPACE` at 1 mm: skull-stripped T1w (t1), gm or wm."""
    spec = importlib.util.find_spec("nilearn")
    assert spec is not None
    assert spec.origin is not None
    name = f"mni_icbm152_{kind}_tal_nlin_sym_09a_converted.nii.gz"
    return Path(spec.origin).parent / "datasets" / "data" / name


def available_templates() -> tuple[str, ...]:
    """Return the names of templates that can be loaded on this computer, without cohorts.

    Installed templates come first.
    """
    cached_names = sorted(
        folder.name.removeprefix("tpl-") for folder in templateflow_home().glob("tpl-*")
    )
    names = dict.fromkeys([DEFAULT_SPACE, NILEARN_SPACE, *cached_names])
    return tuple(filter(is_available, names))


def is_available(template: str) -> bool:
    """Return whether a template can be loaded on this computer.

    A T1w image with a brain mask or a skull-stripped image is required.
    """
    has_mask = template_file(template, _T1W) and template_file(template, _MASK)
    return template == NILEARN_SPACE or bool(has_mask)


def template_file(template: str, ending: str, resolution: str = "") -> Path | None:
    """Return a file of a template, or None if it is not on this computer.

    Files of the default template are packaged, all others are in the TemplateFlow cache.

    `ending` is the end of the file name, such as ``T1w.nii.gz`` or ``desc-brain_mask.nii.gz``.
    `resolution` is the label of the resolution (``res``); if "", the file with label 1, then 2, or
    without a label is returned.
    """
    cohort = template.partition("+")[2]
    folder = _template_folder(template)
    stem = f"{folder.name}_cohort-{cohort}" if cohort else folder.name
    for label in [resolution] if resolution else ["1", "2", ""]:
        for entity in (f"_res-{label.zfill(2)}", f"_res-{label}") if label else ("",):
            path = folder / (f"cohort-{cohort}" if cohort else "") / f"{stem}{entity}_{ending}"
            if path.is_file() and path.stat().st_size >= _MIN_BYTES:
                return path
    return None


def read_resolutions(template: str) -> dict[str, float]:
    """Return the voxel size along the first axis (mm) by resolution label of a template.

    The sizes are taken from the template's description; {} without a description.
    """
    sizes = list_resolutions(_read_description(template))
    return sizes or ({"1": 1.0} if template == NILEARN_SPACE else {})


def list_resolutions(description: Mapping[str, Any]) -> dict[str, float]:
    """Return the voxel size along the first axis (mm) by resolution label in a description."""
    return {label: float(grid["zooms"][0]) for label, grid in _list_grids(description).items()}


def _list_grids(description: Mapping[str, Any]) -> dict[str, Any]:
    """Return the grids in the description of a template by label without leading zeros."""
    grids = description.get("res") or {}
    return {label.lstrip("0") or label: grid for label, grid in grids.items()}


def _read_description(template: str) -> dict[str, Any]:
    """Return TemplateFlow's description of a template; {} if it is not on this computer."""
    try:
        content = (_template_folder(template) / DESCRIPTION).read_text(encoding="utf-8")
        return dict(parse_json(content))
    except (OSError, ValueError):
        return {}


def _template_folder(template: str) -> Path:
    """Return the folder of a template, which contains the folders of its cohorts."""
    folder = PACKAGED_DATA if template == DEFAULT_SPACE else templateflow_home()
    return folder / f"tpl-{template.partition('+')[0]}"
