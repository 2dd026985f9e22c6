"""Data sets for retrospective evaluation: downsampled runs and the measured volumes as reference.

Both are BIDS data sets, and only participants with changes are written.

The directories of a participant are built in a temporary directory and moved when complete. A
record contains the input files, settings and version, and the sizes of the written files, and is
used later to check whether the directories are still valid. Files of a resumed call therefore keep
their times, and dependent steps are not repeated.
"""

import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
from nibabel.nifti1 import Nifti1Header

from bids_sr.config import Settings
from bids_sr.glm.contrasts import REST_TYPES
from bids_sr.io.arrays import Array
from bids_sr.io.atomic_files import read_json, write_json, write_text
from bids_sr.io.checksums import checksum
from bids_sr.io.code_digests import digest_program
from bids_sr.io.copies import copy_series
from bids_sr.io.grids import AS_STORED, Factor, reorder, reorder_affine, reorder_header, size_text
from bids_sr.io.nifti import SeriesReader, load_image
from bids_sr.io.tables import join_line, read_rows, split_table
from bids_sr.preproc.multi_echo import combine_echoes
from bids_sr.preproc.nonsteady import count_nonsteady_volumes
from bids_sr.spatial.matrices import acquire, block_matrix
from bids_sr.survey.bids.entities import file_stem
from bids_sr.survey.bids.inputs import BoldRun, Pair, Subject
from bids_sr.survey.bids.retrospective_plan import (
    describe_downsampling,
    n_averaged_volumes,
    n_removed_volumes,
    pair_labels,
    retrospective_factor,
    select_pair_sources,
)
from bids_sr.survey.retrospective.downsampling import (
    central_window,
    noise_to_add,
    thermal_noise,
    write_lr_series,
    write_measured_series,
    write_pair,
)
from bids_sr.version import __version__

_LOGGER = logging.getLogger(__name__)
# directory next to the two data sets with one record per participant
_RECORDS_FOLDER = "retrospective-records"
# sidecar fields of the measured matrix; partial Fourier omits frequencies that truncation removes
_GEOMETRY_KEYS = (
    "AcquisitionMatrixPE",
    "ReconMatrixPE",
    "BaseResolution",
    "AcquisitionVoxelSize",
    "PartialFourier",
)
_THICKNESS_KEYS = ("SliceThickness", "SpacingBetweenSlices")  # mm
# sidecar fields that the images of a pair inherit from their source
_PAIR_KEYS = (
    "MagneticFieldStrength",
    "EchoTime",
    "FlipAngle",
    "RepetitionTime",
    "Manufacturer",
    "SliceThickness",
)
# trial types by task, in the order of ``Levels`` at the root of the original data set
_TypeOrder = Mapping[str, Sequence[str]]


def prepare(
    settings: Settings,
    subjects: Sequence[Subject],
    type_order: _TypeOrder,
    print_line: Callable[[str], None] = _LOGGER.info,
) -> Settings:
    """Create or update the downsampled data set and its high-resolution reference.

    `subjects` are participants of the original data set, without problems. `type_order` are trial
    types by task, in the order of ``Levels`` at the root of the original data set. `print_line` is
    called with one line per created participant. Returns the settings of the same call on the
    downsampled data set.
    """
    data_dir, truth_dir = _get_output_dirs(settings)
    _describe_dataset(data_dir, settings, f"dataset downsampled by {_describe_operator(settings)}")
    _describe_dataset(truth_dir, settings, "high-resolution reference of the downsampled dataset")
    runs = [run for subject in subjects for run in subject.runs if run.events is not None]
    # default contrasts have the names and signs that they have in the original data set
    for task in sorted({run.entities["task"] for run in runs}):
        rest_types = _list_rest_types(run.events for run in runs if run.entities["task"] == task)
        for root in (data_dir, truth_dir):
            sidecar = root / f"task-{task}_events.json"
            if types := type_order.get(task):
                levels = {name: name for name in (*types, *rest_types)}
                write_json(sidecar, {"trial_type": {"Levels": levels}})
            else:
                sidecar.unlink(missing_ok=True)
    for subject in subjects:
        digest = _compute_digest(subject, settings)
        record = data_dir.parent / _RECORDS_FOLDER / f"sub-{subject.label}.json"
        if _is_valid(record, digest, data_dir.parent):
            continue
        print_line(
            f"sub-{subject.label}: creating the downsampled dataset and its high-resolution"
            " reference"
        )
        record.unlink(missing_ok=True)
        _build_participant(subject, settings)
        folders = [root / f"sub-{subject.label}" for root in (data_dir, truth_dir)]
        _write_record(record, digest, folders)
    return _redirect_settings(settings, subjects)


def _list_rest_types(tables: Iterable[Path | None]) -> list[str]:
    """Return the trial types of rest in events tables, which ``Levels`` must also contain."""
    rows = (row for table in tables if table is not None for _, row in read_rows(table)[1])
    names = {row.get("trial_type") or "" for row in rows}
    return sorted(name for name in names if name.strip().lower() in REST_TYPES)


def _describe_dataset(root: Path, settings: Settings, title: str) -> None:
    """Write the top-level files of a BIDS data set."""
    source = settings.paths.bids_dir / "dataset_description.json"
    name = read_json(source).get("Name", settings.paths.bids_dir.name)
    variant = f"{describe_downsampling(settings)}, {settings.evaluation.retrospective}"
    description = {
        "Name": f"{name}: {title}",
        "BIDSVersion": "1.9.0",
        "DatasetType": "raw",
        "GeneratedBy": [
            {
                "Name": "bids-sr",
                "Version": __version__,
                "Description": f"--retrospective, {variant}",
            }
        ],
    }
    write_json(root / "dataset_description.json", description)
    write_text(
        root / "README",
        f"# {name}: {title}\n\nGenerated by bids-sr {__version__} with --retrospective"
        f" ({variant}) from the dataset of this name, to compare super-resolved series with"
        " the acquired high-resolution series. See the page Evaluation in the bids-sr"
        " documentation.\n",
    )


def _compute_digest(subject: Subject, settings: Settings) -> str:
    """Return a checksum of the code and all inputs that determine a participant's files."""
    pairs = _list_pairs(subject)
    input_files = {
        *(run.bold for run in subject.runs),
        *(echo_file for run in subject.runs for echo_file, _ in run.echoes),
        *(run.events for run in subject.runs if run.events is not None),
        *subject.t1w[:1],
        *(pair.highres for pair in pairs),
        *(pair.lowres for pair in pairs if pair.lowres is not None),
    }
    facts = {
        "code": digest_program(),
        "files": [(str(path), checksum(path)) for path in sorted(input_files)],
        "sidecars": [dict(run.sidecar) for run in subject.runs],
        "factor": retrospective_factor(settings),
        "operator": settings.evaluation.retrospective_operator,
        "noise": settings.evaluation.retrospective,
        "seed": settings.resources.random_seed,
        "dummies": settings.preprocessing.dummy_scans,
        "left_out": [n_removed_volumes(run, subject, settings) for run in subject.runs],
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()


def _build_participant(subject: Subject, settings: Settings) -> None:
    """Build both directories of a participant in a temporary directory, then move them."""
    data_dir, truth_dir = _get_output_dirs(settings)
    prefix = f".retrospective-sub-{subject.label}-"
    # leftovers of a killed run; the participant is locked, so no other process uses them
    for leftover in data_dir.parent.glob(f"{prefix}*"):
        shutil.rmtree(leftover, ignore_errors=True)
    build_dir = Path(tempfile.mkdtemp(prefix=prefix, dir=data_dir.parent))
    try:
        for run in subject.runs:
            _write_run(run, subject, settings, build_dir)
        for pair in _list_pairs(subject):
            _downsample_pair(pair, subject, settings, build_dir / "data")
        # copied, as a change through a link would reach the original data set
        for t1w_file in subject.t1w[:1]:
            t1w_copy = build_dir / "data" / t1w_file.relative_to(settings.paths.bids_dir)
            t1w_copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(t1w_file, t1w_copy)
            if sidecar := read_json(_locate_sidecar(t1w_file)):
                write_json(_locate_sidecar(t1w_copy), sidecar)
        for build_root, root in ((build_dir / "data", data_dir), (build_dir / "truth", truth_dir)):
            target_folder = root / f"sub-{subject.label}"
            shutil.rmtree(target_folder, ignore_errors=True)
            os.replace(build_root / f"sub-{subject.label}", target_folder)
    finally:
        shutil.rmtree(build_dir, ignore_errors=True)


def _write_run(run: BoldRun, subject: Subject, settings: Settings, build_dir: Path) -> None:
    """Write a run's downsampled copy, its measured volumes, their events, and a pair if needed.

    The pair is created from the mean of the first steady-state volumes if the run is selected for
    this purpose.
    """
    factor = retrospective_factor(settings)
    session = run.entities.get("session")
    bold = _prepare_series(run, build_dir)
    first_volume = settings.preprocessing.dummy_scans or 0
    if any(run is source for source in select_pair_sources(subject).values()):
        first_volume = _write_pair_of_run(run, bold, subject, settings, build_dir / "data")
    noise_sd = 0.0
    if settings.evaluation.retrospective == "noisy":
        noise_sd = noise_to_add(thermal_noise(bold, first_volume), factor)
    lowres, measured = (
        _make_folder(build_dir / dataset, subject, session, "func") / f"{run.stem}_bold.nii.gz"
        for dataset in ("data", "truth")
    )
    write_lr_series(
        bold,
        lowres,
        factor=factor,
        first_volume=first_volume,
        operator=settings.evaluation.retrospective_operator,
        noise_sd=noise_sd,
        seed=settings.resources.random_seed,
    )
    write_measured_series(bold, measured, factor=factor, first_volume=first_volume)
    lowres_sidecar, measured_sidecar = _make_sidecars(run, factor)
    lowres_sidecar |= {
        "Description": f"simulated from acquired {size_text(run.zooms)} data by"
        f" {_describe_operator(settings)}",
        "Retrospective": {
            "Factor": list(factor),
            "Operator": settings.evaluation.retrospective_operator,
            "VolumesLeftOut": first_volume,
            "NoiseAdded": round(noise_sd, 6),
        },
    }
    for path, sidecar in ((lowres, lowres_sidecar), (measured, measured_sidecar)):
        write_json(path.with_name(f"{run.stem}_bold.json"), sidecar)
        if run.events is not None:
            table = path.with_name(f"{run.stem}_events.tsv")
            table.write_text(_shift_events(run.events, -first_volume * run.tr), encoding="utf-8")
            if content := read_json(run.events.with_suffix(".json")):
                write_json(table.with_suffix(".json"), content)


def _prepare_series(run: BoldRun, build_dir: Path) -> Path:
    """Return a run's series as one file with slices on the third axis and echoes combined."""
    series = run.bold
    if run.echoes:
        series = build_dir / f"{run.stem}_combined.nii"
        combine_echoes([path for path, _ in run.echoes], [te for _, te in run.echoes], series)
    if run.axis_order == AS_STORED:
        return series
    reordered = build_dir / f"{run.stem}_slices.nii"
    copy_series(series, reordered, order=run.axis_order)
    return reordered


class _SourceImage(NamedTuple):
    """Image that a pair is computed from, with its sidecar.

    The values are (X, Y, Z), and `affine` is the voxel-to-world matrix (4 x 4, RAS+ mm). The qform
    and sform codes of `header` are copied.
    """

    data: Array
    affine: Array
    header: Nifti1Header
    sidecar: Mapping[str, object]


def _write_pair_of_run(
    run: BoldRun, bold: Path, subject: Subject, settings: Settings, root: Path
) -> int:
    """Write a pair from the mean of a run's first steady-state volumes.

    Returns the number of the first volume after the averaged volumes. `bold` is the result of
    `_prepare_series`, and `root` the folder of the data set.
    """
    dummy_scans = settings.preprocessing.dummy_scans
    start = count_nonsteady_volumes(bold) if dummy_scans is None else dummy_scans
    end = start + n_averaged_volumes(run)
    with SeriesReader(bold) as reader:
        mean_image = _SourceImage(
            reader.mean(start, end).astype(np.float32), reader.affine, reader.header, run.sidecar
        )
    _write_pair(mean_image, root, subject, run.entities.get("session"), settings)
    return end


def _make_sidecars(run: BoldRun, factor: Factor) -> tuple[dict[str, object], dict[str, object]]:
    """Return the metadata of a run's downsampled copy and of its measured volumes."""
    measured = dict(run.sidecar)
    lowres = {key: value for key, value in measured.items() if key not in _GEOMETRY_KEYS}
    if factor[2] != 1:
        window = central_window(run.shape, factor)
        for sidecar, n_slices in ((measured, window.shape[2]), (lowres, window.lowres_shape[2])):
            _update_slice_entries(sidecar, run.slice_timing, window.slices[2], n_slices)
    return lowres, measured


def _update_slice_entries(
    sidecar: dict[str, object], times: Sequence[float] | None, window: slice, n_slices: int
) -> None:
    """Adapt the slice entries of a sidecar after averaging a part of the slices.

    The time of a thicker slice is the mean of the averaged slices' times. `sidecar` has metadata
    of a run, which are changed in place. `times` are the acquisition time of each slice of the
    run, starting with its first slice (s); None if unknown. `window` are the slices of the run
    that are used, and `n_slices` is their number after averaging.
    """
    n_acquired = window.stop - window.start
    for name in ("SliceTiming", "SliceEncodingDirection"):
        sidecar.pop(name, None)
    if times is not None:
        slice_times = np.asarray(times, dtype=np.float64)[window]
        mean_times = block_matrix(n_acquired, n_slices) @ slice_times
        sidecar["SliceTiming"] = [round(float(time), 6) for time in mean_times]
    for name in _THICKNESS_KEYS:
        if isinstance(thickness := sidecar.get(name), int | float):
            sidecar[name] = round(thickness * n_acquired / n_slices, 6)


def _describe_operator(settings: Settings) -> str:
    """Return a noun phrase for the operator of the data, for texts."""
    if settings.evaluation.retrospective_operator == "trilinear":
        return "trilinear interpolation without a filter"
    is_averaged = retrospective_factor(settings)[2] != 1
    return "k-space truncation" + (" and averaging across slices" if is_averaged else "")


def _shift_events(table: Path, seconds: float) -> str:
    """Return the text of an events table after shifting its onsets by a number of seconds.

    Shifted onsets have at most six decimals. Other cells, and onsets that are not numbers, are not
    changed.
    """
    table_text = table.read_text(encoding="utf-8-sig")
    if not seconds:
        return table_text
    columns, rows = split_table(table)
    onset_column = columns.index("onset")
    for _, cells in rows:
        if onset_column < len(cells):
            with suppress(ValueError):
                shifted = f"{float(cells[onset_column]) + seconds:.6f}".rstrip("0").rstrip(".")
                cells[onset_column] = "0" if shifted == "-0" else shifted
    return "".join(join_line(cells) + "\n" for cells in (columns, *(cells for _, cells in rows)))


def _list_pairs(subject: Subject) -> tuple[Pair, ...]:
    """Return all pairs of a participant once, including held-out pairs."""
    return tuple(dict.fromkeys((*subject.pairs, *subject.holdouts.values())))


def _downsample_pair(pair: Pair, subject: Subject, settings: Settings, root: Path) -> None:
    """Write a pair at a lower resolution to the data set in the folder `root`.

    The image of the original pair at the BOLD resolution becomes the high-resolution image. If the
    original pair has no low-resolution image, it is computed from the high-resolution image.
    """
    session, run = pair_labels(pair)
    source = pair.lowres or pair.highres
    stored_image, stored_affine = load_image(source)
    order = pair.orders[0 if pair.lowres is None else 1]
    image = reorder(stored_image.reshape(stored_image.shape[:3]), order)
    affine = reorder_affine(stored_affine, order)
    if pair.lowres is None:
        image, affine = acquire(image, affine, factor=pair.factor, magnitude=True)
    with SeriesReader(source) as reader:
        header = reorder_header(reader.header, order)
    _write_pair(
        _SourceImage(image, affine, header, read_json(_locate_sidecar(source))),
        root,
        subject,
        session,
        settings,
        run_entity=f"_run-{run}" if run else "",
    )


def _write_pair(
    image: _SourceImage,
    root: Path,
    subject: Subject,
    session: str | None,
    settings: Settings,
    *,
    run_entity: str = "",
) -> None:
    """Write a pair from its high-resolution image to the data set in the folder `root`.

    `run_entity` is the part of the file names with the number of the pair, or "".
    """
    factor = retrospective_factor(settings)
    folder = _make_folder(root, subject, session, "anat")
    stem = f"sub-{subject.label}" + (f"_ses-{session}" if session else "")
    highres, lowres = (
        folder / f"{stem}_acq-{resolution}{run_entity}_T2starw.nii.gz"
        for resolution in ("highres", "lowres")
    )
    write_pair(
        image.data,
        image.affine,
        image.header,
        highres,
        lowres,
        factor=factor,
        operator=settings.evaluation.retrospective_operator,
    )
    for path, slice_factor in ((highres, 1.0), (lowres, factor[2])):
        pair_sidecar = {key: image.sidecar[key] for key in _PAIR_KEYS if key in image.sidecar}
        thickness = pair_sidecar.get("SliceThickness")
        if slice_factor != 1 and isinstance(thickness, int | float):
            pair_sidecar["SliceThickness"] = round(thickness * slice_factor, 6)
        write_json(path.with_name(f"{file_stem(path)}_T2starw.json"), pair_sidecar)


def _make_folder(root: Path, subject: Subject, session: str | None, datatype: str) -> Path:
    """Create the folder of a data type of a participant or session, and return its path."""
    sessions = [f"ses-{session}"] if session else []
    folder = root.joinpath(f"sub-{subject.label}", *sessions, datatype)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _locate_sidecar(image: Path) -> Path:
    """Return the path of the JSON sidecar of an image."""
    return image.with_name(image.name.removesuffix(".gz").removesuffix(".nii") + ".json")


def _is_valid(record: Path, digest: str, root: Path) -> bool:
    """Return whether the files of a record exist with their sizes and have the same digest."""
    content = read_json(record)
    size_by_file = content.get("files", {})
    are_intact = all(
        (root / name).is_file() and (root / name).stat().st_size == size
        for name, size in size_by_file.items()
    )
    return bool(content.get("digest") == digest and size_by_file and are_intact)


def _write_record(record: Path, digest: str, folders: Sequence[Path]) -> None:
    """Write the digest of a participant, and the size of each file in the folders."""
    files = sorted(path for folder in folders for path in folder.rglob("*") if path.is_file())
    sizes = {path.relative_to(record.parents[1]).as_posix(): path.stat().st_size for path in files}
    write_text(record, json.dumps({"digest": digest, "files": sizes}, indent=1) + "\n")


def _redirect_settings(settings: Settings, subjects: Sequence[Subject]) -> Settings:
    """Return the settings of the same call on the downsampled data set of these participants."""
    data_dir, truth_dir = _get_output_dirs(settings)
    work_dir = settings.paths.work_dir
    return settings.with_values(
        paths={"bids_dir": data_dir, "work_dir": work_dir and work_dir / "retrospective"},
        selection={
            "participant_label": tuple(subject.label for subject in subjects),
            "session_label": (),
            "task_id": (),
            "run_id": (),
            "bids_filter_file": None,
            "bids_database_dir": None,
            "skip_bids_validation": True,  # the original data set was validated
        },
        superres={"factor": retrospective_factor(settings)},
        # the given number of dummy scans was removed from the downsampled runs
        preprocessing={"dummy_scans": None if settings.preprocessing.dummy_scans is None else 0},
        evaluation={"truth": str(truth_dir), "retrospective": None},
    )


def _get_output_dirs(settings: Settings) -> tuple[Path, Path]:
    """Return the directories of the downsampled data set and of its reference."""
    return settings.paths.retrospective_dir, settings.paths.retrospective_truth_dir
