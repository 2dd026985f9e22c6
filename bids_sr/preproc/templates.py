"""Templates and atlases on this computer.

Nothing is downloaded; files are located by `bids_sr.io.template_files`.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from bids_sr.io.frozen import frozen
from bids_sr.io.notices import InvalidInput
from bids_sr.io.template_files import (
    DEFAULT_SPACE,
    NILEARN_SPACE,
    available_templates,
    nilearn_image,
    template_file,
)
from bids_sr.io.volume import Volume
from bids_sr.preproc.ants import load
from bids_sr.spatial import masks


@frozen
class Template:
    """Skull-stripped T1w template with its brain mask and tissue maps on one grid.

    The 99.9th percentile of `t1` in the brain is 1 (3D). `mask` is the brain (3D, boolean).
    `tissues` are maps of gray and white matter with a maximum of 1, or an empty list.
    """

    t1: Volume
    mask: Volume
    tissues: list[Volume]


def load_template(space: str = DEFAULT_SPACE) -> Template:
    """Load a template by its name, with a cohort after a plus sign.

    Raises `InvalidInput` if the template is not available on this computer.
    """
    t1_file = template_file(space, "T1w.nii.gz")
    mask_file = template_file(space, "desc-brain_mask.nii.gz")
    if t1_file and mask_file:
        t1 = load(t1_file)
        mask = load(mask_file).data > 0.5
        maps = [template_file(space, f"label-{tissue}_probseg.nii.gz") for tissue in ("GM", "WM")]
    elif space == NILEARN_SPACE:
        t1 = load(nilearn_image("t1"))
        mask = masks.fill_holes(t1.data > 0.1 * np.percentile(t1.data[t1.data > 0], 99))
        maps = [nilearn_image("gm"), nilearn_image("wm")]
    else:
        raise InvalidInput(
            f"the template space {space} is not available on this computer; available"
            f" spaces are {', '.join(available_templates())}"
        )
    images = [load(path) for path in maps if path is not None]
    tissues = [image.like(image.data / max(float(image.data.max()), 1e-9)) for image in images]
    brain = np.where(mask, t1.data, 0).astype(np.float32)
    brightest = float(np.percentile(brain[mask], 99.9))
    return Template(
        t1=Volume(data=np.clip(brain / brightest, 0, 1.2), affine=t1.affine),
        mask=Volume(data=mask, affine=t1.affine),
        tissues=tissues if len(tissues) == 2 else [],
    )


def atlas_region(labels: Volume, names: Sequence[str], numbers: Mapping[str, int]) -> Volume:
    """Combine labels of an atlas into one region, and close clefts of up to 4 mm.

    Raises `InvalidInput` if the atlas contains none of the labels.
    """
    region = np.isin(np.round(labels.data).astype(int), [numbers[name] for name in names])
    if not region.any():
        raise InvalidInput(f"the atlas does not contain any of the labels {', '.join(names)}")
    return Volume(data=masks.close_mask(region, labels.affine, 2.0), affine=labels.affine)
