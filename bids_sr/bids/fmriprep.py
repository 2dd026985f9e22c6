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

Since 26.0, ``boldref`` is ``run`` in the names of transforms and, as ``space-run``, of images.

Only names, headers, tables and transform files of the required outputs are read, so that the
content of other DataLad files need not be downloaded.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from xml.etree import ElementTree

from bids_sr.bids import headers as hd, slice_axis
from bids_sr.bids.entities import RUN_KEYS, file_stem, parse_entities, same_run
from bids_sr.bids.findings import Findings, InputError, missing_content
from bids_sr.bids.inheritance import parse_suffix, read_object
from bids_sr.bids.inputs import BoldRun
from bids_sr.bids.label_lists import list_some
from bids_sr.bids.layout import IMAGES
from bids_sr.bids.precomputed import (
    DerivativeFolder,
    PrecomputedAnat,
    PrecomputedField,
    PrecomputedRun,
)
from bids_sr.bids.precomputed_checks import check_confounds, check_grid, check_transforms
from bids_sr.config.spaces import FSAVERAGE, Space
from bids_sr.io.template_cache import PACKAGED_TEMPLATES

_TISSUES = ("GM", "WM", "CSF")
SPACES = tuple(PACKAGED_TEMPLATES)
"""Templates whose images are installed with a dependency, so that transforms to them can be used
without a download.
"""
_ANATOMIES = ("T1w", "anat")  # spaces that a boldref may be registered to
_NO_FIELDS = (*_ANATOMIES, "T2w", "session", "subject")
_HMC = (
    "from-orig_to-boldref_mode-image_desc-hmc_xfm.txt",
    "from-scanner_to-boldref_mode-image_xfm.txt",
)
_COREG = (
    *(f"from-boldref_to-{to}_mode-image_desc-coreg_xfm.txt" for to in _ANATOMIES),
    "from-scanner_to-T1w_mode-image_xfm.txt",
)
_CONFOUNDS = ("desc-confounds_timeseries.tsv", "desc-confounds_regressors.tsv")
_REFERENCES = ("desc-hmc_boldref", "desc-coreg_boldref", "boldref")
_MASK, _COREGISTRATION, _TABLE = (
    "brain mask on the BOLD grid",
    "registration to T1w",
    "confounds",
)
_ANATOMY = "T1w image with a brain mask"
_MAPS = "tissue maps (label-{GM,WM,CSF}_probseg)"
_MOTION = "head motion"
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
"""Output that may be missing → how to make fMRIPrep write it.

Sources are the documentation of fMRIPrep and the lists of outputs in its tests.
"""


def find_anatomy(
    sources: Sequence[DerivativeFolder],
    label: str,
    images: Sequence[Path],
    spaces: Sequence[str],
    findings: Findings,
) -> PrecomputedAnat | None:
    """Return the anatomical derivatives of a participant from the first directory that has them.

    Parameters
    ----------
    images : sequence of Path
        T1w images of the data set; the session of the first one is preferred.
    spaces : sequence of str
        Requested templates; empty for the first supported template that has transforms.

    Returns
    -------
    PrecomputedAnat or None
        None if no directory has a preprocessed T1w image with a brain mask.
    """
    if sources and not any((origin.root / f"sub-{label}").is_dir() for origin in sources):
        roots = " and ".join(str(origin.root) for origin in sources)
        participants = sorted(
            {
                path.name
                for origin in sources
                for path in origin.root.glob("sub-*")
                if path.is_dir()
            }
        )
        fix = (
            f"Specify the fMRIPrep output directory that contains sub-{label}, or select other"
            " participants with --participant-label."
        )
        findings.add_problem(
            f"sub-{label} (--derivatives)",
            f"sub-{label} was not found in {roots} (available participants:"
            f" {list_some(participants)})",
            fix,
        )
        return None
    session = parse_entities(images[0]).get("session") if images else None
    for origin in sources:
        anat = _collect_anatomy(origin, label, session, findings)
        if anat is None:
            continue
        available = [space for space in spaces or SPACES if space in anat.spaces]
        _check_anat(anat, available if spaces else available[:1], findings)
        missing = {} if anat.tpms else {_MAPS: _OPTIONS[_MAPS]}
        missing_spaces = [space for space in spaces if space not in available] or (
            [] if available else list(SPACES)
        )
        if missing_spaces:
            output_spaces = (
                " ".join(missing_spaces).replace("+", ":cohort-")
                if spaces
                else "MNI152NLin2009cAsym"
            )
            missing[f"transforms between T1w and {' or '.join(missing_spaces)}"] = (
                f"fMRIPrep writes these transforms with `--output-spaces {output_spaces}`"
            )
        if missing:
            findings.note(
                f"sub-{label}",
                (
                    f"the {origin.text} output does not include {_describe_missing(missing)}."
                    " Missing outputs are computed by bids-sr."
                ),
            )
        return anat
    if sources:
        programs = " and ".join(origin.text for origin in sources)
        text = (
            f"the {programs} output does not include the"
            f" {_describe_missing({_ANATOMY: _OPTIONS[_ANATOMY]})}, so the anatomical images are"
            " processed by bids-sr."
        )
        findings.note(f"sub-{label}", text)
    return None


def _describe_missing(missing: Mapping[str, str]) -> str:
    """Return missing outputs as text, with the way to make fMRIPrep write them."""
    return " and ".join(f"{name} ({option})" for name, option in missing.items())


def _collect_anatomy(
    origin: DerivativeFolder, label: str, session: str | None, findings: Findings
) -> PrecomputedAnat | None:
    """Return the anatomical derivatives of a participant, or None if there is no masked T1w image.

    The folder of the participant precedes the folder of `session` (session of the T1w image in the
    data set) and the folders of other sessions.
    """
    top = origin.root / f"sub-{label}"
    folders = [
        top / "anat",
        *([top / f"ses-{session}" / "anat"] if session else []),
        *sorted(top.glob("ses-*/anat")),
    ]
    for folder in folders:
        files = [path for path in sorted(folder.glob("sub-*_*")) if _own_space(path)]
        images = [
            path
            for path in files
            if path.name.endswith(tuple(f"_desc-preproc_T1w{e}" for e in IMAGES))
        ]
        if not images:
            continue
        mask = _only(files, images[0], "_desc-brain_mask")
        if mask is None:
            findings.note(
                images[0],
                (
                    "no brain mask was found for this image, so the anatomical images are"
                    " processed by bids-sr."
                ),
            )
            continue
        tpms = [_only(files, images[0], f"_label-{tissue}_probseg") for tissue in _TISSUES]
        return PrecomputedAnat(
            origin=origin,
            preproc=images[0],
            mask=mask,
            dseg=_only(files, images[0], "_dseg"),
            tpms=tuple(path for path in tpms if path is not None) if all(tpms) else (),
            spaces=_spaces(folder),
            surfaces=dict(_surfaces(folder, images[0])),
        )
    return None


def _own_space(path: Path) -> bool:
    """Return whether an image is a volume in its own space, and not in another ``space-``."""
    return not re.search("_hemi-|_space-(?!(run|orig)_)", path.name)


def _only(files: Sequence[Path], preproc: Path, ending: str) -> Path | None:
    """Return the file with an ending that has the entities of a preprocessed T1w image."""
    stem = re.sub(r"_desc-preproc_T1w\..*$", "", preproc.name)
    return next(
        (
            path
            for path in files
            for extension in IMAGES
            if path.name == f"{stem}{ending}{extension}"
        ),
        None,
    )


def _spaces(folder: Path) -> dict[str, tuple[Path, Path]]:
    """Return template → transforms from and to T1w, for templates with both transforms."""
    xfms: dict[str, dict[str, Path]] = {}
    for path in sorted(folder.glob("*_mode-image_xfm.*")):
        match = re.search(
            r"_from-([0-9A-Za-z]+)_to-([0-9A-Za-z+]+)_mode-image_xfm\.(h5|txt)$", path.name
        )
        if match and "T1w" in match.group(1, 2):
            space, direction = (match[2], "there") if match[1] == "T1w" else (match[1], "back")
            xfms.setdefault(space, {})[direction] = path
    return {space: (pair["there"], pair["back"]) for space, pair in xfms.items() if len(pair) == 2}


def _surfaces(folder: Path, image: Path) -> Iterator[tuple[str, tuple[Path, Path]]]:
    """Yield the name and the files (left, right) of each surface of a T1w image."""
    stem = image.name.partition("_desc-preproc_T1w")[0]
    spheres = ("desc-reg_sphere", "space-fsaverage_desc-reg_sphere")
    for ending in ("smoothwm", "white", "pial", *spheres):
        hemispheres = sorted(folder.glob(f"{stem}_hemi-[LR]_{ending}.surf.gii"))
        if len(hemispheres) == 2:
            # versions before 23.2 only write the smoothed white surface
            yield (
                ending.replace("smoothwm", "white").rpartition("_")[2],
                (hemispheres[0], hemispheres[1]),
            )


def check_surfaces(
    label: str, anat: PrecomputedAnat | None, spaces: Sequence[Space], findings: Findings
) -> None:
    """Reject surface spaces for participants without surfaces, and surfaces that do not match.

    `anat` contains the anatomical derivatives, and is None if there are none.
    """
    surfaces = {} if anat is None else anat.surfaces
    surface_spaces = {space for space in spaces if space.is_surface}
    if surface_spaces - {FSAVERAGE} and not {"white", "pial"} <= surfaces.keys():
        findings.add_problem(
            f"sub-{label} (--output-spaces fsnative)",
            (
                "the surfaces anat/*_hemi-{L,R}_{white,pial}.surf.gii were not found in the"
                " --derivatives directories"
            ),
            "Specify the fMRIPrep output directory with -d fmriprep=DIR (fMRIPrep writes"
            " surfaces unless it was run with --fs-no-reconall), or omit fsnative.",
        )
    for hemispheres in zip(*surfaces.values(), strict=True) if surface_spaces else ():
        counts = {_vertices(path) for path in hemispheres if findings.is_downloaded(path)}
        if len(counts) > 1 or "" in counts:
            findings.add_problem(
                hemispheres[0],
                "the surfaces of this hemisphere must be GIFTI files with the same number of"
                " vertices",
                (
                    "Copy the anat directory again; all surfaces must come from the same"
                    " reconstruction."
                ),
            )


def _vertices(path: Path) -> str:
    """Return the number of vertices from the first array of a GIFTI surface, "" if unreadable."""
    try:
        with path.open("rb") as stream:
            tags = ElementTree.iterparse(stream, events=("start",))
            return next((tag.attrib["Dim0"] for _, tag in tags if tag.tag == "DataArray"), "")
    except (ElementTree.ParseError, OSError, KeyError):
        return ""


def _check_anat(anat: PrecomputedAnat, spaces: Sequence[str], findings: Findings) -> None:
    """Check that all images share one 3D grid, and that transform files have the expected format.

    Only transforms to the given spaces are checked.
    """
    grid = hd.read_header(anat.preproc, findings)
    if grid is not None and len(hd.squeeze_3d(grid)) != 3:
        findings.add_problem(
            anat.preproc,
            f"the image shape is {grid.shape}, but a 3D image is expected",
            "Run fMRIPrep again.",
        )
        grid = None
    for path in (anat.mask, *anat.tpms, *([anat.dseg] if anat.tpms and anat.dseg else [])):
        header = hd.read_header(path, findings)
        if header is not None and grid is not None:
            fix = "Copy the directory again; all files must come from the same fMRIPrep run."
            check_grid(header, grid.shape, grid.affine, anat.preproc.name, fix, findings)
    for path in (path for space in spaces for path in anat.spaces[space]):
        if not findings.is_downloaded(path):
            continue
        if path.suffix == ".h5":
            try:
                with path.open("rb") as stream:
                    is_hdf5 = stream.read(8) == b"\x89HDF\r\n\x1a\n"
            except OSError:  # a folder, or missing read permission
                is_hdf5 = False
            if not is_hdf5:
                findings.add_problem(
                    path,
                    "composite transforms must be HDF5 files, but this file is not an HDF5 file",
                    "Copy the file again from the fMRIPrep output directory.",
                )
        else:
            check_transforms(path, 1, findings)


def find_run(
    sources: Sequence[DerivativeFolder],
    run: BoldRun,
    anat: PrecomputedAnat | None,
    findings: Findings,
) -> PrecomputedRun | None:
    """Return the derivatives of a run from the first directory with its head-motion estimates.

    Without anatomical derivatives (`anat` is None), the registration to T1w is not used. Returns
    None if no directory has head-motion estimates.
    """
    n_files = {}
    for origin in sources:
        files = _list_run_files(origin, run)
        if any(name in files for name in (*_HMC, *_CONFOUNDS)):
            return _collect_run(origin, run, files, anat, findings)
        n_files[origin] = len(files)
    if any((origin.root / f"sub-{run.entities['subject']}").is_dir() for origin in sources):
        programs = " and ".join(origin.text for origin in n_files)
        text = (
            f"motion estimates for this run ({_OPTIONS[_MOTION]})"
            if any(n_files.values())
            else "any files for this run"
        )
        findings.note(
            run.bold,
            f"the {programs} output does not include {text}, so head motion, registration, brain"
            " mask and confounds are computed by bids-sr.",
        )
    return None


def _list_run_files(origin: DerivativeFolder, run: BoldRun) -> dict[str, Path]:
    """Return the derivatives of a run in its own space, keyed by the rest of the file name.

    The key lacks the entities of the run, and transforms are named as in version 23.2.
    """
    folders = _places(origin, run)[: -1 if "session" in run.entities else None]
    paths = [
        path
        for folder in folders
        for path in (folder / "func").glob("sub-*_*")
        if _own_space(path)
    ]
    entities_by_path = {path: parse_entities(path) for path in paths}
    run_paths = [
        path
        for path, entities in entities_by_path.items()
        if same_run(entities, run.entities, RUN_KEYS)
    ]
    # some versions omit `dir-` from the names if runs do not differ only in direction
    if not run_paths and "direction" in run.entities:
        keys = tuple(key for key in RUN_KEYS if key != "direction")
        sibling_entities = [parse_entities(path) for path in run.bold.parent.glob("*_bold.nii*")]
        directions = {
            sibling.get("direction")
            for sibling in sibling_entities
            if same_run(sibling, run.entities, keys)
        }
        if directions == {run.entities["direction"]}:
            run_paths = [
                path
                for path, labels in entities_by_path.items()
                if "direction" not in labels and same_run(labels, run.entities, keys)
            ]
    files: dict[str, Path] = {}
    for path in sorted(run_paths, key=lambda path: ("echo" in entities_by_path[path], path.name)):
        if entities_by_path[path].get("part", "mag") == "mag":
            name = re.sub(r"^.*?_(?=(from|desc|echo|part|space)-|[A-Za-z0-9]+\.)", "", path.name)
            name = re.sub(r"((echo|part)-[^_]+|space-(run|orig))_", "", name)
            files.setdefault(re.sub("(from|to)-run_", r"\1-boldref_", name), path)
    return files


def _places(origin: DerivativeFolder, run: BoldRun) -> list[Path]:
    """Return the folders of a run's session (leading zeros are ignored) and participant."""
    top = origin.root / f"sub-{run.entities['subject']}"
    session = ("session",)
    session_folders = [
        path
        for path in sorted(top.glob("ses-*"))
        if same_run({"session": path.name.removeprefix("ses-")}, run.entities, session)
    ]
    return [*session_folders, top]


def _collect_run(
    origin: DerivativeFolder,
    run: BoldRun,
    files: Mapping[str, Path],
    anat: PrecomputedAnat | None,
    findings: Findings,
) -> PrecomputedRun:
    """Return the checked derivatives of a run, and report missing outputs."""
    hmc, confounds = _first(files, _HMC), _first(files, _CONFOUNDS)
    mask = _first(files, [f"desc-brain_mask{end}" for end in IMAGES])
    coreg = _first(files, _COREG) if anat is not None else None
    if hmc is not None:
        check_transforms(hmc, run.n_volumes, findings)
    references = [
        files[name] for stem in _REFERENCES for end in IMAGES if (name := stem + end) in files
    ]
    for path in [*references, *([] if mask is None else [mask])]:
        if path is not mask and missing_content(path):
            continue  # boldrefs are only checked, not used
        header = hd.read_header(path, findings)
        if header is not None:
            fix = (
                "Specify the fMRIPrep output for this dataset; the transforms are valid only for"
                " the original image grid."
            )
            check_grid(
                slice_axis.like(header, run.affine),
                run.shape,
                run.affine,
                f"the run {run.bold.name}",
                fix,
                findings,
            )
    outputs = {_MASK: mask, _COREGISTRATION: coreg or anat is None, _TABLE: confounds}
    if coreg is not None and anat is not None:
        registered_t1w = _find_t1w(origin, run)
        if registered_t1w not in (None, anat.preproc):
            text = (
                f"{coreg.name} registers the run to {registered_t1w.name}, but the T1w image in"
                f" use is {anat.preproc.name}. The run is registered to {anat.preproc.name} by"
                " bids-sr."
            )
            findings.note(run.bold, text)
            coreg = None
        else:
            check_transforms(coreg, 1, findings)
    if confounds is not None and not (
        missing_content(confounds) or confounds.with_suffix(".json").exists()
    ):
        text = (
            "the JSON sidecar is missing, so the masks of the aCompCor components are unknown"
            " and the first components are used"
        )
        findings.note(confounds, f"{text}. Copy the sidecar as well.")
    missing = {name: _OPTIONS[name] for name, file in outputs.items() if not file}
    if missing:
        findings.note(
            run.bold,
            (
                f"the {origin.text} output does not include {_describe_missing(missing)}. Missing"
                " outputs are computed by bids-sr."
            ),
        )
    if hmc is None:
        text = (
            f"the {origin.text} output does not include head-motion transforms"
            f" ({_OPTIONS[_MOTION]}). The transforms are recomputed from the six motion parameters"
            " in the confounds file."
        )
        findings.note(run.bold, text)
    return PrecomputedRun(
        origin=origin,
        hmc=hmc,
        mask=mask,
        coreg=coreg,
        confounds=confounds,
        n_dummy=None if confounds is None else check_confounds(confounds, run.n_volumes, findings),
        field=_find_field_map(origin, run, files, findings),
    )


def _first(files: Mapping[str, Path], names: Sequence[str]) -> Path | None:
    """Return the first of several names that exists, or None."""
    return next((files[name] for name in names if name in files), None)


def _find_t1w(origin: DerivativeFolder, run: BoldRun) -> Path | None:
    """Return the preprocessed T1w image of a run's session, or else of the participant.

    Transforms of the run refer to this image.
    """
    images = (
        path
        for folder in _places(origin, run)
        for path in sorted((folder / "anat").glob("*_desc-preproc_T1w.nii*"))
        if _own_space(path)
    )
    return next(images, None)


def _find_field_map(
    origin: DerivativeFolder, run: BoldRun, files: Mapping[str, Path], findings: Findings
) -> PrecomputedField | None:
    """Return the field map that a run was corrected with, or None if no field map is usable."""
    pattern = re.compile(
        r"from-boldref_to-([0-9A-Za-z]+)_mode-image(_desc-[0-9A-Za-z]+)?_xfm\.txt"
    )
    targets = {
        match[1]: path for name, path in files.items() if (match := pattern.fullmatch(name))
    }
    fields = {name: path for name, path in targets.items() if name not in _NO_FIELDS}
    # the report of fMRIPrep has a figure of the run before and after distortion correction
    if not fields:
        figures = (origin.root / f"sub-{run.entities['subject']}" / "figures").glob(
            "sub-*_desc-sdc_bold.svg"
        )
        if any(same_run(parse_entities(path), run.entities, RUN_KEYS) for path in figures):
            text = (
                f"{origin.text} corrected for susceptibility distortion but did not save the"
                " registration to the field map (fMRIPrep saves it since version 23.2). Distortion"
                " is therefore not corrected by bids-sr."
            )
            findings.note(run.bold, text)
        return None
    if len(fields) > 1:
        paths = ", ".join(path.name for path in fields.values())
        fix = (
            "Keep only the registration to the field map that was used to correct the run for"
            " distortion."
        )
        findings.add_problem(
            next(iter(fields.values())),
            f"the run was registered to several field maps ({paths})",
            fix,
        )
        return None
    (name, xfm), folder = next(iter(fields.items())), _places(origin, run)[0] / "fmap"
    images = [
        path
        for extension in IMAGES
        for path in sorted(folder.glob(f"*_fmapid-{name}_desc-preproc_fieldmap{extension}"))
    ]
    if not images:
        findings.add_problem(
            xfm,
            (
                f"the run was corrected for distortion with the field map {name}, which was not"
                f" found in {folder}"
            ),
            "Copy the fmap directory of the fMRIPrep output as well; distortion cannot be"
            " corrected without the field map.",
        )
        return None
    check_transforms(xfm, 1, findings)
    header, units = hd.read_header(images[0], findings), _units(images[0], findings)
    if header is not None and len(hd.squeeze_3d(header)) != 3:
        findings.add_problem(
            images[0],
            f"the image shape is {header.shape}, but a 3D image is expected",
            "Run fMRIPrep again.",
        )
    if units != "Hz":
        findings.add_problem(
            images[0],
            f"the field map has the unit {units}, but Hz is expected",
            "Convert the field map to Hz.",
        )
    direction = str(run.sidecar.get("PhaseEncodingDirection", ""))
    readout = _total_readout_time(run)
    if not re.fullmatch("[ijk]-?", direction) or readout is None:
        missing_key = "PhaseEncodingDirection" if readout is not None else "TotalReadoutTime"
        fix = (
            f"Add {missing_key} to the sidecar of the run; it is needed to compute voxel shifts"
            " from the field map."
        )
        findings.add_problem(
            run.bold,
            (
                f"{missing_key} is missing or invalid in the metadata of the run, but is required"
                f" to apply the field map {name}"
            ),
            fix,
        )
        return None
    return PrecomputedField(
        name=name, fieldmap=images[0], xfm=xfm, phase_encoding=direction, readout=readout
    )


def _units(image: Path, findings: Findings) -> object:
    """Return the unit of a field map, Hz if it is not stated."""
    sidecar = image.with_name(f"{file_stem(image)}_{parse_suffix(image)}.json")
    if not findings.is_downloaded(sidecar) or not sidecar.exists():
        return "Hz"
    try:
        return read_object(sidecar).get("Units", "Hz")
    except InputError as error:
        findings.add(error.problems)
        return "Hz"


def _total_readout_time(run: BoldRun) -> float | None:
    """Return the TotalReadoutTime (s) of a run, or None.

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
