"""Ground truth of a simulated subject (activation, motion, poses, tissue), written as `derivatives/ground-truth`."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from bids_sr.io import atomic_files
from bids_sr.io.array_types import Array
from bids_sr.phantom.activity import DRIVEN_BY
from bids_sr.phantom.clinical_scans import Scan, tissue_shares
from bids_sr.phantom.echoes import Echo, combination_weights
from bids_sr.phantom.phantom_files import write_image, write_transform, write_tsv
from bids_sr.phantom.poses import CENTER
from bids_sr.phantom.scanner import BOLD_FRAME, MARGIN
from bids_sr.phantom.simulated_subject import BOLD_LEVEL, SimulatedSubject
from bids_sr.spatial.transforms import invert, rigid_params

_FRAME = (
    "Frame of the BOLD: scanner mm (RAS in NIfTI, LPS in ITK text), head as in the first steady volume (see "
    "ReferenceVolume), with the distortion of the EPI."
)
MOTION_TEXT = "One matrix a volume: takes a point of the reference volume to where it lies in that volume"
_FOCI_COLUMNS = {
    "label": "focus",
    "conditions": "trial types that drive it, joined by +; at rest its network",
    "x": "center of the change in signal units, RAS mm, frame of the BOLD as distorted",
    "y": "as x",
    "z": "as x",
    "origin_x": "where the neurons are, RAS mm, frame of the BOLD as distorted",
    "origin_y": "as origin_x",
    "origin_z": "as origin_x",
    "volume": "volume (mm3) in which the change is at least half of its maximum",
    "peak_percent": "largest signal change of the scene before sampling, percent of its reference",
    "spread": "full width at half maximum of the vascular spread, mm",
}


def centroid(values: Array, affine: Array) -> Array:
    """Center of mass (3,) of what is at least a quarter of the maximum, RAS mm."""
    index = np.argwhere(values >= 0.25 * values.max())
    weight = values[tuple(index.T)].astype(float)
    at = (index * weight[:, None]).sum(0) / weight.sum()
    return np.asarray((affine @ [*at, 1.0])[:3])


def in_view(change: Array) -> bool:
    """Whether a change on the oversampled grid reaches a thousandth of the brain's signal inside the field of view."""
    return float(np.abs(change[..., MARGIN:-MARGIN]).max()) > 1e-3 * BOLD_LEVEL


def foci_rows(subject: SimulatedSubject) -> list[list[str | float]]:
    """Rows of the table of foci (columns of `_FOCI_COLUMNS`); none without activity."""
    affine = subject.scanner.oversampled_grid[1]
    voxel = float(np.prod(np.diag(affine)[:3]))
    rows: list[list[str | float]] = []
    for focus in subject.activity.foci:
        if focus.label not in subject.activity.maps:
            continue
        change = subject.activity.maps[focus.label]
        if not in_view(change):
            continue
        rows.append([
            focus.label, "+".join(DRIVEN_BY[focus.label]), *map(float, centroid(change, affine)),
            *map(float, subject.to_bold(focus.origin)), float((change >= change.max() / 2).sum() * voxel),
            focus.peak_percent, focus.spread_mm,
        ])  # fmt: skip
    return rows


def effects(subject: SimulatedSubject, echoes: Sequence[Echo] = ()) -> tuple[Array, dict[str, Array]]:
    """(noise-free resting image, change of it by condition in signal units), magnitude, on the high-resolution grid.

    A network outside the field of view has no entry. With echoes, both are those of their optimal combination.
    """
    if not echoes:
        changes = {condition: subject.activity.of(condition) for condition in subject.conditions}
        return _ideal_effects(subject, subject.resting_scene, changes)
    found = [
        _ideal_effects(subject, echo.resting_scene, {name: echo.changes.get(name) for name in subject.conditions})
        for echo in echoes
    ]
    weights = combination_weights([quiet for quiet, _ in found], [echo.te for echo in echoes])
    pairs = list(zip(weights, found, strict=True))
    every = {name for _, (_, changes) in pairs for name in changes}
    combined = {
        name: np.sum([weight * changes[name] for weight, (_, changes) in pairs if name in changes], axis=0)
        for name in subject.conditions if name in every
    }  # fmt: skip
    return np.sum([weight * quiet for weight, (quiet, _) in pairs], axis=0), combined


def _ideal_effects(
    subject: SimulatedSubject, resting: Array, changes: Mapping[str, Array | None]
) -> tuple[Array, dict[str, Array]]:
    """`effects` of a scene and its changes on the scanner's oversampled grid."""
    factor = subject.preset.factor
    rest = subject.scanner.ideal(resting, factor)
    quiet = np.abs(rest).astype(np.float32)
    out = {}
    for condition, change in changes.items():
        if change is not None and not in_view(change):
            continue
        out[condition] = np.zeros_like(quiet)
        if change is not None:
            out[condition] = (np.abs(rest + subject.scanner.ideal(change, factor)) - quiet).astype(np.float32)
    return quiet, out


def resting_image(subject: SimulatedSubject, echoes: Sequence[Echo] = ()) -> Array:
    """Resting image as the BOLD would be without noise, on its grid; with echoes, their optimal combination."""
    if not echoes:
        return subject.scanner.measure(subject.rest, np.eye(4))
    means = [subject.scanner.measure(echo.rest, np.eye(4)) for echo in echoes]
    weights = combination_weights(means, [echo.te for echo in echoes])
    return np.asarray(np.sum([weight * mean for weight, mean in zip(weights, means, strict=True)], axis=0))


def write_truth(subject: SimulatedSubject, name: str, root: Path, echoes: Sequence[Echo] = ()) -> None:
    """Write one subject's truth under its name ("sub-01") into the derivative data set; `echoes` of its run, if any."""
    func, anat = root / name / "func", root / name / "anat"
    for folder in (func, anat):
        folder.mkdir(parents=True, exist_ok=True)
    stem = f"{name}_task-{subject.task}"
    _write_images(subject, func, stem, echoes)
    _write_motion(subject, func / f"{stem}_desc-truth_motion.tsv", func / f"{stem}_from-orig_to-boldref")
    write_tsv(func / f"{stem}_desc-truth_foci.tsv", list(_FOCI_COLUMNS), foci_rows(subject))
    atomic_files.write_json(
        func / f"{stem}_desc-truth_foci.json",
        {key: {"Description": text} for key, text in _FOCI_COLUMNS.items()} | {"Frame": {"Description": _FRAME}},
    )
    if subject.task == "rest":
        _write_courses(subject, func / f"{stem}_desc-truth_timeseries.tsv")
    _write_poses(subject, func / stem, anat / name)


def _write_images(subject: SimulatedSubject, func: Path, stem: str, echoes: Sequence[Echo]) -> None:
    quiet, changes = effects(subject, echoes)
    affine = subject.hr_grid[1]
    common = {"Frame": _FRAME, "Resolution": "of the highres T2*w", "SkullStripped": False}

    def put(label: str, data: Array, where: Array, description: str, unit: str) -> None:
        about = common | {"Description": description, "Units": unit}
        write_image(func / f"{stem}_{label}", data.astype(np.float32), where, about)

    put("res-hr_desc-noisefree_boldref", quiet, affine, "Resting image in the steady state without noise or motion, as "
        "a scan of the finer matrix would show it (no blur by the readout)", "arbitrary")  # fmt: skip
    per = "of one standard deviation of the network" if subject.task == "rest" else "during a long block of"
    level = np.maximum(quiet, 0.1 * float(quiet.max()))
    for condition, change in changes.items():
        put(f"res-hr_contrast-{condition}_stat-effect_desc-truth_statmap", change, affine,
            f"Change of the signal {per} {condition}", "as the BOLD")  # fmt: skip
        put(f"res-hr_contrast-{condition}_stat-psc_desc-truth_statmap", 100 * change / level, affine,
            f"Change of the signal {per} {condition}, of the resting image", "percent")  # fmt: skip
    scanner = subject.scanner
    put("desc-noisefree_boldref", resting_image(subject, echoes), subject.bold_grid[1],
        "Resting image as the BOLD would be without noise", "arbitrary")  # fmt: skip
    if scanner.shift is not None:
        half = scanner.oversampled_grid
        put("desc-distortion_fieldmap", scanner.shift[::2, ::2, ::2], half[1] @ np.diag([2.0, 2.0, 2.0, 1.0]),
            "Displacement along +y: the value at y comes from the undistorted y + displacement", "mm")  # fmt: skip


def _write_courses(subject: SimulatedSubject, table: Path) -> None:
    """Courses of the networks at the middle of each volume."""
    times = (np.arange(subject.preset.volumes) + 0.5) * subject.preset.tr
    courses = [subject.courses(network, times) for network in subject.conditions]
    write_tsv(table, list(subject.conditions), [list(map(float, row)) for row in zip(*courses, strict=True)])
    text = "Fluctuation of the network at the middle of each volume, in standard deviations, .01 to .1 Hz"
    atomic_files.write_json(table.with_suffix(".json"), {name: {"Description": text} for name in subject.conditions})


def _write_motion(subject: SimulatedSubject, table: Path, xfm: Path) -> None:
    """Motion as ITK text and as a table."""
    motion, reference = subject.motion, subject.transient.dummies
    write_transform(
        str(xfm), motion, MOTION_TEXT, ReferenceVolume=reference, NumberOfNonSteadyVolumes=reference, Frame=_FRAME
    )
    columns = ["trans_x", "trans_y", "trans_z", "rot_x", "rot_y", "rot_z"]
    rows = [[float(value) for value in rigid_params(matrix, CENTER)] for matrix in motion]
    write_tsv(table, columns, rows)
    about = f"rotation vector about {CENTER} mm (RAS), of the matrix that takes a reference point into the volume"
    atomic_files.write_json(table.with_suffix(".json"), {
        c: {"Units": "mm" if c.startswith("trans") else "rad", "Description": f"part of the translation or {about}"}
        for c in columns
    })  # fmt: skip


def _write_poses(subject: SimulatedSubject, func_stem: Path, anat_stem: Path) -> None:
    """Poses of T1w and pairs to the BOLD; each file's name says which image it brings onto which."""

    def put(stem: Path, moving: str, fixed: str, matrix: Array) -> None:
        text = f"Takes a point of {fixed} to where it lies in {moving} (brings {moving} onto {fixed})"
        write_transform(f"{stem}_from-{moving}_to-{fixed}", matrix, text, Frame=BOLD_FRAME)

    put(func_stem, "boldref", "T1w", invert(subject.t1w_pose))
    put(func_stem, "T1w", "boldref", subject.t1w_pose)
    for k, pair in enumerate(subject.pairs):
        stem = anat_stem if len(subject.pairs) == 1 else Path(f"{anat_stem}_run-{k + 1}")
        put(stem, "highres", "boldref", pair.highres)
        put(stem, "lowres", "boldref", pair.lowres)
        put(stem, "highres", "lowres", pair.highres @ invert(pair.lowres))


def write_structural_truth(subject: SimulatedSubject, scan: Scan, name: str, root: Path) -> None:
    """Write where a structural scan lies to the T1w image and, with the first, what the tissue is there."""
    anat = root / name / "anat"
    anat.mkdir(parents=True, exist_ok=True)
    moving = f"{scan.acquisition}{scan.contrast}"
    text = f"Takes a point of T1w to where it lies in {moving} (brings {moving} onto T1w)"
    write_transform(str(anat / f"{name}_from-{moving}_to-T1w"), scan.pose @ invert(subject.t1w_pose), text)
    for label, share in tissue_shares(subject).items():
        stem = anat / f"{name}_space-T1w_label-{label}_desc-truth_probseg"
        if Path(f"{stem}.nii.gz").exists():
            return
        text = f"Share of {label} in each voxel of the T1w image"
        about = {"Description": text, "SpatialReference": "the T1w image"}
        write_image(stem, share, subject.preset.t1w_affine, about)
