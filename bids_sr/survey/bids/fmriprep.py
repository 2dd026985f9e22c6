"""Precomputed fMRIPrep results (``--derivatives``) of participants and runs, with their checks.

File names and default outputs depend on the fMRIPrep version:

===========  ===============  ===============  ==================  ==============================
of a run     20.0 and 20.1    20.2 to 22.0     22.1 to 23.1        since 23.2
===========  ===============  ===============  ==================  ==============================
head motion  in the table     in the table     scanner to boldref  orig to boldref, ``desc-hmc``
to T1w                        scanner to T1w   scanner to T1w      boldref to T1w, ``desc-coreg``
confounds    ``_regressors``  ``_timeseries``  ``_timeseries``     the same (``--level full``)
brain mask   with ``func`` among the ``--output-spaces``           always since 23.2.3
field map                                                          boldref to its identifier
===========  ===============  ===============  ==================  ==============================

Versions 1.0 and 1.1 name the table ``_bold_confounds`` and its columns ``X``, ``RotX`` and so on
(`bids_sr.io.confound_names`). Since 26.0, ``boldref`` is ``run`` in the names of transforms and,
as ``space-run``, of images.

Only names, headers, tables and transform files of the required outputs are read, so that the
content of other DataLad files need not be downloaded.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from xml.etree import ElementTree

from bids_sr.config.spaces import FSAVERAGE, Space
from bids_sr.io.image_header import Header
from bids_sr.io.template_files import DEFAULT_SPACE, available_templates
from bids_sr.survey.bids import bridges, headers, slice_axis
from bids_sr.survey.bids.entities import (
    RUN_KEYS,
    file_stem,
    is_magnitude,
    parse_entities,
    same_run,
)
from bids_sr.survey.bids.findings import (
    InputError,
    add_notices,
    add_problem,
    is_downloaded,
    missing_content_reason,
    note,
)
from bids_sr.survey.bids.inheritance import parse_suffix, read_object
from bids_sr.survey.bids.inputs import BoldRun
from bids_sr.survey.bids.label_lists import list_some
from bids_sr.survey.bids.layout import IMAGES
from bids_sr.survey.bids.precomputed import (
    DerivativeFolder,
    PrecomputedAnat,
    PrecomputedField,
    PrecomputedRun,
)
from bids_sr.survey.bids.precomputed_checks import check_confounds, check_grid, check_transforms

_KEYS_WITHOUT_DIRECTION = tuple(key for key in RUN_KEYS if key != "direction")
_TISSUES = ("GM", "WM", "CSF")
_ANAT_SPACES = ("T1w", "anat")  # spaces that a boldref may be registered to
_OTHER_TARGETS = (*_ANAT_SPACES, "T2w", "session", "subject")
_HMC_NAMES = (
    "from-orig_to-boldref_mode-image_desc-hmc_xfm.txt",
    "from-scanner_to-boldref_mode-image_xfm.txt",
)
_COREG_NAMES = (
    *(f"from-boldref_to-{to}_mode-image_desc-coreg_xfm.txt" for to in _ANAT_SPACES),
    "from-scanner_to-T1w_mode-image_xfm.txt",
)
_CONFOUNDS_NAMES = (
    "desc-confounds_timeseries.tsv",
    "desc-confounds_regressors.tsv",
    "confounds.tsv",
)
_FIELD_MAP_XFM = re.compile(
    r"from-boldref_to-([0-9A-Za-z]+)_mode-image(_desc-[0-9A-Za-z]+)?_xfm\.txt"
)
# end of a file name, and the name of the surface; later files take precedence
_SURFACES = (
    ("smoothwm", "white"),  # versions before 23.2 only write the smoothed white surface
    ("white", "white"),
    ("pial", "pial"),
    ("desc-reg_sphere", "sphere"),
    ("space-fsaverage_desc-reg_sphere", "sphere"),
)
_BOLDREF_STEMS = ("desc-hmc_boldref", "desc-coreg_boldref", "boldref")
_MASK = "brain mask on the BOLD grid"
_COREGISTRATION = "registration to T1w"
_TABLE = "confounds"
_ANATOMY = "T1w image with a brain mask"
_MAPS = "tissue maps (label-{GM,WM,CSF}_probseg)"
_MOTION = "head motion"
# Output that may be missing → how to make fMRIPrep write it. Sources are the documentation of
# fMRIPrep and the lists of outputs in its tests.
_OPTIONS = {
    _MASK: (
        "fMRIPrep writes this file with `--output-spaces func`, and by default since version"
        " 23.2.3"
    ),
    _COREGISTRATION: (
        "fMRIPrep writes this file by default since version 20.2; version 26.0 and later"
        " require `--bold-coreg-level run`"
    ),
    _TABLE: "fMRIPrep writes this file with `--level full`, the default",
    _MOTION: (
        "fMRIPrep writes this file by default since version 22.1; earlier versions include"
        " the motion parameters in the confounds file"
    ),
    _ANATOMY: "fMRIPrep always writes this file to the anat directory",
    _MAPS: "fMRIPrep always writes these files to the anat directory",
}


def find_anatomy(
    sources: Sequence[DerivativeFolder], label: str, images: Sequence[Path], spaces: Sequence[str]
) -> PrecomputedAnat | None:
    """Return the anatomical derivatives of a participant from the first directory that has them.

    The session of the first of the `images`, the T1w images of the data set, is preferred.
    `spaces` are the requested templates; if empty, the first template on this computer that
    has transforms is taken. Returns None if no directory has a preprocessed T1w image with a brain
    mask.
    """
    if sources and not any((origin.root / f"sub-{label}").is_dir() for origin in sources):
        _refuse_missing_participant(sources, label)
        return None
    session = parse_entities(images[0]).get("session") if images else None
    for origin in sources:
        anat = _collect_anatomy(origin, label, session)
        if anat is not None:
            available_spaces = [
                space for space in spaces or available_templates() if space in anat.spaces
            ]
            _check_anatomy(anat, available_spaces if spaces else available_spaces[:1])
            _note_missing_anatomy(label, anat, spaces)
            return anat
    if sources:
        programs = " and ".join(origin.text for origin in sources)
        note(
            f"sub-{label}",
            f"the {programs} output does not include the"
            f" {_describe_missing({_ANATOMY: _OPTIONS[_ANATOMY]})}, so the anatomical images are"
            " processed by bids-sr.",
        )
    return None


def _refuse_missing_participant(sources: Sequence[DerivativeFolder], label: str) -> None:
    """Report a participant without a folder in any of the derivatives directories."""
    roots = " and ".join(str(origin.root) for origin in sources)
    folders = (path for origin in sources for path in origin.root.glob("sub-*"))
    participants = sorted({path.name for path in folders if path.is_dir()})
    add_problem(
        f"sub-{label} (--derivatives)",
        f"sub-{label} was not found in {roots} (available participants:"
        f" {list_some(participants)})",
        f"Specify the fMRIPrep output directory that contains sub-{label}, or select other"
        " participants with --participant-label.",
    )


def _collect_anatomy(
    origin: DerivativeFolder, label: str, session: str | None
) -> PrecomputedAnat | None:
    """Return the anatomical derivatives of a participant, or None if there is no masked T1w image.

    The folder of the participant precedes the folder of `session` (session of the T1w image in the
    data set) and the folders of other sessions.
    """
    participant_dir = origin.root / f"sub-{label}"
    for folder in [
        participant_dir / "anat",
        *([participant_dir / f"ses-{session}" / "anat"] if session else []),
        *sorted(participant_dir.glob("ses-*/anat")),
    ]:
        files = [path for path in sorted(folder.glob("sub-*_*")) if _is_in_own_space(path)]
        endings = tuple(f"_desc-preproc_T1w{extension}" for extension in IMAGES)
        preproc = next((path for path in files if path.name.endswith(endings)), None)
        if preproc is None:
            continue
        mask = _find_matching(files, preproc, "_desc-brain_mask")
        if mask is None:
            note(
                preproc,
                "no brain mask was found for this image, so the anatomical images are"
                " processed by bids-sr.",
            )
            continue
        tpms = [_find_matching(files, preproc, f"_label-{tissue}_probseg") for tissue in _TISSUES]
        return PrecomputedAnat(
            origin=origin,
            preproc=preproc,
            mask=mask,
            dseg=_find_matching(files, preproc, "_dseg"),
            tpms=tuple(path for path in tpms if path is not None) if all(tpms) else (),
            spaces=_find_transforms(folder),
            surfaces=dict(_iterate_surfaces(folder, preproc)),
        )
    return None


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


def _check_anatomy(anat: PrecomputedAnat, spaces: Sequence[str]) -> None:
    """Check that all images share one 3D grid, and that transform files have the expected format.

    Only transforms to the given spaces are checked.
    """
    grid = _read_volume_header(anat.preproc)
    for path in (anat.mask, *anat.tpms, *([anat.dseg] if anat.tpms and anat.dseg else [])):
        header = bridges.read_header(path)
        if header is not None and grid is not None:
            fix = "Copy the directory again; all files must come from the same fMRIPrep run."
            check_grid(header, grid.shape, grid.affine, anat.preproc.name, fix)
    for path in (path for space in spaces for path in anat.spaces[space]):
        if not is_downloaded(path):
            continue
        if path.suffix != ".h5":
            check_transforms(path, 1)
        elif not _is_hdf5(path):
            add_problem(
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


def _note_missing_anatomy(label: str, anat: PrecomputedAnat, spaces: Sequence[str]) -> None:
    """Report the tissue maps and transforms that anatomical derivatives lack.

    `spaces` are the requested templates; if empty, one template on this computer
    suffices.
    """
    missing_outputs = {} if anat.tpms else {_MAPS: _OPTIONS[_MAPS]}
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
        missing_outputs[f"transforms between T1w and {' or '.join(missing_spaces)}"] = (
            f"fMRIPrep writes these transforms with `--output-spaces {output_spaces}`"
        )
    if missing_outputs:
        note(
            f"sub-{label}",
            f"the {anat.origin.text} output does not include {_describe_missing(missing_outputs)}."
            f" Missing outputs are computed by bids-sr.{advice}",
        )


def check_surfaces(label: str, anat: PrecomputedAnat | None, spaces: Sequence[Space]) -> None:
    """Reject surface spaces for participants without surfaces, and surfaces that do not match.

    `anat` contains the anatomical derivatives, and is None if there are none.
    """
    surfaces = {} if anat is None else anat.surfaces
    surface_spaces = {space for space in spaces if space.is_surface}
    if surface_spaces - {FSAVERAGE} and not {"white", "pial"} <= surfaces.keys():
        add_problem(
            f"sub-{label} (--output-spaces fsnative)",
            "the surfaces anat/*_hemi-{L,R}_{white,pial}.surf.gii were not found in the"
            " --derivatives directories",
            "Specify the fMRIPrep output directory with -d fmriprep=DIR (fMRIPrep writes"
            " surfaces unless it was run with --fs-no-reconall), or omit fsnative.",
        )
    for hemispheres in zip(*surfaces.values(), strict=True) if surface_spaces else ():
        counts = {_read_vertex_count(path) for path in hemispheres if is_downloaded(path)}
        if len(counts) > 1 or "" in counts:
            add_problem(
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
            tags = ElementTree.iterparse(stream, events=("start",))
            return next((tag.attrib["Dim0"] for _, tag in tags if tag.tag == "DataArray"), "")
    except (ElementTree.ParseError, OSError, KeyError):
        return ""


def find_run(
    sources: Sequence[DerivativeFolder], run: BoldRun, anat: PrecomputedAnat | None
) -> PrecomputedRun | None:
    """Return the derivatives of a run from the first directory with its head-motion estimates.

    Without anatomical derivatives (`anat` is None), the registration to T1w is not used. Returns
    None if no directory has head-motion estimates.
    """
    has_files = False
    for origin in sources:
        files = _list_run_files(origin, run)
        if any(name in files for name in (*_HMC_NAMES, *_CONFOUNDS_NAMES)):
            return _collect_run(origin, run, files, anat)
        has_files |= bool(files)
    if any((origin.root / f"sub-{run.entities['subject']}").is_dir() for origin in sources):
        programs = " and ".join(origin.text for origin in sources)
        missing_text = "any files for this run"
        if has_files:
            missing_text = f"motion estimates for this run ({_OPTIONS[_MOTION]})"
        note(
            run.bold,
            f"the {programs} output does not include {missing_text}, so head motion, registration,"
            " brain mask and confounds are computed by bids-sr.",
        )
    return None


def _list_run_files(origin: DerivativeFolder, run: BoldRun) -> dict[str, Path]:
    """Return the derivatives of a run in its own space by name, as named by version 23.2.

    Names lack the entities of the run.
    """
    paths = [
        path
        for folder in _list_folders(origin, run)[: -1 if "session" in run.entities else None]
        for path in (folder / "func").glob("sub-*_*")
        if _is_in_own_space(path)
    ]
    entities_by_path = {path: parse_entities(path) for path in paths}
    run_paths = [
        path
        for path, entities in entities_by_path.items()
        if same_run(entities, run.entities, RUN_KEYS)
    ]
    # some versions omit `dir-` from the names if runs do not differ only in direction
    if not run_paths and "direction" in run.entities and not _differs_in_direction(run):
        run_paths = [
            path
            for path, entities in entities_by_path.items()
            if "direction" not in entities
            and same_run(entities, run.entities, _KEYS_WITHOUT_DIRECTION)
        ]
    files: dict[str, Path] = {}
    for path in sorted(run_paths, key=lambda path: ("echo" in entities_by_path[path], path.name)):
        if is_magnitude(path):
            files.setdefault(_convert_name(path), path)
    return files


def _differs_in_direction(run: BoldRun) -> bool:
    """Return whether the series in the folder of a run have the same names but for ``dir-``."""
    return any(
        same_run(entities, run.entities, _KEYS_WITHOUT_DIRECTION)
        and entities.get("direction") != run.entities["direction"]
        for entities in map(parse_entities, run.bold.parent.glob("*_bold.nii*"))
    )


def _convert_name(path: Path) -> str:
    """Return the name of a derivative in version 23.2, without the entities of its run."""
    name = re.sub(r"^.*?_(?=(from|desc|echo|part|space)-|[A-Za-z0-9]+\.)", "", path.name)
    short_name = re.sub(r"((echo|part)-[^_]+|space-(run|orig))_", "", name)
    return re.sub("(from|to)-run_", r"\1-boldref_", short_name)


def _collect_run(
    origin: DerivativeFolder, run: BoldRun, files: Mapping[str, Path], anat: PrecomputedAnat | None
) -> PrecomputedRun:
    """Return the checked derivatives of a run, and report missing outputs."""
    hmc, confounds = _find_first(files, _HMC_NAMES), _find_first(files, _CONFOUNDS_NAMES)
    mask = _find_first(files, [f"desc-brain_mask{extension}" for extension in IMAGES])
    if hmc is not None:
        check_transforms(hmc, run.n_volumes)
    _check_run_grids(run, files, mask)
    registration = None if anat is None else _find_first(files, _COREG_NAMES)
    coreg = None
    if (
        anat is not None
        and registration is not None
        and _is_registered_to(anat.preproc, registration, origin, run)
    ):
        coreg = registration
        check_transforms(coreg, 1)
    if confounds is not None and not (
        missing_content_reason(confounds) or confounds.with_suffix(".json").exists()
    ):
        note(
            confounds,
            "the JSON sidecar is missing, so the masks of the aCompCor components are unknown"
            " and the first components are used. Copy the sidecar as well.",
        )
    outputs = {_MASK: mask, _COREGISTRATION: registration, _TABLE: confounds}
    if anat is None:  # the run is not registered to T1w with these derivatives
        del outputs[_COREGISTRATION]
    missing_outputs = [name for name, file in outputs.items() if file is None]
    if missing_outputs:
        description = _describe_missing({name: _OPTIONS[name] for name in missing_outputs})
        note(
            run.bold,
            f"the {origin.text} output does not include {description}. Missing outputs are"
            " computed by bids-sr.",
        )
    if hmc is None:
        note(
            run.bold,
            f"the {origin.text} output does not include head-motion transforms"
            f" ({_OPTIONS[_MOTION]}). The transforms are recomputed from the six motion parameters"
            " in the confounds file.",
        )
    return PrecomputedRun(
        origin=origin,
        hmc=hmc,
        mask=mask,
        coreg=coreg,
        confounds=confounds,
        n_dummy=None if confounds is None else check_confounds(confounds, run.n_volumes),
        field=_find_field_map(origin, run, files),
    )


def _find_first(files: Mapping[str, Path], names: Sequence[str]) -> Path | None:
    """Return the first of several names that exists, or None."""
    return next((files[name] for name in names if name in files), None)


def _check_run_grids(run: BoldRun, files: Mapping[str, Path], mask: Path | None) -> None:
    """Reject boldrefs and a brain mask that are not on the grid of a run."""
    boldrefs = [
        files[stem + extension]
        for stem in _BOLDREF_STEMS
        for extension in IMAGES
        if stem + extension in files
    ]
    # boldrefs are only checked, not used, so they need not be downloaded
    images = [path for path in boldrefs if not missing_content_reason(path)]
    for path in images if mask is None else [*images, mask]:
        header = bridges.read_header(path)
        if header is not None:
            check_grid(
                slice_axis.reorder_like(header, run.affine),
                run.shape,
                run.affine,
                f"the run {run.bold.name}",
                "Specify the fMRIPrep output for this dataset; the transforms are valid only for"
                " the original image grid.",
            )


def _is_registered_to(t1w: Path, coreg: Path, origin: DerivativeFolder, run: BoldRun) -> bool:
    """Return whether `coreg` registers a run to the T1w image in use, and report if not.

    An unknown image counts as the image in use.
    """
    # transforms of the run refer to the image of its session, or else of the participant
    images = (
        path
        for folder in _list_folders(origin, run)
        for path in sorted((folder / "anat").glob("*_desc-preproc_T1w.nii*"))
        if _is_in_own_space(path)
    )
    registered_t1w = next(images, None)
    if registered_t1w is None or registered_t1w == t1w:
        return True
    note(
        run.bold,
        f"{coreg.name} registers the run to {registered_t1w.name}, but the T1w image in use is"
        f" {t1w.name}. The run is registered to {t1w.name} by bids-sr.",
    )
    return False


def _is_in_own_space(path: Path) -> bool:
    """Return whether an image is a volume in its own space, and not in another ``space-``."""
    return not re.search("_hemi-|_space-(?!(run|orig)_)", path.name)


def _describe_missing(missing_outputs: Mapping[str, str]) -> str:
    """Return missing outputs as text, with the way to make fMRIPrep write them."""
    return " and ".join(f"{name} ({option})" for name, option in missing_outputs.items())


def _find_field_map(
    origin: DerivativeFolder, run: BoldRun, files: Mapping[str, Path]
) -> PrecomputedField | None:
    """Return the field map that a run was corrected with, or None if no field map is usable."""
    xfms = {
        match[1]: path
        for file_name, path in files.items()
        if (match := _FIELD_MAP_XFM.fullmatch(file_name)) and match[1] not in _OTHER_TARGETS
    }
    if not xfms:
        _note_unsaved_registration(origin, run)
        return None
    if len(xfms) > 1:
        _refuse_several_field_maps(list(xfms.values()))
        return None
    ((name, xfm),) = xfms.items()
    folder = _list_folders(origin, run)[0] / "fmap"
    image = _find_field_image(folder, name)
    if image is None:
        add_problem(
            xfm,
            f"the run was corrected for distortion with the field map {name}, which was not"
            f" found in {folder}",
            "Copy the fmap directory of the fMRIPrep output as well; distortion cannot be"
            " corrected without the field map.",
        )
        return None
    check_transforms(xfm, 1)
    _check_field_image(image)
    readout = _find_readout_time(run)
    direction = str(run.sidecar.get("PhaseEncodingDirection", ""))
    if readout is None or not re.fullmatch("[ijk]-?", direction):
        key = "TotalReadoutTime" if readout is None else "PhaseEncodingDirection"
        _refuse_missing_metadata(run, key, name)
        return None
    return PrecomputedField(
        name=name, fieldmap=image, xfm=xfm, phase_encoding=direction, readout=readout
    )


def _refuse_several_field_maps(xfms: Sequence[Path]) -> None:
    """Refuse registrations of a run to more than one field map."""
    xfm_names = ", ".join(path.name for path in xfms)
    add_problem(
        xfms[0],
        f"the run was registered to several field maps ({xfm_names})",
        "Keep only the registration to the field map that was used to correct the run for"
        " distortion.",
    )


def _find_field_image(folder: Path, name: str) -> Path | None:
    """Return the image of a field map in a folder, or None."""
    images = (
        path
        for extension in IMAGES
        for path in sorted(folder.glob(f"*_fmapid-{name}_desc-preproc_fieldmap{extension}"))
    )
    return next(images, None)


def _check_field_image(image: Path) -> None:
    """Check shape and unit of a field map."""
    _read_volume_header(image)
    units = _read_units(image)
    if units != "Hz":
        add_problem(
            image,
            f"the field map has the unit {units}, but Hz is expected",
            "Convert the field map to Hz.",
        )


def _refuse_missing_metadata(run: BoldRun, key: str, name: str) -> None:
    """Refuse a run without the metadata that its field map `name` requires."""
    add_problem(
        run.bold,
        f"{key} is missing or invalid in the metadata of the run, but is required to apply the"
        f" field map {name}",
        f"Add {key} to the sidecar of the run; it is needed to compute voxel shifts from the"
        " field map.",
    )


def _note_unsaved_registration(origin: DerivativeFolder, run: BoldRun) -> None:
    """Report a run that was corrected for distortion, but whose registration was not saved.

    The report of fMRIPrep then has a figure of the run before and after the correction.
    """
    folder = origin.root / f"sub-{run.entities['subject']}" / "figures"
    figures = folder.glob("sub-*_desc-sdc_bold.svg")
    if any(same_run(parse_entities(path), run.entities, RUN_KEYS) for path in figures):
        note(
            run.bold,
            f"{origin.text} corrected for susceptibility distortion but did not save the"
            " registration to the field map (fMRIPrep saves it since version 23.2). Distortion"
            " is therefore not corrected by bids-sr.",
        )


def _list_folders(origin: DerivativeFolder, run: BoldRun) -> list[Path]:
    """Return the folders of a run's session (leading zeros are ignored) and participant."""
    participant_dir = origin.root / f"sub-{run.entities['subject']}"
    session_dirs = [
        path
        for path in sorted(participant_dir.glob("ses-*"))
        if same_run({"session": path.name.removeprefix("ses-")}, run.entities, ("session",))
    ]
    return [*session_dirs, participant_dir]


def _read_volume_header(path: Path) -> Header | None:
    """Return the header of a 3D image, or None with a problem."""
    header = bridges.read_header(path)
    if header is None or len(headers.squeezed_shape(header)) == 3:
        return header
    add_problem(
        path,
        f"the image shape is {header.shape}, but a 3D image is expected",
        "Run fMRIPrep again.",
    )
    return None


def _read_units(image: Path) -> object:
    """Return the unit of a field map, Hz if it is not stated."""
    sidecar = image.with_name(f"{file_stem(image)}_{parse_suffix(image)}.json")
    if not is_downloaded(sidecar) or not sidecar.exists():
        return "Hz"
    try:
        return read_object(sidecar).get("Units", "Hz")
    except InputError as error:
        add_notices(error.problems)
        return "Hz"


def _find_readout_time(run: BoldRun) -> float | None:
    """Return the TotalReadoutTime (s) of a run, or None if it is unknown or not below 1 s.

    If missing, it is derived from EffectiveEchoSpacing and the matrix.
    """
    readout, spacing = run.sidecar.get("TotalReadoutTime"), run.sidecar.get("EffectiveEchoSpacing")
    axis = "ijk".find(str(run.sidecar.get("PhaseEncodingDirection", "?"))[:1])
    if readout is None and isinstance(spacing, str | int | float) and axis >= 0:
        try:
            readout = float(spacing) * (run.shape[axis] - 1)
        except ValueError:
            return None
    return float(readout) if isinstance(readout, int | float) and 0 < readout < 1 else None
