"""Settings of structural scans (``--sr-target anat``)."""

from pathlib import Path
from typing import Literal

from bids_sr.config import readers
from bids_sr.config.section import OptionSection, execution_option, option
from bids_sr.io.frozen import frozen

AlignmentModel = Literal[
    "rigid", "affine", "nonlinear", "template-rigid", "template", "template-warp"
]
IntensityScaling = Literal["percentile", "range"]
"""``percentile``: 1 is the 99.9th percentile of the low-resolution scan's brain, and the
high-resolution scan is scaled to the same mean. ``range``: each scan is scaled linearly from its
minimum to its maximum.
"""
Extraction = Literal["brain", "intracranial"]
Tools = Literal["ants", "fsl"]


@frozen
class Anat(OptionSection):
    """Settings of structural scans (``--sr-target anat``), which have no effect on BOLD runs."""

    split: tuple[int, ...] = option(
        (),
        help="numbers of training, validation and test participants, such as 40,11,10: one"
        " training for all participants of the dataset with the same contrasts, assigned at"
        " random whatever --participant-label selects. Other numbers of participants are divided"
        " in proportion, the split is kept, and the group level uses the test participants"
        " (default: training on the scans of each participant)",
        type=readers.parse_counts,
        least=1,
    )
    split_table: Path | None = option(
        None,
        help="table (TSV) with the columns participant_id and split (training, validation or"
        " test), for anat.split; participants that are not listed join as new participants"
        " (default: a random split)",
    )
    align: AlignmentModel = option(
        "rigid",
        help="registration between the scans of a participant: rigid, affine or nonlinear."
        " template: affine, also to the first template in --output-spaces, on a grid around"
        " the template brain. template-rigid, template-warp: the same with rigid or nonlinear"
        " registration",
    )
    mask: Extraction = option(
        "brain",
        help="voxels to keep: the brain, or intracranial (the brain with a margin of 6 mm, to"
        " segment sinuses as well)",
    )
    tools: Tools = option(
        "ants",
        help="tools for bias field correction and brain extraction: N4 and a template brain mask"
        " (ants), or FSL FAST and BET2 (fsl; FSL must be installed, and is not in the"
        " container image). With fsl, FLIRT aligns the scans of the series linear, and FAST"
        " segments the high-resolution T1w scan for the quality metrics",
    )
    lesion_template: Path | None = option(
        None,
        help="map of possible lesion locations: NIfTI file in the space of the first template in"
        " --output-spaces. The segmentation of white-matter hyperintensities starts only in"
        " voxels above 0",
    )
    brain_mask: Path | None = option(
        None,
        help="directory with manually corrected masks of the voxels to keep, named as by bids-sr"
        " (sub-01_res-hr_desc-brain_mask.nii.gz, or desc-intracranial with"
        " anat.mask=intracranial). Participants without a corrected mask use the automatic mask",
    )
    wmh_reference: Path | None = option(
        None,
        help="directory with manually edited lesion masks: masks of white-matter hyperintensities,"
        " named as by bids-sr (sub-01_res-hr_label-WMH_desc-measured_mask.nii.gz). Volumes and"
        " overlaps are compared with them",
    )
    control: bool = execution_option(
        False,
        help="participants with high-resolution scans only: measure tissue volumes per session for"
        " changes over sessions at the group level (default: skip them)",
    )
    scale: Literal["auto", "percentile", "range"] = option(
        "auto",
        help="intensity scaling. percentile: the 99.9th percentile of the low-resolution brain"
        " becomes 1, and both resolutions have the same mean. range: each scan from its"
        " minimum to its maximum. auto: range with --recipe paper, otherwise percentile",
    )
    protocol: str | None = execution_option(
        None,
        help="acquisition protocol: groups for the errors of quality metrics at the group level,"
        " from a column of participants.tsv, such as scanner, or a sidecar field of the"
        " low-resolution scans (default: one group)",
    )
    months: str | None = execution_option(
        None,
        help="column of sub-*_sessions.tsv with the months: since baseline, for changes over"
        " sessions at the group level (default: from acq_time in sessions.tsv or scans.tsv)",
    )

    def _check(self) -> None:
        self._need(len(self.split) in (0, 3), "split", "expected three numbers")

    @property
    def split_option(self) -> str:
        """Option with the split, for messages."""
        return f"--set anat.split={','.join(map(str, self.split))}"

    @property
    def aligns_to_template(self) -> bool:
        """Whether the scans are registered to a template."""
        return self.align.startswith("template")
