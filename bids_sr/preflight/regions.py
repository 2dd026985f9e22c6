"""Check of an atlas or a region of interest given as an image."""

from pathlib import Path

import numpy as np

from bids_sr.bids import Findings
from bids_sr.config import Settings
from bids_sr.region_names import find_atlas, is_aal2, is_file


def check_region(settings: Settings, findings: Findings) -> None:
    """Refuse an atlas or file of a region of interest that cannot be read or has nothing in it."""
    activation = settings.activation
    if is_file(activation.roi):
        where = f"--roi {activation.roi}"
        fix = "Alternatively, use --roi motor or --roi brain."
        values = _values(
            Path(activation.roi), where, f"Specify a single mask or label image. {fix}", findings
        )
        if values is not None and not (values > 0).any():
            fix = f"Specify a mask image with values above 0 inside the region. {fix}"
            findings.refuse_option(
                where, "the mask image is empty: all voxel values are 0 or negative", fix
            )
    if not is_aal2(activation.atlas):
        _check_atlas(activation.atlas, findings)


def _values(image: Path, where: str, fix: str, findings: Findings) -> np.ndarray | None:
    """Voxels of a 3D image that an option names; None, with a problem, where it is none."""
    import nibabel as nb

    from bids_sr.bids.headers import read_header, squeeze_3d

    read = Findings()
    header = read_header(image, read)
    if header is None or len(squeeze_3d(header)) != 3:
        why = f"the file {image} is not a 3D image" if header else read.problems[0].why
        findings.refuse_option(where, why, fix)
        return None
    return np.asanyarray(nb.load(image).dataobj)  # type: ignore[attr-defined]


def _check_atlas(named: str, findings: Findings) -> None:
    """Check that a label image is 3D, holds integers, and has a name for each label."""
    atlas = find_atlas(named)
    where = f"--atlas {named}"
    fix = "Specify a label image, or use AAL2."
    values = _values(
        atlas.image,
        where,
        "Specify a single label image in NIfTI format, or use AAL2.",
        findings,
    )
    if values is None:
        return
    numbers = np.unique(values[values != 0])
    nameless = sorted(set(numbers.astype(int).tolist()) - set(atlas.labels.values()))
    if not numbers.size:
        findings.refuse_option(
            where, f"the label image {atlas.image} is empty: all voxels are 0", fix
        )
    elif (numbers != np.round(numbers)).any():
        findings.refuse_option(
            where, f"the label image {atlas.image} contains non-integer values", fix
        )
    elif nameless:
        shown = ", ".join(map(str, nameless[:5])) + (", …" if len(nameless) > 5 else "")
        text = f"some labels of {atlas.image} are missing in {atlas.table.name}: {shown}"
        findings.refuse_option(where, text, "Add one row per missing label to the table.")
