"""Precomputed results of fMRIPrep (``--derivatives``) of a participant and of a run, found and checked.

Names are those that fMRIPrep has used since version 23.2; from older output only the anatomy is taken, as they did not
keep the head-motion transforms. Nothing but names, headers, tables and transform files is read.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bids_sr.bids import headers as hd
from bids_sr.bids.findings import Findings, InputError
from bids_sr.bids.inputs import BoldRun, entities_of, same_run, stem_of
from bids_sr.bids.layout import IMAGES, read_object, suffix_of
from bids_sr.bids.precomputed import (
    Derivatives,
    PrecomputedAnat,
    PrecomputedField,
    PrecomputedRun,
    check_confounds,
    check_grid,
    check_transforms,
)
from bids_sr.config.values import split_named

PROGRAMS = ("fmriprep", "smriprep")
FIRST_WITH_MOTION = (23, 2)
TISSUES = ("GM", "WM", "CSF")
SPACES = ("MNI152NLin2009aSym", "MNI152NLin2009cAsym", "MNI152NLin6Asym")
"""Templates of which this program carries a copy, so that a transform to them can be used without a download."""
ANATOMIES = ("T1w", "anat")  # what the reference of a run may be registered to
RUN_KEYS = ("subject", "session", "task", "acquisition", "ceagent", "reconstruction", "direction", "run")
"""Entities that tell runs apart: echoes are one run, magnitude goes without saying."""


def open_derivatives(options: Iterable[str], bids_dir: Path, found: Findings) -> tuple[Derivatives, ...]:
    """The folders that ``--derivatives`` names; what is wrong with one becomes a problem."""
    opened: dict[str, Derivatives] = {}
    for text in options:
        name, root = split_named(text)
        folder = _open(name, root.absolute(), bids_dir, found)
        if folder is not None and folder.name in opened:
            fix = "Give each folder a name of its own: --derivatives one=DIR two=DIR."
            found.refuse(f"--derivatives {text}", "two folders have one name", fix)
        elif folder is not None:
            opened[folder.name] = folder
    return tuple(opened.values())


def _open(name: str, root: Path, bids_dir: Path, found: Findings) -> Derivatives | None:
    described, fix = root / "dataset_description.json", "Name the output folder of fMRIPrep."
    program = version = ""
    if not root.is_dir():
        found.refuse(root, "--derivatives names no folder that is there", "Check the path.")
        return None
    if root.resolve() == bids_dir.resolve():
        found.refuse(described, "it is the data set itself, not what was made of it", fix)
        return None
    try:
        content = json.loads(described.read_text(encoding="utf-8"))
        made_by = content.get("GeneratedBy") or [content["PipelineDescription"]]
        program, version = str(made_by[0]["Name"]), str(made_by[0].get("Version", ""))
    except FileNotFoundError:
        inner = sorted(path.parent.name for path in root.glob("*/dataset_description.json"))
        fix = f"Name the folder inside it: {root / inner[0]}." if inner else fix
        found.refuse(described, "there is no description of a data set, so it is not known what made the folder", fix)
        return None
    except (OSError, ValueError, LookupError, AttributeError, TypeError) as error:
        fix = "Copy the file again; it names the program in GeneratedBy."
        found.refuse(described, f"it does not say what made the folder ({type(error).__name__})", fix)
        return None
    if program.lower() not in PROGRAMS:
        fix = "Name the output folder of fMRIPrep, whose names and conventions are known here."
        found.refuse(described, f"it was made by {program}, not by fMRIPrep", fix)
        return None
    return Derivatives(root=root, name=name or program.lower(), program=program, version=version)


def precomputed_anat(
    sources: Sequence[Derivatives], label: str, images: Sequence[Path], spaces: Sequence[str], found: Findings
) -> PrecomputedAnat | None:
    """The anatomy of a participant from the first folder that has it.

    Parameters
    ----------
    sources : folders
    label : of the participant
    images : T1w images of the data set; the session of the first is preferred
    spaces : templates that maps go to
    found : takes up what speaks against it
    """
    session = entities_of(images[0]).get("session") if images else None
    for origin in sources:
        anat = _anat_of(origin, label, session, found)
        if anat is None:
            continue
        _check_anat(anat, found)
        missing = [] if anat.tpms else ["tissue maps (label-{GM,WM,CSF}_probseg)"]
        wanted = list(spaces or SPACES)
        if not any(name in anat.spaces for name in wanted):
            missing.append(f"transforms between T1w and {' or '.join(wanted)}")
        if missing:
            found.tell(f"sub-{label}", f"{origin.text} left no {' and no '.join(missing)}; they are made here.")
        return anat
    if sources:
        programs = " and ".join(origin.text for origin in sources)
        found.tell(f"sub-{label}", f"{programs} left no T1w image with a brain mask; the anatomy is prepared here.")
    return None


def _anat_of(origin: Derivatives, label: str, session: str | None, found: Findings) -> PrecomputedAnat | None:
    """Files of the participant's own folder, else of the session of its T1w image, else of its first session."""
    top = origin.root / f"sub-{label}"
    folders = [top / "anat", *([top / f"ses-{session}" / "anat"] if session else []), *sorted(top.glob("ses-*/anat"))]
    for folder in folders:
        files = [path for path in sorted(folder.glob("sub-*_*")) if _own_space(path)]
        images = [path for path in files if path.name.endswith(tuple(f"_desc-preproc_T1w{e}" for e in IMAGES))]
        if not images:
            continue
        mask = _only(files, images[0], "_desc-brain_mask")
        if mask is None:
            found.tell(images[0], "there is no brain mask beside it; the anatomy is prepared here.")
            continue
        tpms = [_only(files, images[0], f"_label-{tissue}_probseg") for tissue in TISSUES]
        return PrecomputedAnat(
            origin=origin, preproc=images[0], mask=mask, dseg=_only(files, images[0], "_dseg"),
            tpms=tuple(path for path in tpms if path is not None) if all(tpms) else (), spaces=_spaces(folder),
        )  # fmt: skip
    return None


def _own_space(path: Path) -> bool:
    return not {"space", "hemi"} & {part.partition("-")[0] for part in path.name.split("_")}


def _only(files: Sequence[Path], beside: Path, ending: str) -> Path | None:
    """The file with an ending and the entities of another one."""
    stem = re.sub(r"_desc-preproc_T1w\..*$", "", beside.name)
    return next((path for path in files for e in IMAGES if path.name == f"{stem}{ending}{e}"), None)


def _spaces(folder: Path) -> dict[str, tuple[Path, Path]]:
    """Templates to which there are transforms both ways."""
    both: dict[str, dict[str, Path]] = {}
    for path in sorted(folder.glob("*_mode-image_xfm.*")):
        ends = re.search(r"_from-([0-9A-Za-z]+)_to-([0-9A-Za-z+]+)_mode-image_xfm\.(h5|txt)$", path.name)
        if ends and "T1w" in ends.group(1, 2):
            space, way = (ends[2], "there") if ends[1] == "T1w" else (ends[1], "back")
            both.setdefault(space, {})[way] = path
    return {space: (ways["there"], ways["back"]) for space, ways in both.items() if len(ways) == 2}


def _check_anat(anat: PrecomputedAnat, found: Findings) -> None:
    """All images on one grid of three axes; composite transforms that are what their names say."""
    grid = hd.read_header(anat.preproc, found)
    if grid is None:
        return
    if len(hd.squeeze_3d(grid)) != 3:
        found.refuse(anat.preproc, f"it has the shape {grid.shape}; one 3D image is due", "Run fMRIPrep again.")
        return
    for path in (anat.mask, *anat.tpms, *([anat.dseg] if anat.tpms and anat.dseg else [])):
        header = hd.read_header(path, found)
        if header is not None:
            fix = "Copy the folder again; all come from one run."
            check_grid(header, grid.shape, grid.affine, anat.preproc.name, fix, found)
    for path in (path for ways in anat.spaces.values() for path in ways):
        if not found.fetched(path):
            continue
        if path.suffix == ".h5":
            with path.open("rb") as stream:
                sound = stream.read(8) == b"\x89HDF\r\n\x1a\n"
            if not sound:
                found.refuse(path, "it is no HDF5 file, as composite transforms are", "Copy the file again.")
        else:
            check_transforms(path, 1, found)


def precomputed_run(
    sources: Sequence[Derivatives], run: BoldRun, anat: PrecomputedAnat | None, found: Findings
) -> PrecomputedRun | None:
    """What there is of a run, from the first folder that has its head motion.

    Parameters
    ----------
    sources : folders
    run : of the data set
    anat : of the participant: without it a registration to its T1w image is of no use
    found : takes up what speaks against it
    """
    old = []
    for origin in sources:
        files = _files_of(origin, run)
        hmc = files.get("from-orig_to-boldref_mode-image_desc-hmc_xfm.txt")
        if hmc is None:
            old += [origin] if files and _version(origin) < FIRST_WITH_MOTION else []
            continue
        made = _run_of(origin, run, files, hmc, with_anat=anat is not None, found=found)
        _tell_missing(made, run, anat, found)
        return made
    if sources:
        text = "there are no head-motion transforms of fMRIPrep for it; motion, masks and confounds are made here"
        words = ", ".join(f"{o.text} did not keep them; 23.2 and later do" for o in old)
        found.tell(run.bold, f"{text} ({words})." if words else f"{text}.")
    return None


def _version(origin: Derivatives) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", origin.version)[:2])


def _files_of(origin: Derivatives, run: BoldRun) -> dict[str, Path]:
    """Files of a run in its own space, by what their names have beyond the run's entities."""
    folder = origin.root / f"sub-{run.entities['subject']}"
    folder = (folder / f"ses-{run.entities['session']}" if "session" in run.entities else folder) / "func"
    found = {}
    for path in sorted(folder.glob("sub-*_*")):
        if _own_space(path) and same_run(entities_of(path), run.entities, RUN_KEYS):
            found[re.sub(r"^.*?_(?=(from|desc|echo|part|space)-|[A-Za-z0-9]+\.)", "", path.name)] = path
    return found


def _image(files: Mapping[str, Path], stem: str) -> Path | None:
    return next((files[f"{stem}{e}"] for e in IMAGES if f"{stem}{e}" in files), None)


def _run_of(
    origin: Derivatives, run: BoldRun, files: Mapping[str, Path], hmc: Path, *, with_anat: bool, found: Findings
) -> PrecomputedRun:
    """Files of a run, checked."""
    check_transforms(hmc, run.n_volumes, found)
    for stem in ("desc-hmc_boldref", "desc-coreg_boldref", "desc-brain_mask"):
        path = _image(files, stem)
        header = None if path is None else hd.read_header(path, found)
        if header is not None:
            fix = "Name the fMRIPrep output of this very data set; its transforms hold for no other grid."
            check_grid(header, run.shape, run.affine, f"the run {run.bold.name}", fix, found)
    coreg = None
    if with_anat:
        names = (f"from-boldref_to-{to}_mode-image_desc-coreg_xfm.txt" for to in ANATOMIES)
        coreg = next((files[name] for name in names if name in files), None)
    if coreg is not None:
        check_transforms(coreg, 1, found)
    confounds = files.get("desc-confounds_timeseries.tsv")
    return PrecomputedRun(
        origin=origin, hmc=hmc, mask=_image(files, "desc-brain_mask"), coreg=coreg, confounds=confounds,
        n_dummy=None if confounds is None else check_confounds(confounds, run.n_volumes, found),
        field=_field_of(origin, run, files, found),
    )  # fmt: skip


def _tell_missing(made: PrecomputedRun, run: BoldRun, anat: PrecomputedAnat | None, found: Findings) -> None:
    """Say what is made here although the rest is taken over."""
    there = {
        "brain mask": made.mask, "registration to T1w": made.coreg or anat is None, "confounds": made.confounds,
    }  # fmt: skip
    missing = [name for name, file in there.items() if not file]
    if missing:
        found.tell(run.bold, f"{made.origin.text} left no {' and no '.join(missing)} of it; that is made here.")


def _field_of(origin: Derivatives, run: BoldRun, files: Mapping[str, Path], found: Findings) -> PrecomputedField | None:
    """The field map that the run was corrected with."""
    pattern = re.compile(r"from-boldref_to-([0-9A-Za-z]+)_mode-image(_desc-[0-9A-Za-z]+)?_xfm\.txt")
    ways = {match[1]: path for name, path in files.items() if (match := pattern.fullmatch(name))}
    fields = {name: path for name, path in ways.items() if name not in (*ANATOMIES, "T2w")}
    if not fields:
        return None
    if len(fields) > 1:
        paths = ", ".join(path.name for path in fields.values())
        fix = "Keep the one that the run was corrected with."
        found.refuse(next(iter(fields.values())), f"the run is registered to several field maps ({paths})", fix)
        return None
    (name, xfm), place = next(iter(fields.items())), run.entities.get("session")
    top = origin.root / f"sub-{run.entities['subject']}"
    folder = (top / f"ses-{place}" if place else top) / "fmap"
    images = [p for e in IMAGES for p in sorted(folder.glob(f"*_fmapid-{name}_desc-preproc_fieldmap{e}"))]
    if not images:
        found.refuse(
            xfm,
            f"the run was corrected with the field map {name}, which is not in {folder}",
            "Copy the fmap folder of the fMRIPrep output too; without it the correction cannot be applied here.",
        )
        return None
    check_transforms(xfm, 1, found)
    header, units = hd.read_header(images[0], found), _units(images[0])
    if header is not None and len(hd.squeeze_3d(header)) != 3:
        found.refuse(images[0], f"it has the shape {header.shape}; one 3D image is due", "Run fMRIPrep again.")
    if units != "Hz":
        found.refuse(images[0], f"its Units are {units}, not Hz", "Give the field in Hz.")
    direction, readout = str(run.sidecar.get("PhaseEncodingDirection", "")), total_readout_time(run)
    if not re.fullmatch("[ijk]-?", direction) or readout is None:
        lacking = "PhaseEncodingDirection" if readout is not None else "TotalReadoutTime"
        fix = f"Add {lacking} to the sidecar of the run: by how much a field shifts the signal follows from it."
        found.refuse(run.bold, f"its metadata have no usable {lacking}, which the field map {name} needs", fix)
        return None
    return PrecomputedField(name=name, fieldmap=images[0], xfm=xfm, phase_encoding=direction, readout=readout)


def _units(image: Path) -> Any:
    """Units of a field map, Hz where nothing is said."""
    try:
        return read_object(image.with_name(f"{stem_of(image)}_{suffix_of(image)}.json")).get("Units", "Hz")
    except InputError:
        return "Hz"


def total_readout_time(run: BoldRun) -> float | None:
    """TotalReadoutTime (s) of a run, or what its EffectiveEchoSpacing makes of its matrix; None without either."""
    readout, spacing = run.sidecar.get("TotalReadoutTime"), run.sidecar.get("EffectiveEchoSpacing")
    axis = "ijk".find(str(run.sidecar.get("PhaseEncodingDirection", "?"))[:1])
    if readout is None and spacing is not None and axis >= 0:
        try:
            readout = float(spacing) * (run.shape[axis] - 1)
        except (TypeError, ValueError):
            return None
    sound = isinstance(readout, int | float) and np.isfinite(readout) and 0 < readout < 1
    return float(readout) if sound and readout is not None else None
