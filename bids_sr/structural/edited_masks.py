"""Manually edited masks of the brain (`anat.brain_mask`) and of lesions (`anat.wmh_reference`).

Source: attention_unet, sections 3.1 and 4.9: brain masks were corrected, and lesion masks of the
high-resolution scans were edited and compared with the automatic masks of all series.
"""

from collections.abc import Sequence
from pathlib import Path

from bids_sr.config import Settings
from bids_sr.config.spaces import Space
from bids_sr.io.template_files import DEFAULT_SPACE
from bids_sr.survey.bids.entities import SHORT_NAMES, parse_entities
from bids_sr.survey.bids.inputs import LowresScan, Pair, Subject

_Scans = Sequence[Pair | LowresScan]
LESIONS = "label-WMH_desc-measured"
"""Entities of an edited lesion mask."""


def lesion_reference(settings: Settings, subject: Subject) -> Path | None:
    """Return the edited lesion mask of a participant, or None if there is none."""
    return find_edited_mask(settings.anat.wmh_reference, LESIONS, settings, subject)


def corrected_brain_mask(settings: Settings, subject: Subject, scans: _Scans = ()) -> Path | None:
    """Return the corrected mask of the voxels to keep, or None if there is none.

    For `scans`, see `entities_of_scans`.
    """
    anat = settings.anat
    return find_edited_mask(anat.brain_mask, f"desc-{anat.mask}", settings, subject, scans)


def find_edited_mask(
    folder: Path | None, kind: str, settings: Settings, subject: Subject, scans: _Scans = ()
) -> Path | None:
    """Return the edited mask of a participant in a folder, or None if there is none.

    `kind` are the last entities of the name, such as `LESIONS` or ``desc-brain``.
    """
    if folder is None:
        return None
    file = folder / mask_name(kind, settings, subject, scans)
    return file if file.is_file() else None


def automatic_mask_path(kind: str, settings: Settings, subject: Subject) -> Path:
    """Return the path of the automatic mask in the output directory."""
    session = entities_of_scans(settings, subject).get("session")
    folder = settings.paths.output_dir / f"sub-{subject.label}"
    if session:
        folder /= f"ses-{session}"
    return folder / "anat" / mask_name(kind, settings, subject)


def mask_name(kind: str, settings: Settings, subject: Subject, scans: _Scans = ()) -> str:
    """Return the file name of a participant's stored mask, and of an edited copy."""
    entities = entities_of_scans(settings, subject, scans)
    labels = [f"{SHORT_NAMES.get(key, key)}-{label}" for key, label in entities.items()]
    return "_".join([*labels, f"res-hr_{kind}_mask.nii.gz"])


def entities_of_scans(settings: Settings, subject: Subject, scans: _Scans = ()) -> dict[str, str]:
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
