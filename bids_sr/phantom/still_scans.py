"""Still images of the simulated subject: T1w, T2*w pairs and structural scans.

The structural scans are those that a clinic and a study acquire.

Structural scans of high resolution share the grid of the T1w image; the others are of another day:
thicker slices, larger voxels in-plane, another position of the head. Contrasts are within the
range of the literature at 3 T, chosen by us. Both members of a pair have one protocol: real pairs
differ in contrast too.
"""

from collections.abc import Iterator

import numpy as np

from bids_sr.frozen import frozen
from bids_sr.io.arrays import Array
from bids_sr.io.grids import Shape
from bids_sr.phantom.fields import polynomial
from bids_sr.phantom.poses import draw_pose
from bids_sr.phantom.presets import Preset
from bids_sr.phantom.scanner import Grid, Scanner, magnitude
from bids_sr.phantom.sequences import TISSUES, PulseSequence
from bids_sr.phantom.simulated_subject import SimulatedSubject
from bids_sr.spatial.resampling import sample_volume
from bids_sr.spatial.transforms import hr_grid, invert

LEVEL, PAIR_LEVEL = 500.0, 900.0  # mean of the brain in the written images
# mean of the brain over the noise of each component
_SNR = {"T1w": 50.0, "highres": 40.0, "lowres": 60.0}
_UNEVENNESS = 0.15  # relative size of the receive field


def _nulling_time(t1: float, tr: float) -> float:
    """Inversion time (s) at which tissue of this T1 gives no signal.

    `t1`: longitudinal relaxation time, T1 (s).
    """
    return float(t1 * np.log(2 / (1 + np.exp(-tr / t1))))


PROTOCOLS = {
    "T1w": PulseSequence(te=0.004, tr=0.018, flip=30.0),
    "T2w": PulseSequence(te=0.090, tr=5.0, refocused=True),
    "FLAIR": PulseSequence(
        te=0.090, tr=9.0, ti=_nulling_time(TISSUES["csf"].t1, 9.0), refocused=True
    ),
}
CONTRASTS = tuple(PROTOCOLS)


@frozen
class StillScan:
    """A still image.

    `acquisition`: resolution, ``highres`` or ``lowres``; empty for every subject's own T1w image.
    `image`: magnitude of the signal (3D, float32). `pose`: transform of a BOLD point to its point
    in the scan (4 x 4, RAS+ mm).
    """

    contrast: str
    acquisition: str
    image: Array
    affine: Array
    pose: Array
    sidecar: dict[str, object]


def t1w(subject: SimulatedSubject) -> StillScan:
    """The T1w image; magnitude with noise, receive field of some 20 %.

    `subject`: simulated head with its activity and poses. Scan on the T1w grid of the protocol.
    """
    p = subject.preset
    rng = subject.draw("t1w")
    protocol = p.t1w_sequence
    pose = subject.t1w_pose
    scene = protocol.scaled_scene(subject.head, LEVEL)
    affine = p.t1w_affine
    image = sample_volume(
        scene, subject.head.affine, p.t1w_shape, affine, subject.bold_pose @ invert(pose)
    )
    image *= 1 + np.float32(0.2) * polynomial(rng, affine, p.t1w_shape)
    for z in range(image.shape[2]):  # by slices: complex noise of a whole head is large
        image[..., z] = magnitude(image[..., z], LEVEL / _SNR["T1w"], rng)
    sidecar = protocol.sidecar | {"MRAcquisitionType": "3D"}
    return StillScan(
        contrast="T1w", acquisition="", image=image, affine=affine, pose=pose, sidecar=sidecar
    )


def pair(subject: SimulatedSubject, number: int, *, noise: bool = True) -> dict[str, StillScan]:
    """Return the highres and lowres members of one T2*w pair.

    Field of view and slices are those of the BOLD.

    `subject`: simulated head with its activity and poses.
    """
    p = subject.preset
    out = {}
    scene = p.pair_sequence.scaled_scene(subject.head, PAIR_LEVEL)
    sidecar = p.pair_sequence.sidecar | {
        "MRAcquisitionType": "2D",
        "SliceThickness": p.bold_voxel[2],
    }
    low_sigma = PAIR_LEVEL / (p.snr * p.pair_gain) if noise else 0.0
    kinds = (
        ("highres", subject.hr_grid, low_sigma * float(np.prod(p.factor))),
        ("lowres", subject.bold_grid, low_sigma),
    )
    for k, (name, grid, sigma) in enumerate(kinds):
        pose = subject.pair_poses[number][name]
        scanner = _scanner(subject, grid, pose, coil=1, low_shape=p.bold_shape)
        out[name] = StillScan(
            contrast="T2starw",
            acquisition=name,
            image=scanner.still(scene, sigma, subject.draw("pair", number, k)),
            affine=grid[1],
            pose=pose,
            sidecar=sidecar,
        )
    return out


def structural(subject: SimulatedSubject) -> Iterator[StillScan]:
    """Yield T2w and FLAIR at high resolution, then T1w, T2w and FLAIR at low resolution.

    At the high resolution, every subject has a T1w image already.

    `subject`: simulated head with its activity and poses.
    """
    p = subject.preset
    rng = subject.draw("anat")
    grids = {"highres": (p.t1w_shape, p.t1w_affine), "lowres": _low_grid(p)}
    # sampled no finer than the highres voxels in-plane, because the scene has no more detail than
    # they do
    sampled = (p.t1w_shape[0] // 4, p.t1w_shape[1] // 4, p.t1w_shape[2])
    days = {
        "highres": subject.t1w_pose,
        "lowres": draw_pose(rng, (2.0, 5.0), (2.0, 5.0)) @ subject.t1w_pose,
    }
    for number, (kind, grid) in enumerate(grids.items()):
        thick = {
            "SliceThickness": float(grid[1][2, 2]),
            "MRAcquisitionType": "3D" if kind == "highres" else "2D",
        }
        for contrast, protocol in {**PROTOCOLS, "T1w": p.t1w_sequence}.items():
            pose = draw_pose(rng, (0.2, 0.6), (0.1, 0.4)) @ days[kind]
            if (kind, contrast) == ("highres", "T1w"):
                continue
            scanner = _scanner(
                subject, grid, pose, coil=2 + number, low_shape=sampled, unevenness=_UNEVENNESS
            )
            yield StillScan(
                contrast=contrast,
                acquisition=kind,
                affine=grid[1],
                pose=pose,
                sidecar=protocol.sidecar | thick,
                image=scanner.still(
                    protocol.scaled_scene(subject.head, LEVEL), LEVEL / _SNR[kind], rng
                ),
            )


def _scanner(
    subject: SimulatedSubject,
    grid: Grid,
    pose: Array,
    *,
    coil: int,
    low_shape: Shape,
    unevenness: float = 0.06,
) -> Scanner:
    """The scanner with a subject in it; `pose` takes a BOLD point to its point in the image."""
    return Scanner(
        grid=grid,
        pose=subject.bold_pose @ invert(pose),
        head_affine=subject.head.affine,
        coil=subject.draw.number("coil", coil),
        low_shape=low_shape,
        unevenness=unevenness,
    )


def _low_grid(preset: Preset) -> Grid:
    """Return the grid of the low-resolution scans.

    Its field of view is that of the T1w image, and its voxels are larger by `anat_factor`.

    Shape and voxel-to-world matrix (4 x 4, RAS+ mm).
    """
    wanted = tuple(1 / f for f in preset.anat_factor)
    return hr_grid(preset.t1w_shape, preset.t1w_affine, wanted)


def tissue_shares(subject: SimulatedSubject) -> dict[str, Array]:
    """Return the true shares of gray matter, white matter and CSF in T1w voxels, by BIDS label.

    `subject`: simulated head with its activity and poses.
    """
    p = subject.preset
    pose = subject.bold_pose @ invert(subject.t1w_pose)
    return {
        name.upper(): np.clip(
            sample_volume(
                subject.head.fractions[name], subject.head.affine, p.t1w_shape, p.t1w_affine, pose
            ),
            0,
            1,
        )
        for name in ("gm", "wm", "csf")
    }
