"""Structural scans (``--sr-target anat``): super-resolution of T1w, T2w and FLAIR images.

Scans of a participant are prepared on one grid, super-resolved by a network that fuses the
contrasts, and measured by image quality, tissues and lesions (attention-unet). The order of steps
is in `bids_sr.workflows.structural`; `group` has the statistics across participants.
"""

from typing import TYPE_CHECKING

from bids_sr.io.lazy import import_on_use

if TYPE_CHECKING:
    from bids_sr.structural.checks import (
        check_edited_masks as check_edited_masks,
        check_lesion_template as check_lesion_template,
        check_tools as check_tools,
    )
    from bids_sr.structural.group.level import (
        find_scans_group as find_scans_group,
        is_scans_group as is_scans_group,
    )
    from bids_sr.structural.steps.figures import STRUCTURAL_FIGURES as STRUCTURAL_FIGURES
    from bids_sr.structural.survey import survey_structural as survey_structural
else:
    __getattr__ = import_on_use(
        __name__,
        {
            "checks": ["check_edited_masks", "check_lesion_template", "check_tools"],
            "group.level": ["find_scans_group", "is_scans_group"],
            "steps.figures": ["STRUCTURAL_FIGURES"],
            "survey": ["survey_structural"],
        },
    )
