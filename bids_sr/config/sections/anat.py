"""Settings of structural scans (``--sr-target anat``)."""

from pathlib import Path
from typing import Literal

from bids_sr.config.section import OptionSection, option
from bids_sr.frozen import frozen


@frozen
class Anat(OptionSection):
    """Settings of structural scans (``--sr-target anat``), which have no effect on BOLD runs."""

    train_on: Literal["own", "others"] = option(
        "own",
        help="training data: scans of the same participant (own), or scans of all other"
        " participants (others)",
    )
    align: Literal[
        "rigid", "affine", "nonlinear", "template-rigid", "template", "template-warp"
    ] = option(
        "rigid",
        help="registration between the scans of a participant. template (affine), template-rigid,"
        " template-warp: also to the first template in --output-spaces, on a grid around its"
        " brain",
    )
    mask: Literal["brain", "intracranial"] = option(
        "brain",
        help="voxels to keep: the brain, or the brain with a margin of 6 mm, so that sinuses can"
        " be segmented as well",
    )
    tools: Literal["ants", "fsl"] = option(
        "ants",
        help="tools for bias field correction and brain extraction: N4 and a template brain mask"
        " (ants), or FSL FAST and BET2 (fsl; must be installed). With fsl, FLIRT (correlation"
        " ratio) aligns the scans of the series linear, and FAST segments the high-resolution T1w"
        " scan for the quality metrics",
    )
    lesion_template: Path | None = option(
        None,
        help="map of possible lesion locations: values above 0, in the space of the first template"
        " in --output-spaces. White-matter hyperintensities begin only within this map",
    )
    wmh_reference: Path | None = option(
        None,
        help="directory with manually edited lesion masks: named like the written masks"
        " (sub-01_res-hr_label-WMH_desc-measured_mask.nii.gz), they replace the measured masks in"
        " volumes and overlaps",
    )
    control: bool = option(
        False,
        help="participants with high-resolution scans only: measure their tissue volumes per"
        " session, for changes over sessions (default: skip them)",
        affects_results=False,
    )
    scale: Literal["auto", "percentile", "range"] = option(
        "auto",
        help="intensity scaling: percentile (the 99.9th percentile of the low-resolution brain is"
        " 1, and both resolutions have the same mean), range (minimum to maximum of each scan),"
        " or auto (range with --recipe paper, otherwise percentile)",
    )
    protocol: str | None = option(
        None,
        help="acquisition protocol: groups of participants at the group level, by a column of"
        " participants.tsv or a sidecar field of the low-resolution scans, such as"
        " ManufacturersModelName (default: one group)",
        affects_results=False,
    )
    months: str | None = option(
        None,
        help="column of sub-*_sessions.tsv with the months: since baseline (default: computed from"
        " acq_time in sessions.tsv or scans.tsv)",
        affects_results=False,
    )

    @property
    def aligns_to_template(self) -> bool:
        """Whether the scans are registered to a template."""
        return self.align.startswith("template")
