"""Anatomical derivatives of a participant that fMRIPrep computed, and their rules."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from xml.etree import ElementTree

from bids_sr.config.spaces import FSAVERAGE, Space
from bids_sr.io.notices import Notice
from bids_sr.io.template_files import DEFAULT_SPACE, available_templates
from bids_sr.survey.bids import headers
from bids_sr.survey.bids.content import require_content
from bids_sr.survey.bids.entities import is_in_own_space, parse_entities
from bids_sr.survey.bids.label_lists import list_some
from bids_sr.survey.bids.layout import IMAGES
from bids_sr.survey.bids.precomputed import DerivativeFolder, PrecomputedAnat
from bids_sr.survey.bids.precomputed_checks import judge_grid, judge_transforms, judge_volume
from bids_sr.survey.notices import Choice, InputError, judge, note, problem

_TISSUES = ("GM", "WM", "CSF")
# end of a file name, and the name of the surface; later files take precedence
_SURFACES = (
    ("smoothwm", "white"),  # versions before 23.2 only write the smoothed white surface
    ("white", "white"),
    ("pial", "pial"),
    ("desc-reg_sphere", "sphere"),
    ("space-fsaverage_desc-reg_sphere", "sphere"),
)
_MAPS = (
    "tissue maps (label-{GM,WM,CSF}_probseg) (fMRIPrep always writes these files to the anat"
    " directory)"
)


def find_anatomy(
    sources: Sequence[DerivativeFolder], label: str, images: Sequence[Path]
) -> Choice[PrecomputedAnat | None]:
    """Choose the anatomical derivatives of a participant: of the first directory that has them.

    These are a preprocessed T1w image with a brain mask, and files that belong to it. The session
    of the first of the `images`, the T1w images of the data set, is preferred. Raises `InputError`
    if no directory contains the participant.
    """
    if sources and not any((origin.root / f"sub-{label}").is_dir() for origin in sources):
        raise InputError([_describe_missing_participant(sources, label)])
    session = parse_entities(images[0]).get("session") if images else None
    notices: list[Notice] = []
    for origin in sources:
        for folder in _list_anat_folders(origin.root / f"sub-{label}", session):
            files = [path for path in sorted(folder.glob("sub-*_*")) if is_in_own_space(path)]
            endings = tuple(f"_desc-preproc_T1w{extension}" for extension in IMAGES)
            preproc = next((path for path in files if path.name.endswith(endings)), None)
            if preproc is None:
                continue
            if (mask := _find_matching(files, preproc, "_desc-brain_mask")) is not None:
                anat = _collect_anatomy(origin, files, preproc, mask)
                return Choice(value=anat, notices=tuple(notices))
            text = (
                "no brain mask was found for this image, so the anatomical images are"
                " processed by bids-sr."
            )
            notices.append(note(preproc, text))
    if sources:
        programs = " and ".join(origin.text for origin in sources)
        text = (
            f"the {programs} output does not include the T1w image with a brain mask (fMRIPrep"
            " always writes this file to the anat directory), so the anatomical images are"
            " processed by bids-sr."
        )
        notices.append(note(f"sub-{label}", text))
    return Choice(value=None, notices=tuple(notices))


def _describe_missing_participant(sources: Sequence[DerivativeFolder], label: str) -> Notice:
    """Return the problem of a participant without a folder in the derivatives directories."""
    roots = " and ".join(str(origin.root) for origin in sources)
    folders = (path for origin in sources for path in origin.root.glob("sub-*"))
    participants = sorted({path.name for path in folders if path.is_dir()})
    return problem(
        f"sub-{label} (--derivatives)",
        f"sub-{label} was not found in {roots} (available participants:"
        f" {list_some(participants)})",
        f"Specify the fMRIPrep output directory that contains sub-{label}, or select other"
        " participants with --participant-label.",
    )


def _list_anat_folders(participant_dir: Path, session: str | None) -> list[Path]:
    """Return the folder of a participant, of the session of its T1w image, and other sessions."""
    return [
        participant_dir / "anat",
        *([participant_dir / f"ses-{session}" / "anat"] if session else []),
        *sorted(participant_dir.glob("ses-*/anat")),
    ]


def _collect_anatomy(
    origin: DerivativeFolder, files: Sequence[Path], preproc: Path, mask: Path
) -> PrecomputedAnat:
    """Return a preprocessed T1w image and its brain mask with the `files` that belong to them."""
    tpms = [_find_matching(files, preproc, f"_label-{tissue}_probseg") for tissue in _TISSUES]
    return PrecomputedAnat(
        origin=origin,
        preproc=preproc,
        mask=mask,
        dseg=_find_matching(files, preproc, "_dseg"),
        tpms=tuple(path for path in tpms if path is not None) if all(tpms) else (),
        spaces=_find_transforms(preproc.parent),
        surfaces=dict(_iterate_surfaces(preproc.parent, preproc)),
    )


def _find_matching(files: Sequence[Path], preproc: Path, ending: str) -> Path | None:
    """Return the file with an ending that has the entities of a preprocessed T1w image, or None.

    `ending` lacks the file extension.
    """
    stem = re.sub(r"_desc-preproc_T1w\..*$", "", preproc.name)
    names = [f"{stem}{ending}{extension}" for extension in IMAGES]
    return next((path for path in files if path.name in names), None)


def _find_transforms(folder: Path) -> dict[str, tuple[Path, Path]]:
    """Return template → transforms from and to T1w, for templates with both transforms."""
    pattern = r"_from-([0-9A-Za-z]+)_to-([0-9A-Za-z+]+)_mode-image_xfm\.(h5|txt)$"
    transforms = {
        (match[1], match[2]): path
        for path in sorted(folder.glob("*_mode-image_xfm.*"))
        if (match := re.search(pattern, path.name))
    }
    return {
        space: (transform, transforms[space, "T1w"])
        for (source, space), transform in transforms.items()
        if source == "T1w" and (space, "T1w") in transforms
    }


def _iterate_surfaces(folder: Path, image: Path) -> Iterator[tuple[str, tuple[Path, Path]]]:
    """Yield the name and the files (left, right) of each surface of a T1w image."""
    stem = image.name.partition("_desc-preproc_T1w")[0]
    for ending, name in _SURFACES:
        hemispheres = sorted(folder.glob(f"{stem}_hemi-[LR]_{ending}.surf.gii"))
        if len(hemispheres) == 2:
            left, right = hemispheres
            yield name, (left, right)


def judge_anatomy(label: str, anat: PrecomputedAnat, templates: Sequence[str]) -> Iterator[Notice]:
    """Reject anatomical derivatives that are not on one 3D grid, and invalid transforms.

    `templates` are the requested templates, whose transforms are used. If empty, the first
    template on this computer that has transforms is used.
    """
    yield from judge((judge_volume,), anat.preproc)
    for path in (anat.mask, *anat.tpms, *([anat.dseg] if anat.tpms and anat.dseg else [])):
        yield from judge((_judge_anat_grid,), path, anat)
    spaces = [space for space in templates or available_templates() if space in anat.spaces]
    for space in spaces if templates else spaces[:1]:
        for path in anat.spaces[space]:
            yield from judge((_judge_space_transform,), path)
    yield from _note_missing_anatomy(label, anat, templates)


def _judge_anat_grid(path: Path, anat: PrecomputedAnat) -> Iterator[Notice]:
    """Reject an image that is not on the grid of the T1w image."""
    header = headers.read_header(path)
    yield from headers.note_header(header)
    grid = headers.read_header(anat.preproc)
    if len(headers.squeezed_shape(grid)) == 3:
        fix = "Copy the directory again; all files must come from the same fMRIPrep run."
        yield from judge_grid(header, grid.shape, grid.affine, anat.preproc.name, fix)


def _judge_space_transform(path: Path) -> Iterator[Notice]:
    """Reject a transform from or to a template that has not the expected format."""
    require_content(path)
    if path.suffix != ".h5":
        yield from judge_transforms(path, 1)
    elif not _is_hdf5(path):
        yield problem(
            path,
            "composite transforms must be HDF5 files, but this file is not an HDF5 file",
            "Copy the file again from the fMRIPrep output directory.",
        )


def _is_hdf5(path: Path) -> bool:
    """Return whether a file starts with the signature of HDF5."""
    try:
        with path.open("rb") as stream:
            return stream.read(8) == b"\x89HDF\r\n\x1a\n"
    except OSError:  # a folder, or missing read permission
        return False


def _note_missing_anatomy(
    label: str, anat: PrecomputedAnat, spaces: Sequence[str]
) -> Iterator[Notice]:
    """Report the tissue maps and transforms that anatomical derivatives lack.

    `spaces` are the requested templates; if empty, one template on this computer
    suffices.
    """
    missing_outputs = [] if anat.tpms else [_MAPS]
    missing_spaces = [space for space in spaces if space not in anat.spaces]
    advice = ""
    if not spaces and not any(space in anat.spaces for space in available_templates()):
        missing_spaces = [DEFAULT_SPACE]
        if other_templates := " or ".join(sorted(anat.spaces.keys() - {"fsnative"})):
            advice = (
                f" To use the transforms to {other_templates}, which is not available on this"
                " machine, request it with --output-spaces."
            )
    if missing_spaces:
        output_spaces = " ".join(missing_spaces).replace("+", ":cohort-")
        missing_outputs.append(
            f"transforms between T1w and {' or '.join(missing_spaces)} (fMRIPrep writes these"
            f" transforms with `--output-spaces {output_spaces}`)"
        )
    if missing_outputs:
        yield note(
            f"sub-{label}",
            f"the {anat.origin.text} output does not include {' and '.join(missing_outputs)}."
            f" Missing outputs are computed by bids-sr.{advice}",
        )


def judge_surfaces(
    label: str, anat: PrecomputedAnat | None, spaces: Sequence[Space]
) -> Iterator[Notice]:
    """Reject surface spaces for participants without surfaces, and surfaces that do not match.

    `anat` contains the anatomical derivatives, and is None if there are none.
    """
    surfaces = {} if anat is None else anat.surfaces
    surface_spaces = {space for space in spaces if space.is_surface}
    if surface_spaces - {FSAVERAGE} and not {"white", "pial"} <= surfaces.keys():
        yield problem(
            f"sub-{label} (--output-spaces fsnative)",
            "the surfaces anat/*_hemi-{L,R}_{white,pial}.surf.gii were not found in the"
            " --derivatives directories",
            "Specify the fMRIPrep output directory with -d fmriprep=DIR (fMRIPrep writes"
            " surfaces unless it was run with --fs-no-reconall), or omit fsnative.",
        )
    for hemispheres in zip(*surfaces.values(), strict=True) if surface_spaces else ():
        counts = set()
        for path in hemispheres:
            try:
                require_content(path)
                counts.add(_read_vertex_count(path))
            except InputError as error:
                yield from error.problems
        if len(counts) > 1 or "" in counts:
            yield problem(
                hemispheres[0],
                "the surfaces of this hemisphere must be GIFTI files with the same number of"
                " vertices",
                "Copy the anat directory again; all surfaces must come from the same"
                " reconstruction.",
            )


def _read_vertex_count(path: Path) -> str:
    """Return the number of vertices from the first array of a GIFTI surface, "" if unreadable."""
    try:
        with path.open("rb") as stream:
            # the standard library expands no external entity
            tags = ElementTree.iterparse(stream, events=("start",))
            return next((tag.attrib["Dim0"] for _, tag in tags if tag.tag == "DataArray"), "")
    except (ElementTree.ParseError, OSError, KeyError):
        return ""
