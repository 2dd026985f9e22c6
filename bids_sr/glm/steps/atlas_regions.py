"""Atlas and region of interest in T1w space."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from bids_sr.engine.artifacts import File, Image, Mask, Table
from bids_sr.engine.step import HERE, Stage, step
from bids_sr.engine.step_memory import REGION
from bids_sr.io.frozen import frozen
from bids_sr.io.region_names import atlas_title, find_atlas, is_file, region_labels
from bids_sr.io.region_spaces import TEMPLATE, RegionSpace
from bids_sr.io.volume import Volume
from bids_sr.preproc.ants import apply, load
from bids_sr.preproc.bold_regions import chain_through_t1w
from bids_sr.preproc.steps.aligned_series import BrainMasks
from bids_sr.preproc.template_regions import find_region, resample_to_t1w
from bids_sr.preproc.templates import atlas_region
from bids_sr.spatial.itk_files import Transforms


@frozen
class Atlas:
    """Atlas: label image, names of the labels, and transforms of T1w points to its space."""

    atlas_source: Image
    atlas_labels: Table
    atlas_xfms: Sequence[File] = ()

    def select_region(self, labels: Sequence[str]) -> Volume:
        """Return the union of some labels on the grid of the atlas."""
        names = self.atlas_labels
        return atlas_region(
            self.atlas_source, labels, dict(zip(names["name"], names["index"], strict=True))
        )


@frozen
class AtlasLabels:
    """Labels of an atlas on the acquired and on the high-resolution grid of a run."""

    atlas_bold: Image
    atlas_bold_hr: Image


@frozen
class AtlasOfRun(AtlasLabels):
    """Labels of an atlas on both grids of a run, with their names."""

    atlas_labels: Table

    @property
    def names(self) -> dict[int, str]:
        """Names of the labels by number."""
        return dict(zip(self.atlas_labels["index"], self.atlas_labels["name"], strict=True))


_REGION_TEXTS = {
    "motor": (
        "the pre- and postcentral gyri and supplementary motor areas of the AAL2 atlas [@aal2]"
    ),
    "brain": "the whole brain",
}


def describe_atlas(atlas: str, template_space: str) -> tuple[dict[str, str], dict[str, object]]:
    """Return entities (without the extension) and metadata of an atlas on the T1w grid.

    `template_space` is the name of the template as in TemplateFlow, cohort after a plus sign.
    """
    atlas_files = find_atlas(atlas, template_space)
    entities = {
        "atlas": atlas_files.name,
        **({"desc": atlas_files.desc} if atlas_files.desc else {}),
        "suffix": "dseg",
    }
    sidecar: dict[str, object] = {
        "Description": f"labels of the {atlas_files.name} atlas in T1w space",
        "volume_mm3": {"Description": "volume of the label on the T1w grid", "Units": "mm3"},
    }
    if atlas_files.license:
        sidecar["License"] = atlas_files.license
    return entities, sidecar


@step(
    Stage.ANATOMY,
    makes=("atlas_source", "atlas_t1w", "atlas_labels", "atlas_xfms"),
    memory=REGION,
    reads=lambda atlas, template_space: find_atlas(atlas, template_space).files,
)
def resample_atlas(
    t1w_preproc: Image,
    std2t1w_xfm: File,
    *,
    atlas: str,
    atlas_space: RegionSpace,
    template_space: str,
    random_seed: int,
) -> tuple[Image, Image, Table, list[File]]:
    """Resample an atlas to the T1w image, and return its labels and transforms.

    `t1w_preproc` is bias-corrected. `std2t1w_xfm` resamples template images to the T1w image.
    `atlas` is a name or a file, and `atlas_space` the space of its image: template or T1w.
    `template_space` is named as in TemplateFlow, with the cohort after a plus sign.

    Returns the label image; the label image on the T1w grid; a table with the columns index, name
    and volume_mm3 (on the T1w grid); and transforms of T1w points to the space of the atlas, empty
    if this is T1w space.
    """
    atlas_files = find_atlas(atlas, template_space)
    atlas_image = load(atlas_files.image)
    xfms = [std2t1w_xfm] if atlas_space == TEMPLATE else []
    labels = resample_to_t1w(
        atlas_image, t1w_preproc, xfms, seed=random_seed, interpolator="nearestNeighbor"
    )
    dtype = np.int16 if max(atlas_files.labels.values()) < 2**15 else np.int32
    atlas_t1w = Volume(np.round(labels).astype(dtype), t1w_preproc.affine)
    numbers, counts = np.unique(atlas_t1w.data, return_counts=True)
    volumes = dict(zip(numbers.tolist(), counts * np.prod(atlas_t1w.zooms), strict=True))
    table = pd.DataFrame(
        {
            "index": list(atlas_files.labels.values()),
            "name": list(atlas_files.labels),
            "volume_mm3": [volumes.get(number, 0.0) for number in atlas_files.labels.values()],
        }
    ).round(1)
    return Volume(atlas_image.data, atlas_image.affine), atlas_t1w, table, xfms


@step(
    Stage.ANATOMY,
    memory=REGION,
)
def atlas_to_bold(
    brain: BrainMasks,
    atlas: Atlas,
    boldref2t1w_xfm: Transforms,
    *,
    here: Path = HERE,
    random_seed: int,
) -> AtlasLabels:
    """Resample the labels of an atlas to the grids of a run, with a single interpolation per grid.

    `boldref2t1w_xfm` is the transform of T1w points to boldref points (1, 4, 4; RAS mm).
    """
    chain = chain_through_t1w(boldref2t1w_xfm[0], atlas.atlas_xfms, here)
    source, grids = atlas.atlas_source, (brain.bold_mask, brain.bold_mask_hr)
    labels, labels_hr = (
        apply(
            source.like(source.data.astype(np.float32)),
            grid,
            chain,
            seed=random_seed,
            interpolator="nearestNeighbor",
        )
        for grid in grids
    )
    return AtlasLabels(
        atlas_bold=Volume(labels, grids[0].affine),
        atlas_bold_hr=Volume(labels_hr, grids[1].affine),
    )


def describe_regions(rois: Sequence[str], atlas: str) -> str:
    """Return methods text of the definition of the regions of interest."""
    texts = []
    for roi in rois:
        if roi in _REGION_TEXTS:
            texts.append(_REGION_TEXTS[roi])
        elif is_file(roi):
            texts.append("a mask provided by the user")
        else:
            labels = roi.replace(",", ", ")
            texts.append(f"defined by the labels {labels} of the {atlas_title(atlas)}")
    if len(texts) == 1:
        return f"The region of interest was {texts[0]}."
    return f"The regions of interest were {'; '.join(texts)}."


@step(
    Stage.ANATOMY,
    makes=("roi_t1w", "roi_source", "roi_xfms"),
    memory=REGION,
    reads=lambda roi: [Path(roi)] if is_file(roi) else [],
)
def define_region(
    t1w_preproc: Image,
    t1w_mask: Mask,
    std2t1w_xfm: File,
    atlas: Atlas | None = None,
    *,
    roi: str,
    roi_space: RegionSpace,
    atlas_name: str,
    random_seed: int,
) -> tuple[Mask, Mask, list[File]]:
    """Return the region of interest on the T1w grid, its source, and transforms between them.

    `t1w_preproc` is bias-corrected. `std2t1w_xfm` resamples template images to the T1w image.
    `atlas` is only required for label names. `roi` is a name, labels of the atlas, or a file, and
    `roi_space` is the space of the file. `atlas_name` is a name or a file.

    Returns the region on the T1w grid; the region in its original space; and transforms of T1w
    points to this space, empty if it is T1w space.
    """
    label_names = region_labels(roi, atlas_name)
    if label_names and atlas is not None:
        region = atlas.select_region(label_names)
        xfms = list(atlas.atlas_xfms)
    else:
        region = find_region(roi, t1w_mask)
        xfms = [std2t1w_xfm] if roi_space == TEMPLATE else []
    roi_t1w = resample_to_t1w(region, t1w_preproc, xfms, seed=random_seed) > 0.5
    return Volume(roi_t1w, t1w_preproc.affine), region.like(region.data > 0.5), xfms


@step(Stage.ANATOMY, makes="roi_t1w", memory=REGION)
def unite_masks(masks: list[Mask]) -> Mask:
    """Return the union of masks on the same grid."""
    return masks[0].like(np.any([mask.data for mask in masks], axis=0))
