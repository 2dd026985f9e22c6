"""Precomputed fMRIPrep results (``--derivatives``) of runs, and their rules.

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
from contextlib import suppress
from functools import cached_property
from pathlib import Path

from bids_sr.io.frozen import frozen
from bids_sr.io.notices import Notice
from bids_sr.survey.bids import headers, slice_axis
from bids_sr.survey.bids.content import missing_content_reason, require_content
from bids_sr.survey.bids.entities import (
    RUN_KEYS,
    file_stem,
    is_in_own_space,
    is_magnitude,
    parse_entities,
    same_run,
)
from bids_sr.survey.bids.inheritance import parse_suffix, read_object
from bids_sr.survey.bids.inputs import BoldRun
from bids_sr.survey.bids.layout import IMAGES
from bids_sr.survey.bids.precomputed import (
    DerivativeFolder,
    PrecomputedAnat,
    PrecomputedField,
    PrecomputedRun,
)
from bids_sr.survey.bids.precomputed_checks import (
    count_dummies,
    judge_grid,
    judge_transforms,
    judge_volume,
)
from bids_sr.survey.notices import Choice, InputError, input_error, judge, note, problem

_KEYS_WITHOUT_DIRECTION = tuple(key for key in RUN_KEYS if key != "direction")
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
_BOLDREF_STEMS = ("desc-hmc_boldref", "desc-coreg_boldref", "boldref")
# Outputs that may be missing, and how to make fMRIPrep write them, according to its documentation
# and to the lists of outputs in its tests.
_MASK = (
    "brain mask on the BOLD grid (fMRIPrep writes this file with `--output-spaces func`, and by"
    " default since version 23.2.3)"
)
_COREGISTRATION = (
    "registration to T1w (fMRIPrep writes this file by default since version 20.2; version 26.0"
    " and later require `--bold-coreg-level run`)"
)
_TABLE = "confounds (fMRIPrep writes this file with `--level full`, the default)"
_MOTION_OPTION = (
    "fMRIPrep writes this file by default since version 22.1; earlier versions include the motion"
    " parameters in the confounds file"
)


@frozen
class RunFiles:
    """Derivatives of a run in one directory, by their names in version 23.2.

    Names lack the entities of the run. `t1w` is the preprocessed T1w image in use; None without
    anatomical derivatives, so that the registration to T1w is not used.
    """

    origin: DerivativeFolder
    run: BoldRun
    t1w: Path | None
    by_name: Mapping[str, Path]

    @property
    def hmc(self) -> Path | None:
        """Head-motion transforms."""
        return self._find_first(_HMC_NAMES)

    @property
    def confounds(self) -> Path | None:
        """Table of confounds."""
        return self._find_first(_CONFOUNDS_NAMES)

    @property
    def mask(self) -> Path | None:
        """Brain mask on the grid of the run."""
        return self._find_first([f"desc-brain_mask{extension}" for extension in IMAGES])

    @property
    def boldrefs(self) -> list[Path]:
        """Images on the grid of the run, which are not used and need not be downloaded."""
        names = [stem + extension for stem in _BOLDREF_STEMS for extension in IMAGES]
        return [self.by_name[name] for name in names if name in self.by_name]

    @property
    def registration(self) -> Path | None:
        """Registration to a T1w image, which may be another one than the image in use."""
        return None if self.t1w is None else self._find_first(_COREG_NAMES)

    @cached_property
    def other_t1w(self) -> Path | None:
        """T1w image that the run is registered to, None if it is the image in use or unknown.

        This is the image of the session of the run, or else of the participant.
        """
        participant_dir = self.origin.root / f"sub-{self.run.entities['subject']}"
        images = (
            path
            for folder in (*_list_folders(self.origin, self.run), participant_dir)
            for path in sorted((folder / "anat").glob("*_desc-preproc_T1w.nii*"))
            if is_in_own_space(path)
        )
        registered_t1w = next(images, None)
        return None if registered_t1w == self.t1w else registered_t1w

    @property
    def coreg(self) -> Path | None:
        """Registration to the T1w image in use."""
        return self.registration if self.other_t1w is None else None

    @cached_property
    def n_dummy(self) -> Choice[int | None]:
        """Number of non-steady-state volumes, or why the table is unusable."""
        if self.confounds is None:
            return Choice(value=None)
        try:
            return Choice(value=count_dummies(self.confounds, self.run.n_volumes))
        except InputError as error:
            return Choice(value=None, notices=error.problems)

    @cached_property
    def field_files(self) -> tuple[str, Path, Path] | None:
        """Identifier, registration and image of the field map that the run was corrected with.

        Raises `InputError` if it is ambiguous or its image is missing.
        """
        xfms = {
            match[1]: path
            for name, path in self.by_name.items()
            if (match := _FIELD_MAP_XFM.fullmatch(name)) and match[1] not in _OTHER_TARGETS
        }
        if not xfms:
            return None
        (name, xfm), *others = xfms.items()
        if others:
            raise input_error(
                xfm,
                "the run was registered to several field maps"
                f" ({', '.join(path.name for path in xfms.values())})",
                "Keep only the registration to the field map that was used to correct the run for"
                " distortion.",
            )
        folder = _list_folders(self.origin, self.run)[0] / "fmap"
        pattern = f"*_fmapid-{name}_desc-preproc_fieldmap"
        images = [
            path for extension in IMAGES for path in sorted(folder.glob(pattern + extension))
        ]
        if not images:
            raise input_error(
                xfm,
                f"the run was corrected for distortion with the field map {name}, which was not"
                f" found in {folder}",
                "Copy the fmap directory of the fMRIPrep output as well; distortion cannot be"
                " corrected without the field map.",
            )
        return name, xfm, images[0]

    def select(self) -> PrecomputedRun:
        """Return the derivatives that processing uses, without unusable ones."""
        field = None
        with suppress(InputError):
            field = self._select_field()
        return PrecomputedRun(
            origin=self.origin,
            hmc=self.hmc,
            mask=self.mask,
            coreg=self.coreg,
            confounds=self.confounds,
            n_dummy=self.n_dummy.value,
            field=field,
        )

    def _select_field(self) -> PrecomputedField | None:
        """Return the field map, or None if the run has none or lacks the required metadata."""
        readout, direction = _find_readout_time(self.run), _find_direction(self.run)
        if self.field_files is None or readout is None or not direction:
            return None
        name, xfm, image = self.field_files
        return PrecomputedField(
            name=name, fieldmap=image, xfm=xfm, phase_encoding=direction, readout=readout
        )

    def _find_first(self, names: Sequence[str]) -> Path | None:
        """Return the first of several names that exists, or None."""
        return next((self.by_name[name] for name in names if name in self.by_name), None)


def _list_folders(origin: DerivativeFolder, run: BoldRun) -> list[Path]:
    """Return the folders of a run's session (leading zeros are ignored), or of its participant."""
    participant_dir = origin.root / f"sub-{run.entities['subject']}"
    if "session" not in run.entities:
        return [participant_dir]
    return [
        path
        for path in sorted(participant_dir.glob("ses-*"))
        if same_run({"session": path.name.removeprefix("ses-")}, run.entities, ("session",))
    ]


def _find_direction(run: BoldRun) -> str:
    """Return the phase-encoding direction of a run, "" if unknown or invalid."""
    direction = str(run.sidecar.get("PhaseEncodingDirection", ""))
    return direction if re.fullmatch("[ijk]-?", direction) else ""


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


def find_run(
    sources: Sequence[DerivativeFolder], run: BoldRun, anat: PrecomputedAnat | None
) -> RunFiles | None:
    """Return the derivatives of a run from the first directory with its head-motion estimates.

    Without anatomical derivatives (`anat` is None), the registration to T1w is not used.
    """
    for origin in sources:
        files = _list_run_files(origin, run)
        if any(name in files for name in (*_HMC_NAMES, *_CONFOUNDS_NAMES)):
            t1w = None if anat is None else anat.preproc
            return RunFiles(origin=origin, run=run, t1w=t1w, by_name=files)
    return None


def note_missing_run(sources: Sequence[DerivativeFolder], run: BoldRun) -> Iterator[Notice]:
    """Report a run without head-motion estimates in the directories of its participant."""
    if any((origin.root / f"sub-{run.entities['subject']}").is_dir() for origin in sources):
        programs = " and ".join(origin.text for origin in sources)
        missing_text = "any files for this run"
        if any(_list_run_files(origin, run) for origin in sources):
            missing_text = f"motion estimates for this run ({_MOTION_OPTION})"
        yield note(
            run.bold,
            f"the {programs} output does not include {missing_text}, so head motion, registration,"
            " brain mask and confounds are computed by bids-sr.",
        )


def _list_run_files(origin: DerivativeFolder, run: BoldRun) -> dict[str, Path]:
    """Return the derivatives of a run in its own space by name, as named by version 23.2.

    Names lack the entities of the run.
    """
    paths = [
        path
        for folder in _list_folders(origin, run)
        for path in (folder / "func").glob("sub-*_*")
        if is_in_own_space(path)
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


def _judge_motion(files: RunFiles) -> Iterator[Notice]:
    """Reject head-motion transforms unless there is one per volume."""
    if files.hmc is not None:
        yield from judge_transforms(files.hmc, files.run.n_volumes)


def _judge_images(files: RunFiles) -> Iterator[Notice]:
    """Reject boldrefs and a brain mask that are not on the grid of a run."""
    images = [path for path in files.boldrefs if not missing_content_reason(path)]
    for path in images if files.mask is None else [*images, files.mask]:
        yield from judge((_judge_run_grid,), path, files.run)


def _judge_run_grid(path: Path, run: BoldRun) -> Iterator[Notice]:
    """Reject an image that is not on the grid of a run."""
    header = headers.read_header(path)
    yield from headers.note_header(header)
    yield from judge_grid(
        slice_axis.reorder_like(header, run.affine),
        run.shape,
        run.affine,
        f"the run {run.bold.name}",
        "Specify the fMRIPrep output for this dataset; the transforms are valid only for"
        " the original image grid.",
    )


def _judge_registration(files: RunFiles) -> Iterator[Notice]:
    """Reject an invalid registration, and report a registration to another T1w image."""
    if files.registration is None or files.t1w is None:
        return
    if files.other_t1w is None:
        yield from judge_transforms(files.registration, 1)
        return
    yield note(
        files.run.bold,
        f"{files.registration.name} registers the run to {files.other_t1w.name}, but the T1w image"
        f" in use is {files.t1w.name}. The run is registered to {files.t1w.name} by bids-sr.",
    )


def _judge_confounds(files: RunFiles) -> Iterator[Notice]:
    """Report a confounds table without sidecar, and reject an unusable one."""
    confounds = files.confounds
    if confounds is not None and not (
        missing_content_reason(confounds) or confounds.with_suffix(".json").exists()
    ):
        yield note(
            confounds,
            "the JSON sidecar is missing, so the masks of the aCompCor components are unknown"
            " and the first components are used. Copy the sidecar as well.",
        )
    yield from files.n_dummy.notices


def _note_missing_outputs(files: RunFiles) -> Iterator[Notice]:
    """Report outputs that are missing, and the option of fMRIPrep that writes them."""
    outputs = {_MASK: files.mask, _COREGISTRATION: files.registration, _TABLE: files.confounds}
    if files.t1w is None:  # the run is not registered to T1w with these derivatives
        del outputs[_COREGISTRATION]
    missing_outputs = [name for name, file in outputs.items() if file is None]
    if missing_outputs:
        yield note(
            files.run.bold,
            f"the {files.origin.text} output does not include {' and '.join(missing_outputs)}."
            " Missing outputs are computed by bids-sr.",
        )
    if files.hmc is None:
        yield note(
            files.run.bold,
            f"the {files.origin.text} output does not include head-motion transforms"
            f" ({_MOTION_OPTION}). The transforms are recomputed from the six motion parameters"
            " in the confounds file.",
        )


def _judge_field(files: RunFiles) -> Iterator[Notice]:
    """Reject an unusable field map, and a run without the metadata that its field map requires."""
    if files.field_files is None:
        yield from _note_unsaved_registration(files.origin, files.run)
        return
    name, xfm, image = files.field_files
    yield from judge((judge_transforms,), xfm, 1)
    yield from judge((judge_volume, _judge_units), image)
    keys = {
        "TotalReadoutTime": _find_readout_time(files.run),
        "PhaseEncodingDirection": _find_direction(files.run),
    }
    if key := next((key for key, value in keys.items() if not value), ""):
        yield problem(
            files.run.bold,
            f"{key} is missing or invalid in the metadata of the run, but is required to apply the"
            f" field map {name}",
            f"Add {key} to the sidecar of the run; it is needed to compute voxel shifts from the"
            " field map.",
        )


def _judge_units(image: Path) -> Iterator[Notice]:
    """Reject a field map whose sidecar states another unit than Hz."""
    sidecar = image.with_name(f"{file_stem(image)}_{parse_suffix(image)}.json")
    require_content(sidecar)
    units = read_object(sidecar).get("Units", "Hz") if sidecar.exists() else "Hz"
    if units != "Hz":
        yield problem(
            image,
            f"the field map has the unit {units}, but Hz is expected",
            "Convert the field map to Hz.",
        )


def _note_unsaved_registration(origin: DerivativeFolder, run: BoldRun) -> Iterator[Notice]:
    """Report a run that was corrected for distortion, but whose registration was not saved.

    The report of fMRIPrep then has a figure of the run before and after the correction.
    """
    folder = origin.root / f"sub-{run.entities['subject']}" / "figures"
    figures = folder.glob("sub-*_desc-sdc_bold.svg")
    if any(same_run(parse_entities(path), run.entities, RUN_KEYS) for path in figures):
        yield note(
            run.bold,
            f"{origin.text} corrected for susceptibility distortion but did not save the"
            " registration to the field map (fMRIPrep saves it since version 23.2). Distortion"
            " is therefore not corrected by bids-sr.",
        )


RUN_FILE_RULES = (
    _judge_motion,
    _judge_images,
    _judge_registration,
    _judge_confounds,
    _note_missing_outputs,
    _judge_field,
)
"""Rules on the derivatives of a run."""
