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
        help="registration between the scans of a participant. template: affine registration"
        " between scans and to the first template in --output-spaces, on a grid around the"
        " template brain. template-rigid, template-warp: the same with rigid or nonlinear"
        " registration",
    )
    mask: Literal["brain", "intracranial"] = option(
        "brain",
        help="voxels to keep: the brain, or the brain with a margin of 6 mm, so that sinuses can"
        " be segmented as well",
    )
    tools: Literal["ants", "fsl"] = option(
        "ants",
        help="tools for bias field correction and brain extraction: N4 and a template brain mask"
        " (ants), or FSL FAST and BET2 (fsl; FSL must be installed, and is not part of the"
        " container image). With fsl, FLIRT (correlation ratio) aligns the scans of the series"
        " linear, and FAST segments the high-resolution T1w scan for the quality metrics",
    )
    lesion_template: Path | None = option(
        None,
        help="map of possible lesion locations: NIfTI file with values above 0 in the space of"
        " the first template in --output-spaces. The segmentation of white-matter"
        " hyperintensities starts only within this map",
    )
    wmh_reference: Path | None = option(
        None,
        help="directory with manually edited lesion masks: masks of white-matter"
        " hyperintensities that are named like the masks written by bids-sr"
        " (sub-01_res-hr_label-WMH_desc-measured_mask.nii.gz). Volumes and overlaps of these"
        " participants are compared with the edited masks",
    )
    control: bool = option(
        False,
        help="participants with high-resolution scans only: measure their tissue volumes per"
        " session for group-level analyses of changes over sessions (default: skip them)",
        affects_results=False,
    )
    scale: Literal["auto", "percentile", "range"] = option(
        "auto",
        help="intensity scaling. percentile: the 99.9th percentile of the low-resolution brain"
        " is scaled to 1, and both resolutions have the same mean. range: each scan is scaled"
        " from its minimum to its maximum. auto: range with --recipe paper, otherwise percentile",
    )
    protocol: str | None = option(
        None,
        help="acquisition protocol: groups for the errors of quality metrics at the group level,"
        " by a column of participants.tsv, such as scanner, or a sidecar field of the"
        " low-resolution scans, such as ManufacturersModelName (default: one group)",
        affects_results=False,
    )
    months: str | None = option(
        None,
        help="column of sub-*_sessions.tsv with the months: since baseline, for changes of tissue"
        " volumes over sessions at the group level (default: computed from acq_time in"
        " sessions.tsv or scans.tsv)",
        affects_results=False,
    )

    @property
    def aligns_to_template(self) -> bool:
        """Whether the scans are registered to a template."""
        return self.align.startswith("template")
