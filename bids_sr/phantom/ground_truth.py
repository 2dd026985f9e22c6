"""Ground truth of a simulated subject, written to `derivatives/ground-truth`.

The ground truth consists of activation, motion, poses and tissue.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from bids_sr.io import atomic_files
from bids_sr.io.arrays import Array
from bids_sr.io.confound_names import MOTION_PARAMETERS
from bids_sr.phantom.bold_run import BOLD_BRAIN_SIGNAL, SimulatedRun
from bids_sr.phantom.files import write_image, write_transform, write_tsv
from bids_sr.phantom.lesions import map_lesion_locations
from bids_sr.phantom.poses import ROTATION_CENTER
from bids_sr.phantom.scanner import BOLD_FRAME_TEXT, MARGIN_SAMPLES, Scanner
from bids_sr.phantom.simulated_subject import SimulatedSubject
from bids_sr.phantom.still_scans import LESION_LABEL, StillScan, sample_tissue_fractions
from bids_sr.preproc.multi_echo import fit_t2star
from bids_sr.spatial.transforms import invert, rigid_params

_TEMPLATE = "MNI152NLin2009aSym"  # template of the simulated heads, as named by TemplateFlow
_FRAME = (
    "Coordinates are in scanner mm (RAS in NIfTI files, LPS in ITK text files). The head is in"
    " its position during the first steady-state volume (see ReferenceVolume) and includes the"
    " EPI distortion."
)
_FOCI_COLUMNS = {
    "label": "focus",
    "conditions": (
        "trial types that activate the focus, joined by +, or the network of the focus in a"
        " resting-state run"
    ),
    "x": "center of the signal change, RAS mm, in the space of the distorted BOLD series",
    "y": "as x",
    "z": "as x",
    "origin_x": (
        "position of the neuronal activity, RAS mm, in the space of the distorted BOLD series"
    ),
    "origin_y": "as origin_x",
    "origin_z": "as origin_x",
    "volume": "volume (mm3) of the region with at least half of the maximum signal change",
    "peak_percent": "maximum signal change before sampling, in percent of the resting signal",
    "spread": "full width at half maximum of the vascular point-spread function, in mm",
}


def write_truth(
    run: SimulatedRun, name: str, root: Path, echoes: Sequence[SimulatedRun] = ()
) -> None:
    """Write the ground truth of a subject to the derivative data set.

    `name` is the name of the subject, such as ``sub-01``, `root` the derivative data set, and
    `echoes` are all echoes of a multi-echo run.
    """
    subject = run.subject
    func = root / name / "func"
    anat = root / name / "anat"
    for folder in (func, anat):
        folder.mkdir(parents=True, exist_ok=True)
    stem = f"{name}_task-{subject.task}"
    _write_images(run, func / stem, echoes or [run])
    _write_motion(run, str(func / stem), _FRAME)
    _write_motion_table(run, func / f"{stem}_desc-truth_motion.tsv")
    descriptions = {key: {"Description": text} for key, text in _FOCI_COLUMNS.items()}
    frame = {"Description": _FRAME}
    _write_table(
        func / f"{stem}_desc-truth_foci.tsv", _make_focus_rows(run), descriptions, Frame=frame
    )
    if subject.task == "rest":
        _write_network_table(run, func / f"{stem}_desc-truth_timeseries.tsv")
    _write_poses(subject, func / stem, anat / name)


def _write_images(run: SimulatedRun, stem: Path, echoes: Sequence[SimulatedRun]) -> None:
    """Write the resting images, the signal changes and the distortion of a run.

    `stem` is the path up to the first entity of an image.
    """
    resting, changes = simulate_effects(echoes)
    _write_map(
        stem,
        "res-hr_desc-noisefree_boldref",
        resting,
        run.subject.hr_grid[1],
        description="Steady-state resting image without noise or motion, with the high-resolution"
        " matrix size and without blurring by the readout",
        unit="arbitrary",
    )
    _write_changes(run, stem, changes)
    _write_map(
        stem,
        "desc-noisefree_boldref",
        _simulate_resting_image(echoes),
        run.subject.bold_grid[1],
        description="BOLD image at rest without noise",
        unit="arbitrary",
    )
    if run.scanner.shift is not None:
        _write_map(
            stem,
            "desc-distortion_fieldmap",
            run.scanner.shift[::2, ::2, ::2],
            run.scanner.dense_grid[1] @ np.diag([2.0, 2.0, 2.0, 1.0]),
            description="Displacement along +y: the distorted image at y shows the signal from y +"
            " displacement in the undistorted image",
            unit="mm",
        )


def simulate_effects(echoes: Sequence[SimulatedRun]) -> tuple[Array, dict[str, Array]]:
    """Return the noise-free resting image and the signal change of each condition.

    With several echoes, both are of the optimal combination. A network outside the field of view
    is omitted; without activity, the change of each condition is 0.

    `echoes` are the echoes of a run, or the run itself. Both results are magnitudes in signal
    units on the high-resolution grid (3D).
    """
    factor, conditions = echoes[0].preset.factor, echoes[0].conditions
    resting_images = [echo.scanner.acquire_ideal(echo.resting, factor) for echo in echoes]
    resting_magnitudes = [
        np.abs(resting_image).astype(np.float32) for resting_image in resting_images
    ]
    weights = _compute_echo_weights(resting_magnitudes, echoes)
    combined_image = np.sum(np.multiply(weights, resting_magnitudes), axis=0)
    changes: dict[str, Array] = {}
    for echo, resting_image, resting_magnitude, weight in zip(
        echoes, resting_images, resting_magnitudes, weights, strict=True
    ):
        for name in conditions:
            change = echo.changes.get(name)
            if change is None:
                changes.setdefault(name, np.zeros_like(combined_image))
            elif _is_in_view(change):
                active_image = resting_image + echo.scanner.acquire_ideal(change, factor)
                difference = (np.abs(active_image) - resting_magnitude).astype(np.float32)
                changes[name] = changes.get(name, 0) + weight * difference
    return combined_image, changes


def _write_changes(run: SimulatedRun, stem: Path, changes: Mapping[str, Array]) -> None:
    """Write the signal change of each condition, in percent of the mean signal of the brain.

    `changes` are the result of `simulate_effects`.
    """
    affine = run.subject.hr_grid[1]
    change_text = (
        "per standard deviation of the network"
        if run.subject.task == "rest"
        else "during a long block of"
    )
    for condition, change in changes.items():
        _write_map(
            stem,
            f"res-hr_contrast-{condition}_stat-effect_desc-truth_statmap",
            change * (100 / BOLD_BRAIN_SIGNAL),
            affine,
            description=f"Signal change {change_text} {condition}, in percent of the mean signal"
            " of the brain (MeanSignal)",
            unit="percent",
            mean_signal=BOLD_BRAIN_SIGNAL,
        )


def _write_map(
    stem: Path,
    label: str,
    data: Array,
    affine: Array,
    *,
    description: str,
    unit: str,
    mean_signal: float | None = None,
) -> None:
    """Write an image of the ground truth.

    `stem` is the path up to the first entity of the image, and `label` has further entities and
    the suffix. The values (3D) are stored as float32. `affine` is the voxel-to-world matrix (4 x
    4, RAS+ mm). Description and unit of the values are for the sidecar. `mean_signal` is the
    signal that equals 100 %; None for other units than percent.
    """
    metadata = {
        "Frame": _FRAME,
        "Resolution": "matches the high-resolution T2*w image",
        "SkullStripped": False,
        "Description": description,
        "Units": unit,
        **({} if mean_signal is None else {"MeanSignal": mean_signal}),
    }
    write_image(Path(f"{stem}_{label}"), data.astype(np.float32), affine, metadata)


def _simulate_resting_image(echoes: Sequence[SimulatedRun]) -> Array:
    """Return the noise-free resting image on the BOLD grid, combined over the echoes."""
    means = [echo.simulate_still_volume() for echo in echoes]
    return np.sum(np.multiply(_compute_echo_weights(means, echoes), means), axis=0)


def _compute_echo_weights(means: Sequence[Array], echoes: Sequence[SimulatedRun]) -> list[Array]:
    """Return the weights of the echoes in the optimal combination, which sum to 1.

    The weights are TE exp(-TE / T2*) with T2* fitted to the means of the echoes (Posse et al.
    1999), in the shape of the mean images.
    """
    if len(echoes) == 1:
        return [np.ones_like(means[0])]
    tes_s = [echo.te for echo in echoes]
    t2star_ms = fit_t2star([mean.ravel() for mean in means], [1000 * te_s for te_s in tes_s])
    t2star_s = t2star_ms.reshape(means[0].shape) / 1000
    weights = [te_s * np.exp(-te_s / t2star_s) for te_s in tes_s]
    weight_sum = np.sum(weights, axis=0)
    return [(weight / weight_sum).astype(np.float32) for weight in weights]


def _write_motion_table(run: SimulatedRun, path: Path) -> None:
    """Write translations and rotation vectors of the volumes with their description."""
    columns = list(MOTION_PARAMETERS)
    rotation_text = (
        f"rotation vector (axis times angle) about {ROTATION_CENTER} mm (RAS) of the transform"
        " that maps points of the reference volume to the volume"
    )
    _write_table(
        path,
        [
            [float(value) for value in rigid_params(matrix, ROTATION_CENTER)]
            for matrix in run.motion
        ],
        {
            column: {
                "Units": "mm" if column.startswith("trans") else "rad",
                "Description": f"component of the translation, or of the {rotation_text}",
            }
            for column in columns
        },
    )


def _make_focus_rows(run: SimulatedRun) -> list[list[str | float]]:
    """Return the rows of the table of foci (`_FOCI_COLUMNS`), empty without activity."""
    affine = run.scanner.dense_grid[1]
    voxel_mm3 = float(np.prod(np.diag(affine)[:3]))
    rows: list[list[str | float]] = []
    for focus in run.subject.foci:
        change = run.maps.get(focus.label)
        if change is None or not _is_in_view(change):
            continue
        rows.append(
            [
                focus.label,
                "+".join(focus.conditions),
                *map(float, _find_center(change, affine)),
                *map(float, _map_to_image(run.scanner, focus.origin)),
                float((change >= change.max() / 2).sum() * voxel_mm3),
                focus.peak_percent,
                focus.spread_mm,
            ]
        )
    return rows


def _is_in_view(change: Array) -> bool:
    """Return whether a signal change on the dense grid is inside the field of view.

    The change must exceed a thousandth of the brain's signal there.
    """
    return (
        float(np.abs(change[..., MARGIN_SAMPLES:-MARGIN_SAMPLES]).max()) > 1e-3 * BOLD_BRAIN_SIGNAL
    )


def _find_center(change: Array, affine: Array) -> Array:
    """Return the center of mass (3,; RAS mm) of voxels with at least a quarter of the maximum."""
    index = np.argwhere(change >= 0.25 * change.max())
    weight = change[tuple(index.T)].astype(float)
    index_mean = (index * weight[:, None]).sum(0) / weight.sum()
    return (affine @ [*index_mean, 1.0])[:3]


def _map_to_image(scanner: Scanner, point: Array) -> Array:
    """Map a head point (3,; mm) to the distorted image of the reference volume (RAS mm)."""
    target = (invert(scanner.pose) @ [*point, 1.0])[:3]
    if scanner.shift is None:
        return target
    position = target.copy()
    inverse = np.linalg.inv(scanner.dense_grid[1])
    for _ in range(20):  # fixed-point iteration
        index = np.rint((inverse @ [*position, 1.0])[:3]).astype(int)
        position[1] = (
            target[1] - scanner.shift[tuple(np.clip(index, 0, np.array(scanner.shift.shape) - 1))]
        )
    return position


def _write_network_table(run: SimulatedRun, path: Path) -> None:
    """Write the fluctuations of networks at the middle of each volume with their description."""
    times = (np.arange(run.preset.volumes) + 0.5) * run.preset.tr
    time_series = [run.responses(network, times) for network in run.conditions]
    text = (
        "Fluctuation of the network (.01 to .1 Hz) at the middle of each volume, in standard"
        " deviations"
    )
    _write_table(
        path,
        [list(map(float, row)) for row in zip(*time_series, strict=True)],
        {network: {"Description": text} for network in run.conditions},
    )


def _write_table(
    path: Path, rows: Sequence[Sequence[object]], columns: Mapping[str, object], **metadata: object
) -> None:
    """Write a table with a sidecar that describes its columns and contains further metadata."""
    write_tsv(path, list(columns), rows)
    atomic_files.write_json(path.with_suffix(".json"), {**columns, **metadata})


def _write_poses(subject: SimulatedSubject, func_stem: Path, anat_stem: Path) -> None:
    """Write the transforms between the T1w image, the T2*w pairs and the BOLD run."""
    _write_pose(func_stem, "boldref", "T1w", invert(subject.t1w_pose))
    _write_pose(func_stem, "T1w", "boldref", subject.t1w_pose)
    for number, pair in enumerate(subject.pair_poses):
        stem = anat_stem if len(subject.pair_poses) == 1 else Path(f"{anat_stem}_run-{number + 1}")
        _write_pose(stem, "highres", "boldref", pair["highres"])
        _write_pose(stem, "lowres", "boldref", pair["lowres"])
        _write_pose(stem, "highres", "lowres", pair["highres"] @ invert(pair["lowres"]))


def _write_pose(stem: Path, moving: str, fixed: str, matrix: Array) -> None:
    """Write the transform of a point in the fixed image to its position in the moving image.

    The name of the file contains both images.
    """
    text = f"Maps a point in {fixed} to its position in {moving} (resamples {moving} to {fixed})"
    write_transform(f"{stem}_from-{moving}_to-{fixed}", matrix, text, Frame=BOLD_FRAME_TEXT)


def write_calibration_truth(run: SimulatedRun, name: str, root: Path) -> None:
    """Write pose and motion of the calibration run to the ground truth of a subject."""
    stem = f"{root / name / 'func' / name}_task-{run.subject.task}_acq-highres"
    text = (
        "Maps a point in the boldref to its position in the reference volume of the calibration"
        " run"
    )
    write_transform(f"{stem}_from-calibration_to-boldref", run.pose, text, Frame=BOLD_FRAME_TEXT)
    _write_motion(run, stem, BOLD_FRAME_TEXT)


def _write_motion(run: SimulatedRun, stem: str, frame: str) -> None:
    """Write the head motion of a run as ITK text.

    `stem` is the path up to the first entity of a transform.
    """
    write_transform(
        f"{stem}_from-orig_to-boldref",
        run.motion,
        "One matrix per volume. Each matrix maps a point in the reference volume to its position"
        " in the volume",
        ReferenceVolume=run.reference,
        NumberOfNonSteadyVolumes=run.transient.dummies,
        Frame=frame,
    )


def write_structural_truth(
    subject: SimulatedSubject, scan: StillScan, name: str, root: Path
) -> None:
    """Write the transform of a structural scan to the T1w image, and once the tissue fractions.

    The fractions of GM, WM and CSF are on the grid of the T1w image, as are fraction and mask of
    lesions if the subject has any.

    `name` is the name of the subject, such as ``sub-01``, and `root` the derivative data set.
    """
    anat = root / name / "anat"
    anat.mkdir(parents=True, exist_ok=True)
    moving = f"{scan.acquisition}{scan.contrast}"
    text = f"Maps a point in the T1w image to its position in {moving} (resamples {moving} to T1w)"
    write_transform(
        str(anat / f"{name}_from-{moving}_to-T1w"), scan.pose @ invert(subject.t1w_pose), text
    )
    _write_tissue_fractions(subject, anat, name)


def _write_tissue_fractions(subject: SimulatedSubject, anat: Path, name: str) -> None:
    """Write the tissue fractions and the lesion mask of a subject, unless the files exist.

    `anat` is the folder of the files, and `name` the name of the subject.
    """
    affine = subject.preset.t1w_affine
    for label, fraction in sample_tissue_fractions(subject).items():
        stem = f"{name}_space-T1w_label-{label}_desc-truth"
        if (anat / f"{stem}_probseg.nii.gz").exists():
            return
        metadata = {
            "Description": f"Partial volume fraction of {label} in each voxel of the T1w image",
            "SpatialReference": "the T1w image",
        }
        write_image(anat / f"{stem}_probseg", fraction, affine, metadata)
        if label == LESION_LABEL:
            mask_text = "Voxels of the T1w image that contain at least half lesion"
            mask_metadata = metadata | {"Description": mask_text, "Type": "Lesion"}
            write_image(anat / f"{stem}_mask", fraction >= 0.5, affine, mask_metadata)


def write_lesion_locations(root: Path) -> None:
    """Write the map of possible lesion locations in template space.

    `root` is the derivative data set.
    """
    locations = map_lesion_locations()
    folder = root / f"tpl-{_TEMPLATE}"
    folder.mkdir(parents=True)
    text = (
        f"Deep white matter of {_TEMPLATE}, where lesions are simulated. Coordinates differ little"
        " from the coordinates of MNI152NLin2009cAsym, the default template of bids-sr, so that"
        " the map can be used with --set anat.lesion_template=FILE"
    )
    stem = folder / f"tpl-{_TEMPLATE}_res-02_label-{LESION_LABEL}_desc-locations_mask"
    write_image(stem, locations.data, locations.affine, {"Description": text, "Type": "Lesion"})
