"""Manually edited masks of white-matter hyperintensities (``--wmh-reference``) by participant.

Source: attention_unet, section 4.9: masks of the high-resolution scans were edited manually and
compared with the automatic masks of all series.
"""

from collections.abc import Sequence
from pathlib import Path

from bids_sr.bids.entities import parse_entities
from bids_sr.bids.fmriprep import INSTALLED_TEMPLATES
from bids_sr.bids.inputs import LowresScan, Pair, Subject
from bids_sr.config import Settings
from bids_sr.config.spaces import Space

_SHORT = {"subject": "sub", "session": "ses"}
ENDING = "res-hr_label-WMH_desc-measured_mask.nii.gz"
"""End of the file name of a stored mask, and of an edited copy."""


def entities_of_scans(
    settings: Settings, subject: Subject, scans: Sequence[Pair | LowresScan] = ()
) -> dict[str, str]:
    """Return the entities that all results of structural scans have, in the order of file names.

    `scans` must have the same session and resolution; if empty, the pairs of the participant are
    used.
    """
    sessions = {
        parse_entities(scan.images[0]).get("session", "") for scan in scans or subject.structural
    }
    session = {"session": max(sessions)} if len(sessions) == 1 and max(sessions) else {}
    template = next(iter(settings.preprocessing.templates), INSTALLED_TEMPLATES[0])
    in_template = settings.superres.aligns_to_template
    space = Space(name=template).entities if in_template else {}
    return {"subject": subject.label, **session, **space}


def reference_name(settings: Settings, subject: Subject) -> str:
    """Return the file name of a participant's stored mask, and of an edited copy."""
    entities = entities_of_scans(settings, subject)
    return "_".join(
        [*(f"{_SHORT.get(key, key)}-{value}" for key, value in entities.items()), ENDING]
    )


def lesion_reference(settings: Settings, subject: Subject) -> Path | None:
    """Return the edited mask of a participant, or None if option or file is missing."""
    folder = settings.superres.wmh_reference
    if folder is None:
        return None
    file = folder / reference_name(settings, subject)
    return file if file.is_file() else None


def automatic_mask_path(settings: Settings, subject: Subject) -> Path:
    """Return the path of the automatic mask in the output directory."""
    session = entities_of_scans(settings, subject).get("session")
    folder = settings.paths.output_dir / f"sub-{subject.label}"
    folder = folder / f"ses-{session}" if session else folder
    return folder / "anat" / reference_name(settings, subject)
