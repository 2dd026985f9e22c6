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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from nibabel.nifti1 import Nifti1Header

from bids_sr.bids import BoldRun, Pair, Subject, file_stem
from bids_sr.bids.pairs import factor_text
from bids_sr.bids.retrospective_plan import (
    n_averaged_volumes,
    n_removed_volumes,
    pair_labels,
    retrospective_factor,
    select_pair_sources,
)
from bids_sr.config import Settings
from bids_sr.glm.nonsteady import nonsteady_at_start
from bids_sr.io.arrays import Array
from bids_sr.io.atomic_files import read_json, write_json, write_text
from bids_sr.io.checksums import checksum
from bids_sr.io.copies import copy_series
from bids_sr.io.grids import AS_STORED, reorder, reorder_affine, reorder_header
from bids_sr.io.image_header import Triple
from bids_sr.io.nifti import SeriesReader, load_image
from bids_sr.io.tables import join_line, split_table
from bids_sr.retrospective.downsampling import (
    central_window,
    noise_to_add,
    thermal_noise,
    write_lr_series,
    write_measured_series,
    write_pair,
)
from bids_sr.spatial.multi_echo import combine_echoes
from bids_sr.sr.matrices import acquire, block_matrix
from bids_sr.version import __version__

_LOGGER = logging.getLogger(__name__)
_RECORDS = "retrospective-records"
"""Directory next to the two data sets with one record per participant."""
# sidecar fields of the measured matrix; partial Fourier omits frequencies that truncation removes
_GEOMETRY_KEYS = (
    *("AcquisitionMatrixPE", "ReconMatrixPE", "BaseResolution", "AcquisitionVoxelSize"),
    "PartialFourier",
)
_Types = Mapping[str, Sequence[str]]


def prepare(
    settings: Settings,
    subjects: Sequence[Subject],
    type_order: _Types,
    print_line: Callable[[str], None] = _LOGGER.info,
) -> Settings:
    """Create or update the downsampled data set and its high-resolution reference.

    Parameters
    ----------
    settings : Settings
        Resolved settings of the call.
    subjects : Sequence[Subject]
        Participants of the original data set, without problems.
    type_order : _Types
        Trial types by task, in the order that determines the sign of default contrasts.
    print_line : Callable[[str], None], optional
        Function that is called with one line per created participant.

    Returns
    -------
    Settings
        Settings of the same call on the downsampled data set.
    """
    data, truth = settings.paths.retrospective_dir, settings.paths.retrospective_truth_dir
    slice_text = " and averaging across slices" if retrospective_factor(settings)[2] != 1 else ""
    _describe(data, settings, f"dataset downsampled by k-space truncation{slice_text}")
    _describe(truth, settings, "high-resolution reference of the downsampled dataset")
    for subject in subjects:
        digest = _digest(subject, settings, type_order)
        record = data.parent / _RECORDS / f"sub-{subject.label}.json"
        if not _is_valid(record, digest, data.parent):
            print_line(
                f"sub-{subject.label}: creating the downsampled dataset and its high-resolution"
                " reference"
            )
            record.unlink(missing_ok=True)
            _build_participant(subject, settings, type_order)
            _record(record, digest, [folder / f"sub-{subject.label}" for folder in (data, truth)])
    selection = replace(
        settings.selection,
        participant_label=tuple(subject.label for subject in subjects),
        session_label=(),
        task_id=(),
        run_id=(),
        bids_filter_file=None,
        bids_database_dir=None,
    )
    paths, work_dir = settings.paths, settings.paths.work_dir
    dummies = None if settings.preprocessing.dummy_scans is None else 0
    return replace(
        settings,
        paths=replace(paths, bids_dir=data, work_dir=work_dir and work_dir / "retrospective"),
        selection=selection,
        superres=replace(
            settings.superres, factor=retrospective_factor(settings), hr_acq=None, lr_acq=None
        ),
        preprocessing=replace(settings.preprocessing, dummy_scans=dummies),
        evaluation=replace(settings.evaluation, truth=str(truth), retrospective=None),
    )


def _describe(root: Path, settings: Settings, title: str) -> None:
    """Write the top-level files of a BIDS data set."""
    source = settings.paths.bids_dir / "dataset_description.json"
    name = json.loads(source.read_text(encoding="utf-8")).get("Name", settings.paths.bids_dir.name)
    factor = factor_text(retrospective_factor(settings))
    downsampled = f"{factor}, {settings.evaluation.retrospective}"
    description = {
        "Name": f"{name}: {title}",
        "BIDSVersion": "1.9.0",
        "DatasetType": "raw",
        "GeneratedBy": [
            {
                "Name": "bids-sr",
                "Version": __version__,
                "Description": f"--retrospective, {downsampled}",
            }
        ],
    }
    write_json(root / "dataset_description.json", description)
    write_text(
        root / "README",
        f"# {name}: {title}\n\nGenerated by bids-sr {__version__} with --retrospective"
        f" ({downsampled}) from the dataset of this name, to compare super-resolved series with"
        " the acquired high-resolution series. See the page Evaluation in the bids-sr"
        " documentation.\n",
    )


def _digest(subject: Subject, settings: Settings, type_order: _Types) -> str:
    """Return a checksum of all inputs that determine a participant's files."""
    inputs = [run.bold for run in subject.runs] + list(subject.t1w[:1])
    inputs += [path for run in subject.runs for path, _ in run.echoes]
    inputs += [run.events for run in subject.runs if run.events is not None]
    inputs += [
        path
        for pair in _pairs(subject)
        for path in (pair.highres, pair.lowres)
        if path is not None
    ]
    files = [(str(path), checksum(path)) for path in sorted(set(inputs))]
    facts = {
        "version": __version__,
        "files": files,
        "sidecars": [dict(run.sidecar) for run in subject.runs],
        "factor": retrospective_factor(settings),
        "noise": settings.evaluation.retrospective,
        "seed": settings.resources.random_seed,
        "dummies": settings.preprocessing.dummy_scans,
        "types": {task: list(types) for task, types in type_order.items()},
        "left_out": [n_removed_volumes(run, subject, settings) for run in subject.runs],
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()


def _is_valid(record: Path, digest: str, root: Path) -> bool:
    """Return whether the files of a record exist with their sizes and have the same digest."""
    content = read_json(record)
    sizes = content.get("files", {})
    are_intact = all(
        (root / name).is_file() and (root / name).stat().st_size == size
        for name, size in sizes.items()
    )
    return bool(content.get("digest") == digest and sizes and are_intact)


def _record(record: Path, digest: str, folders: Sequence[Path]) -> None:
    files = sorted(path for folder in folders for path in folder.rglob("*") if path.is_file())
    sizes = {path.relative_to(record.parents[1]).as_posix(): path.stat().st_size for path in files}
    write_text(record, json.dumps({"digest": digest, "files": sizes}, indent=1) + "\n")


def _build_participant(subject: Subject, settings: Settings, type_order: _Types) -> None:
    """Build both directories of a participant in a temporary directory, then move them."""
    data, truth = settings.paths.retrospective_dir, settings.paths.retrospective_truth_dir
    prefix = f".retrospective-sub-{subject.label}-"
    # leftovers of a killed run; the participant is locked, so no other process uses them
    for leftover in data.parent.glob(f"{prefix}*"):
        shutil.rmtree(leftover, ignore_errors=True)
    building = Path(tempfile.mkdtemp(prefix=prefix, dir=data.parent))
    try:
        for run in subject.runs:
            _make_run(run, subject, settings, type_order, building)
        for pair in _pairs(subject):
            _make_pair(pair, subject, settings, building / "data")
        # copied, as a change through a link would reach the original data set
        for path in subject.t1w[:1]:
            target = building / "data" / path.relative_to(settings.paths.bids_dir)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
            if sidecar := read_json(_read_json(path)):
                write_json(_read_json(target), sidecar)
        for root_built, root in ((building / "data", data), (building / "truth", truth)):
            target_folder = root / f"sub-{subject.label}"
            shutil.rmtree(target_folder, ignore_errors=True)
            os.replace(root_built / f"sub-{subject.label}", target_folder)
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _pairs(subject: Subject) -> tuple[Pair, ...]:
    return tuple(dict.fromkeys((*subject.pairs, *subject.holdouts.values())))


def _folder(root: Path, subject: Subject, session: str | None, kind: str) -> Path:
    folder = root.joinpath(f"sub-{subject.label}", *([f"ses-{session}"] if session else []), kind)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _make_run(
    run: BoldRun, subject: Subject, settings: Settings, type_order: _Types, building: Path
) -> None:
    """Write a run's downsampled copy, its measured volumes, their events, and a pair if needed.

    The pair is created from the mean of the first steady-state volumes if the run is selected for
    this purpose.
    """
    factor = retrospective_factor(settings)
    session = run.entities.get("session")
    bold = _one_series(run, building)
    dummies = settings.preprocessing.dummy_scans
    first = dummies or 0
    if any(run is maker for maker in select_pair_sources(subject).values()):
        steady = nonsteady_at_start(bold) if dummies is None else dummies
        first = steady + n_averaged_volumes(run)
        with SeriesReader(bold) as reader:
            mean = reader.mean(steady, first).astype(np.float32), reader.affine, reader.header
        folder = _folder(building / "data", subject, session, "anat")
        _write_pair(mean, folder, _stem(subject, session), "", run.sidecar, factor)
    noise = 0.0
    if settings.evaluation.retrospective == "noisy":
        noise = noise_to_add(thermal_noise(bold, first), factor)
    folders = (_folder(building / part, subject, session, "func") for part in ("data", "truth"))
    low, high = (folder / f"{run.stem}_bold.nii.gz" for folder in folders)
    seed = settings.resources.random_seed
    types = type_order.get(run.entities.get("task", ""), ())
    write_lr_series(bold, low, factor=factor, first=first, noise_sd=noise, seed=seed)
    write_measured_series(bold, high, factor=factor, first=first)
    measured = dict(run.sidecar)
    sidecar = {key: value for key, value in measured.items() if key not in _GEOMETRY_KEYS}
    if factor[2] != 1:
        part, lowered = central_window(run.shape, factor)
        for content, count in ((measured, part[2].stop - part[2].start), (sidecar, lowered[2])):
            _reslice(content, run.slice_timing, part[2], count)
    facts = {"Factor": list(factor), "VolumesLeftOut": first, "NoiseAdded": round(noise, 6)}
    slice_text = "" if factor[2] == 1 else " and averaging across slices"
    description = {
        "Description": f"simulated from acquired {run.voxel} data by k-space"
        f" truncation{slice_text}",
        "Retrospective": facts,
    }
    for path, content in ((low, sidecar | description), (high, measured)):
        write_json(path.with_name(f"{run.stem}_bold.json"), content)
        if run.events is None:
            continue
        table = path.with_name(f"{run.stem}_events.tsv")
        table.write_text(_shift_events(run.events, -first * run.tr), encoding="utf-8")
        write_json(table.with_suffix(".json"), _sidecar_of_events(run.events, types))


_THICKNESS_KEYS = ("SliceThickness", "SpacingBetweenSlices")  # mm


def _reslice(
    sidecar: dict[str, object], times: Sequence[float] | None, part: slice, count: int
) -> None:
    """Adapt the slice entries of a sidecar after averaging a part of the slices.

    The time of a thicker slice is the mean of the averaged slices' times.

    Parameters
    ----------
    sidecar : dict[str, object]
        Metadata of a run, which are changed in place.
    times : Sequence[float] | None
        Acquisition time of each slice of the run, starting with its first slice (s); None if
        unknown.
    part : slice
        Slices of the run that are used.
    count : int
        Number of slices after averaging.
    """
    n_slices = part.stop - part.start
    for name in ("SliceTiming", "SliceEncodingDirection"):
        sidecar.pop(name, None)
    if times is not None:
        mean_times = block_matrix(n_slices, count) @ np.asarray(times, dtype=np.float64)[part]
        sidecar["SliceTiming"] = [round(float(time), 6) for time in mean_times]
    for name in _THICKNESS_KEYS:
        if isinstance(thickness := sidecar.get(name), int | float):
            sidecar[name] = round(thickness * n_slices / count, 6)


def _one_series(run: BoldRun, building: Path) -> Path:
    """Return a run's series as one file with slices on the third axis and echoes combined."""
    series = run.bold
    if run.echoes:
        series = building / f"{run.stem}_combined.nii"
        combine_echoes([path for path, _ in run.echoes], [te for _, te in run.echoes], series)
    if run.axis_order == AS_STORED:
        return series
    out = building / f"{run.stem}_slices.nii"
    copy_series(series, out, order=run.axis_order)
    return out


def _make_pair(pair: Pair, subject: Subject, settings: Settings, root: Path) -> None:
    """Write a pair at a lower resolution.

    The image of the original pair at the BOLD resolution becomes the high-resolution image.
    """
    (session, run), source = pair_labels(pair), pair.lowres or pair.highres
    image, affine = load_image(source)
    order = pair.orders[0 if pair.lowres is None else 1]
    image = reorder(image.reshape(image.shape[:3]), order)
    affine = reorder_affine(affine, order)
    if pair.lowres is None:
        image, affine = acquire(image, affine, factor=pair.factor, magnitude=True)
    with SeriesReader(source) as reader:
        header = reorder_header(reader.header, order)
    folder = _folder(root, subject, session, "anat")
    number = f"_run-{run}" if run else ""
    factor = retrospective_factor(settings)
    _write_pair(
        (image, affine, header),
        folder,
        _stem(subject, session),
        number,
        read_json(_read_json(source)),
        factor,
    )


def _stem(subject: Subject, session: str | None) -> str:
    return f"sub-{subject.label}" + (f"_ses-{session}" if session else "")


def _write_pair(
    image: tuple[Array, Array, Nifti1Header],
    folder: Path,
    stem: str,
    run: str,
    sidecar: Mapping[str, object],
    factor: Triple,
) -> None:
    """Write a pair from an image (data, affine, header), with a sidecar for both images."""
    high, low = (
        folder / f"{stem}_acq-{kind}{run}_T2starw.nii.gz" for kind in ("highres", "lowres")
    )
    write_pair(*image, high, low, factor=factor)
    keys = (
        "MagneticFieldStrength",
        "EchoTime",
        "FlipAngle",
        "RepetitionTime",
        "Manufacturer",
        "SliceThickness",
    )
    for path, thicker in ((high, 1.0), (low, factor[2])):
        content = {key: sidecar[key] for key in keys if key in sidecar}
        if thicker != 1 and isinstance(thickness := content.get("SliceThickness"), int | float):
            content["SliceThickness"] = round(thickness * thicker, 6)
        write_json(path.with_name(f"{file_stem(path)}_T2starw.json"), content)


def _read_json(image: Path) -> Path:
    return image.with_name(image.name.removesuffix(".gz").removesuffix(".nii") + ".json")


def _shift_events(table: Path, seconds: float) -> str:
    """Return the text of an events table after shifting its onsets by a number of seconds.

    Other cells, and onsets that are not numbers, are not changed.
    """
    text = table.read_text(encoding="utf-8-sig")
    if not seconds:
        return text
    columns, rows = split_table(table)
    onset_column = columns.index("onset")
    for _, cells in rows:
        if onset_column < len(cells):
            cells[onset_column] = _shift_onset(cells[onset_column], seconds)
    return "".join(join_line(cells) + "\n" for cells in (columns, *(cells for _, cells in rows)))


def _shift_onset(text: str, seconds: float) -> str:
    try:
        value = float(text)
    except ValueError:
        return text
    shifted = f"{value + seconds:.6f}".rstrip("0").rstrip(".")
    return "0" if shifted == "-0" else shifted


def _sidecar_of_events(table: Path, types: Sequence[str]) -> dict[str, object]:
    """Return the sidecar of an events table, with the order of trial types.

    The order determines the signs of default contrasts.
    """
    content = read_json(table.with_suffix(".json"))
    trial_type = content.get("trial_type")
    trial_type = (
        dict(trial_type) if isinstance(trial_type, dict) else {"Description": "Type of trial"}
    )
    if not isinstance(trial_type.get("Levels"), dict) and types:
        trial_type["Levels"] = {name: name for name in types}
    return {**content, "trial_type": trial_type}
