"""BIDS data set of a simulated study, written in a single atomic step."""

import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from bids_sr.io import atomic_files
from bids_sr.io.nifti import SeriesWriter, Storage
from bids_sr.io.notices import UsageError
from bids_sr.phantom.block_design import Event
from bids_sr.phantom.bold_run import (
    SimulatedRun,
    simulate_bold_run,
    simulate_calibration,
    simulate_echo,
)
from bids_sr.phantom.files import write_image, write_tsv
from bids_sr.phantom.ground_truth import (
    write_calibration_truth,
    write_lesion_locations,
    write_structural_truth,
    write_truth,
)
from bids_sr.phantom.scanner import READOUT_S
from bids_sr.phantom.simulated_subject import SimulatedSubject
from bids_sr.phantom.still_scans import (
    StillScan,
    simulate_pair,
    simulate_structural_scans,
    simulate_t1w,
)
from bids_sr.phantom.study import Study
from bids_sr.version import __version__

_ProgressText = Callable[[str], None]
_BIDS_VERSION = "1.9.0"
_SCANNER = {"MagneticFieldStrength": 3, "Manufacturer": "simulated"}
_REST_TEXT = {"tap": "", "rest": ", at rest"}
# suffixes of files of the ground truth that BIDS validators skip
_NON_BIDS_SUFFIXES = ("statmap", "boldref", "xfm", "motion", "foci", "fieldmap", "timeseries")


def make_dataset(
    out: Path, study: Study, *, threads: int | None = None, progress: _ProgressText | None = None
) -> None:
    """Simulate a study and write it to a new or empty directory.

    The number of threads for the BOLD volumes affects only the computing time; None uses up to 4.
    `progress` is called with one line per step. Raises `UsageError` if the directory is a file, is
    not empty, or cannot be written.
    """
    target = Path(out).absolute()
    _check_directory(target)
    n_threads = threads or min(4, len(os.sched_getaffinity(0)))
    report = progress or (lambda _line: None)
    partial = _make_partial_directory(target)
    try:
        _write_top_level_files(partial, study)
        for number in range(study.subjects):
            _write_subject(partial, study, number, n_threads, report)
        mask = os.umask(0)
        os.umask(mask)
        partial.chmod(0o777 & ~mask)
        os.replace(partial, target)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _check_directory(out: Path) -> None:
    """Reject a file, and a directory that is not empty."""
    if out.exists() and not out.is_dir():
        raise UsageError(
            str(out),
            "the path is a file, but a directory is expected",
            "specify a new directory",
        )
    if out.is_dir() and any(out.iterdir()):
        fix = "specify another directory, or remove the contents of this directory"
        raise UsageError(str(out), "the directory is not empty", fix)


def _make_partial_directory(out: Path) -> Path:
    """Create a hidden directory next to the directory of the data set."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    except OSError as error:
        reason = f"the directory is not writable ({error.strerror})"
        raise UsageError(str(out.parent), reason, "choose another directory") from error


def _write_top_level_files(root: Path, study: Study) -> None:
    """Write the top-level files of the data set and of the ground truth."""
    condition_text = f"{_REST_TEXT[study.task]}{', no activity' if study.null else ''}"
    name = f"bids-sr phantom ({study.preset}, scene {study.scene}{condition_text})"
    generator = {"Name": "bids-sr-phantom", "Version": __version__}
    truth = root / "derivatives" / "ground-truth"
    options = asdict(study)
    if not study.lesions:  # data sets without lesions are the same as before there were lesions
        del options["lesions"]
    atomic_files.write_json(
        root / "dataset_description.json",
        {
            "Name": name,
            "BIDSVersion": _BIDS_VERSION,
            "DatasetType": "raw",
            "License": "PDDL",
            "Authors": ["bids-sr"],
            "GeneratedBy": [generator | {"Description": f"simulated; {options}"}],
        },
    )
    atomic_files.write_json(
        truth / "dataset_description.json",
        {
            "Name": f"{name}: truth",
            "BIDSVersion": _BIDS_VERSION,
            "DatasetType": "derivative",
            "GeneratedBy": [generator],
            "DatasetLinks": {"raw": "../.."},
        },
    )
    ignored_patterns = [f"**/*_{suffix}.*" for suffix in _NON_BIDS_SUFFIXES]
    if study.lesions:
        ignored_patterns.append("tpl-*")
        write_lesion_locations(truth)
    (truth / ".bidsignore").write_text("".join(f"{pattern}\n" for pattern in ignored_patterns))
    _write_readme(root, study, name)
    (root / "CHANGES").write_text(f"{__version__} 2025-01-01\n  - Simulated.\n")
    _write_participants(root, study)
    if study.task != "rest":
        _describe_events(root, study.task)


def _write_readme(root: Path, study: Study, name: str) -> None:
    """Write the README of a data set with its name and the protocol of the study."""
    protocol = "\n".join(f"- {key}: {value}" for key, value in asdict(study.protocol).items())
    (root / "README").write_text(
        f"# {name}\n\nSimulated with bids-sr-phantom {__version__}, seed {study.seed}. No"
        " participant was scanned.\nThe head is derived from the MNI152 template by random"
        " deformation and added detail. The known\nactivation, head motion and poses are in"
        f" derivatives/ground-truth.\n\nProtocol (mm, s, degrees):\n\n{protocol}\n"
    )


def _write_participants(root: Path, study: Study) -> None:
    """Write the table of participants and its sidecar."""
    rows = [
        [f"sub-{number + 1:02d}", study.scene, "no" if study.null else "yes"]
        for number in range(study.subjects)
    ]
    write_tsv(root / "participants.tsv", ["participant_id", "scene", "active"], rows)
    atomic_files.write_json(
        root / "participants.json",
        {
            "participant_id": {"Description": "label of the simulated participant"},
            "scene": {
                "Description": "position of the activation relative to the anatomy",
                "Levels": {
                    "ribbon": "along the gray matter",
                    "veins": "displaced toward a draining vein",
                    "free": "independent of anatomical borders",
                    "overlap": "along the gray matter, in alternating patches of both fingers",
                },
            },
            "active": {
                "Description": "whether the task changes the BOLD signal",
                "Levels": {
                    "yes": "the task changes the BOLD signal",
                    "no": "the task does not change the BOLD signal",
                },
            },
        },
    )


def _describe_events(root: Path, task: str) -> None:
    """Write the sidecar of all events tables of a task, with the order of the trial types."""
    levels = {
        "thumb": "tapping with the thumb",
        "little": "tapping with the little finger",
        "rest": "no movement",
    }
    atomic_files.write_json(
        root / f"task-{task}_events.json",
        {
            "onset": {"Description": "onset of the block", "Units": "s"},
            "duration": {"Description": "duration of the block", "Units": "s"},
            "trial_type": {"Description": "condition of the block", "Levels": levels},
        },
    )


def _write_subject(
    root: Path, study: Study, number: int, threads: int, report: _ProgressText
) -> None:
    """Simulate a subject, counted from 0, and write the scans and the ground truth."""
    name = f"sub-{number + 1:02d}"
    report(f"{name}: simulating the head, activation and motion")
    subject = SimulatedSubject(
        study.protocol,
        study.scene,
        seed=study.seed,
        number=number,
        null=study.null,
        pairs=study.pairs,
        task=study.task,
        lesions=study.lesions,
    )
    (root / name / "anat").mkdir(parents=True)
    (root / name / "func").mkdir()
    _write_still_scans(subject, study, root, name, report)
    _write_bold_runs(subject, study, root, name, threads, report)


def _write_still_scans(
    subject: SimulatedSubject, study: Study, root: Path, name: str, report: _ProgressText
) -> None:
    """Write the T1w image, the T2*w pairs and, if requested, structural scans of a subject."""
    report(f"{name}: T1w and T2*w")
    _write_scan(simulate_t1w(subject), root, name)
    for pair_number in range(study.pairs):
        for scan in simulate_pair(subject, pair_number).values():
            _write_scan(scan, root, name, f"_run-{pair_number + 1}" if study.pairs > 1 else "")
    if study.anat:
        report(
            f"{name}: simulating T2w and FLAIR scans, and low-resolution T1w, T2w and FLAIR scans"
        )
        for scan in simulate_structural_scans(subject):
            _write_scan(scan, root, name)
            write_structural_truth(subject, scan, name, root / "derivatives" / "ground-truth")


def _write_scan(scan: StillScan, root: Path, name: str, run: str = "") -> None:
    """Write a still image with its sidecar; `run` is the run entity, such as ``_run-1``."""
    acquisition = f"_acq-{scan.acquisition}" if scan.acquisition else ""
    stem = root / name / "anat" / f"{name}{acquisition}{run}_{scan.contrast}"
    write_image(stem, scan.image, scan.affine, _SCANNER | scan.sidecar, dtype=np.int16)


def _write_bold_runs(
    subject: SimulatedSubject,
    study: Study,
    root: Path,
    name: str,
    threads: int,
    report: _ProgressText,
) -> None:
    """Write the BOLD run or its echoes, the ground truth, and a requested calibration run.

    `root` is the directory of the data set, and `name` the name of the subject, such as
    ``sub-01``. `threads` are those for the BOLD volumes, and `report` is called with one line per
    step.
    """
    n_volumes = study.protocol.volumes
    run = simulate_bold_run(subject)
    stem = f"{root / name / 'func' / name}_task-{study.task}"
    _write_events(run.events, Path(stem))
    echoes = [simulate_echo(run, number, te / 1000) for number, te in enumerate(study.echoes, 1)]
    for number, echo in enumerate(echoes, 1):
        report(f"{name}: simulating {n_volumes} BOLD volumes of echo {number}")
        _write_bold(echo, Path(f"{stem}_echo-{number}"), threads)
    if not echoes:
        report(f"{name}: {n_volumes} volumes of BOLD")
        _write_bold(run, Path(stem), threads)
    report(f"{name}: writing the ground truth")
    write_truth(run, name, root / "derivatives" / "ground-truth", echoes)
    if study.calibration:
        report(f"{name}: simulating {study.calibration} volumes of the calibration run")
        write_calibration(simulate_calibration(run, study.calibration), root, name, threads)


def write_calibration(run: SimulatedRun, root: Path, name: str, threads: int) -> None:
    """Write a calibration run and its ground truth to a data set."""
    stem = root / name / "func" / f"{name}_task-{run.subject.task}_acq-highres"
    _write_events(run.events, stem)
    _write_bold(run, stem, threads)
    write_calibration_truth(run, name, root / "derivatives" / "ground-truth")


def _write_events(events: Sequence[Event], stem: Path) -> None:
    """Write the events table of a run, if any; `stem` is the path up to ``_events``."""
    if events:
        write_tsv(Path(f"{stem}_events.tsv"), ["onset", "duration", "trial_type"], events)


def _write_bold(run: SimulatedRun, stem: Path, threads: int) -> None:
    """Write a BOLD series with its sidecar; `stem` is the path up to ``_bold``."""
    preset = run.preset
    path = Path(f"{stem}_bold.nii.gz")
    with SeriesWriter(
        path,
        (*preset.bold_shape, preset.volumes),
        preset.bold_affine,
        preset.tr,
        storage=Storage(np.dtype(np.int16)),
    ) as writer:
        for volume in run.volumes(threads):
            writer.append(volume)
    atomic_files.write_json(Path(f"{stem}_bold.json"), _make_bold_sidecar(run))


def _make_bold_sidecar(run: SimulatedRun) -> dict[str, object]:
    """Return the BIDS metadata of a BOLD run."""
    preset, at_rest = run.preset, not run.events
    sidecar: dict[str, object] = {
        "TaskName": "rest" if at_rest else "tap",
        "TaskDescription": (
            "rest" if at_rest else "tapping with the thumb or little finger of the right hand"
        ),
        **replace(preset.epi, te=run.te).sidecar,
        **_SCANNER,
        "PulseSequenceType": "gradient-echo EPI",
        "PhaseEncodingDirection": "j",
        "EffectiveEchoSpacing": round(READOUT_S / (preset.bold_shape[1] - 1), 9),
        "TotalReadoutTime": READOUT_S,
        "SliceTiming": [round(float(time), 6) for time in preset.slice_times],
        "NumberOfVolumesDiscardedByScanner": 0,
    }
    if preset.multiband > 1:
        sidecar["MultibandAccelerationFactor"] = preset.multiband
    return sidecar
