"""Anatomy of a participant: T1w image, brain, tissues, template, atlas and region of interest."""

from collections.abc import Mapping, Sequence

from bids_sr.config.spaces import Space
from bids_sr.frozen import frozen
from bids_sr.pipeline.artifacts import Facts, File, Image, Mask, Table


@frozen
class TemplateRegistration:
    """How the T1w image lies to a template; `t1w2std_xfm` and `std2t1w_xfm` are files."""

    space: str
    template: Image
    template_mask: Mask
    t1w2std_xfm: File
    std2t1w_xfm: File


@frozen
class Atlas:
    """Labels of an atlas: image, names, and transforms to the T1w image."""

    atlas_source: Image
    atlas_labels: Table
    atlas_xfms: Sequence[File]


@frozen
class Surfaces:
    """Surfaces that maps are brought to; `uris` of the white ones, for sidecars."""

    space: Space
    surfaces: Sequence[File]
    uris: Sequence[str]


@frozen
class Anatomy:
    """What is known of the anatomy of a participant.

    `template`: that of the atlas. `templates`: all, by space. `brain_facts`: None if the mask was
    found by another program.
    """

    t1w_preproc: Image
    t1w_mask: Mask
    t1w_tpms: list[Image]
    brain_facts: Facts | None
    template: TemplateRegistration
    templates: Mapping[str, TemplateRegistration]
    atlas: Atlas
    roi_source: Mask
    roi_xfms: Sequence[File]
    surfaces: Sequence[Surfaces] = ()
