"""Manually edited masks of white-matter hyperintensities (`anat.wmh_reference`) by participant.

Source: attention_unet, section 4.9: masks of the high-resolution scans were edited manually and
compared with the automatic masks of all series.
"""

from collections.abc import Sequence
from pathlib import Path

from bids_sr.bids.entities import SHORT_NAMES, parse_entities
from bids_sr.bids.inputs import LowresScan, Pair, Subject
from bids_sr.config import Settings
from bids_sr.config.spaces import Space
from bids_sr.io.template_files import DEFAULT_SPACE

# end of the file name of a stored mask, and of an edited copy
_MASK_ENDING = "res-hr_label-WMH_desc-measured_mask.nii.gz"


def lesion_reference(settings: Settings, subject: Subject) -> Path | None:
    """Return the edited mask of a participant, or None if the option or the file is missing."""
    folder = settings.anat.wmh_reference
    if folder is None:
        return None
    file = folder / reference_name(settings, subject)
    return file if file.is_file() else None


def automatic_mask_path(settings: Settings, subject: Subject) -> Path:
    """Return the path of the automatic mask in the output directory."""
    session = entities_of_scans(settings, subject).get("session")
    folder = settings.paths.output_dir / f"sub-{subject.label}"
    if session:
        folder /= f"ses-{session}"
    return folder / "anat" / reference_name(settings, subject)


def reference_name(settings: Settings, subject: Subject) -> str:
    """Return the file name of a participant's stored mask, and of an edited copy."""
    entities = entities_of_scans(settings, subject)
    labels = [f"{SHORT_NAMES.get(key, key)}-{label}" for key, label in entities.items()]
    return "_".join([*labels, _MASK_ENDING])


def entities_of_scans(
    settings: Settings, subject: Subject, scans: Sequence[Pair | LowresScan] = ()
) -> dict[str, str]:
    """Return the entities that all results of structural scans have, in the order of file names.

    `scans` must have the same session and resolution; if empty, the pairs of the participant are
    used.
    """
    entities = {"subject": subject.label}
    sessions = {
        parse_entities(scan.images[0]).get("session", "") for scan in scans or subject.structural
    }
    if len(sessions) == 1 and (session := sessions.pop()):
        entities["session"] = session
    if settings.anat.aligns_to_template:
        template = next(iter(settings.preprocessing.templates), DEFAULT_SPACE)
        entities |= Space(name=template).entities
    return entities
