"""Still images of a simulated subject: T1w image, T2*w pairs and structural scans.

Structural scans at the high resolution, as acquired in a study, have the grid of the T1w image.
Low-resolution scans, as acquired in a clinic, are from another day, with thicker slices, larger
in-plane voxels and another position of the head. Contrasts are our choice within the range of the
literature at 3 T. Both images of a pair have the same protocol, whereas real pairs also differ in
contrast.
"""

from collections.abc import Iterator

import numpy as np

from bids_sr.io.arrays import Array
from bids_sr.io.frozen import frozen
from bids_sr.io.grids import Shape
from bids_sr.phantom.fields import polynomial
from bids_sr.phantom.poses import draw_pose
from bids_sr.phantom.scanner import ScanGrid, Scanner, magnitude
from bids_sr.phantom.sequences import TISSUES, PulseSequence
from bids_sr.phantom.simulated_subject import SimulatedSubject
from bids_sr.spatial.resampling import sample_volume
from bids_sr.spatial.transforms import hr_grid, invert

BRAIN_SIGNAL, PAIR_BRAIN_SIGNAL = 500.0, 900.0
"""Mean of the brain in the written images."""
# mean of the brain over the standard deviation of each complex noise component
_SNR = {"T1w": 50.0, "highres": 40.0, "lowres": 60.0}
_RECEIVE_FIELD_SIZE = 0.15  # relative size of the receive field
LESION_LABEL = "WMH"
"""BIDS label of lesions, as in the results of bids-sr."""
# BIDS label of each tissue
_TISSUE_LABELS = {"gm": "GM", "wm": "WM", "csf": "CSF", "lesion": LESION_LABEL}


@frozen
class StillScan:
    """Still image of a simulated subject.

    `contrast` is the BIDS suffix. `acquisition` is the resolution, ``highres`` or ``lowres``;
    empty for the T1w image of each subject. `image` is the magnitude of the signal (3D, float32),
    `affine` the voxel-to-world matrix, and `pose` the transform of a BOLD point to its point in
    the scan (both 4 x 4, RAS+ mm). `sidecar` is BIDS metadata.
    """

    contrast: str
    acquisition: str
    image: Array
    affine: Array
    pose: Array
    sidecar: dict[str, object]


def simulate_t1w(subject: SimulatedSubject) -> StillScan:
    """Simulate the T1w image with noise and a receive field of about 20 %."""
    preset = subject.preset
    rng = subject.draw("t1w")
    protocol = preset.t1w_sequence
    pose = subject.t1w_pose
    scene = protocol.scale_scene(subject.head, BRAIN_SIGNAL)
    affine = preset.t1w_affine
    image = sample_volume(
        scene, subject.head.affine, preset.t1w_shape, affine, subject.bold_pose @ invert(pose)
    )
    image *= 1 + np.float32(0.2) * polynomial(rng, affine, preset.t1w_shape)
    # slices limit memory, as complex noise is large for a whole head
    for z in range(image.shape[2]):
        image[..., z] = magnitude(image[..., z], BRAIN_SIGNAL / _SNR["T1w"], rng)
    sidecar = protocol.sidecar | {"MRAcquisitionType": "3D"}
    return StillScan(
        contrast="T1w", acquisition="", image=image, affine=affine, pose=pose, sidecar=sidecar
    )


def simulate_pair(subject: SimulatedSubject, number: int) -> dict[str, StillScan]:
    """Simulate the high- and low-resolution images of one T2*w pair, by name.

    Field of view and slices are the same as in the BOLD run.
    """
    preset = subject.preset
    scans = {}
    scene = preset.pair_sequence.scale_scene(subject.head, PAIR_BRAIN_SIGNAL)
    sidecar = preset.pair_sequence.sidecar | {
        "MRAcquisitionType": "2D",
        "SliceThickness": preset.bold_voxel[2],
    }
    low_sigma = PAIR_BRAIN_SIGNAL / (preset.snr * preset.pair_gain)
    images = (
        ("highres", subject.hr_grid, low_sigma * float(np.prod(preset.factor))),
        ("lowres", subject.bold_grid, low_sigma),
    )
    for stream, (name, grid, sigma) in enumerate(images):
        pose = subject.pair_poses[number][name]
        scanner = _make_scanner(subject, grid, pose, coil=1, low_shape=preset.bold_shape)
        scans[name] = StillScan(
            contrast="T2starw",
            acquisition=name,
            image=scanner.acquire_still(scene, sigma, subject.draw("pair", number, stream)),
            affine=grid[1],
            pose=pose,
            sidecar=sidecar,
        )
    return scans


def simulate_structural_scans(subject: SimulatedSubject) -> Iterator[StillScan]:
    """Yield T2w and FLAIR scans at high resolution, then T1w, T2w and FLAIR at low resolution.

    A high-resolution T1w image exists for each subject.
    """
    preset = subject.preset
    rng = subject.draw("anat")
    highres_grid = (preset.t1w_shape, preset.t1w_affine)
    lowres_grid = hr_grid(*highres_grid, tuple(1 / factor for factor in preset.anat_factor))
    grids = {"highres": highres_grid, "lowres": lowres_grid}
    # in-plane sampling is limited to the high-resolution voxels, because the scene has no finer
    # detail
    sampling_shape = (preset.t1w_shape[0] // 4, preset.t1w_shape[1] // 4, preset.t1w_shape[2])
    day_poses = {
        "highres": subject.t1w_pose,
        "lowres": draw_pose(rng, (2.0, 5.0), (2.0, 5.0)) @ subject.t1w_pose,
    }
    for coil, (resolution, grid) in enumerate(grids.items(), 2):
        slice_metadata = {
            "SliceThickness": float(grid[1][2, 2]),
            "MRAcquisitionType": "3D" if resolution == "highres" else "2D",
        }
        for contrast, protocol in {**PROTOCOLS, "T1w": preset.t1w_sequence}.items():
            pose = draw_pose(rng, (0.2, 0.6), (0.1, 0.4)) @ day_poses[resolution]
            if (resolution, contrast) == ("highres", "T1w"):
                continue
            scanner = _make_scanner(
                subject,
                grid,
                pose,
                coil=coil,
                low_shape=sampling_shape,
                receive_field_size=_RECEIVE_FIELD_SIZE,
            )
            scene = protocol.scale_scene(subject.head, BRAIN_SIGNAL)
            yield StillScan(
                contrast=contrast,
                acquisition=resolution,
                affine=grid[1],
                pose=pose,
                sidecar=protocol.sidecar | slice_metadata,
                image=scanner.acquire_still(scene, BRAIN_SIGNAL / _SNR[resolution], rng),
            )


def _compute_nulling_time(t1: float, tr: float) -> float:
    """Return the inversion time (s) that suppresses a tissue, given its T1 and the TR (s)."""
    return float(t1 * np.log(2 / (1 + np.exp(-tr / t1))))


PROTOCOLS = {
    "T1w": PulseSequence(te=0.004, tr=0.018, flip=30.0),
    "T2w": PulseSequence(te=0.090, tr=5.0, refocused=True),
    "FLAIR": PulseSequence(
        te=0.090, tr=9.0, ti=_compute_nulling_time(TISSUES["csf"].t1, 9.0), refocused=True
    ),
}


def _make_scanner(
    subject: SimulatedSubject,
    grid: ScanGrid,
    pose: Array,
    *,
    coil: int,
    low_shape: Shape,
    receive_field_size: float = Scanner.receive_field_size,
) -> Scanner:
    """Return the scanner with a subject.

    `pose` is the transform of a BOLD point to its point in the image (4 x 4, RAS+ mm). `coil` is
    the number of the coil in the random stream, `low_shape` the matrix size of the lowest
    resolution of this geometry, and `receive_field_size` the relative size of the receive field.
    """
    return Scanner(
        grid=grid,
        pose=subject.bold_pose @ invert(pose),
        head_affine=subject.head.affine,
        coil=subject.draw.number("coil", coil),
        low_shape=low_shape,
        receive_field_size=receive_field_size,
    )


def sample_tissue_fractions(subject: SimulatedSubject) -> dict[str, Array]:
    """Return the fractions of tissues in T1w voxels, by BIDS label.

    The tissues are gray matter, white matter and CSF, and lesions if the head has any.
    """
    preset = subject.preset
    pose = subject.bold_pose @ invert(subject.t1w_pose)
    return {
        label: np.clip(
            sample_volume(
                subject.head.fractions[name],
                subject.head.affine,
                preset.t1w_shape,
                preset.t1w_affine,
                pose,
            ),
            0,
            1,
        )
        for name, label in _TISSUE_LABELS.items()
        if name in subject.head.fractions
    }
