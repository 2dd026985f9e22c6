"""Structural scans of the simulated subject, as a clinic and as a study would acquire them.

Those of high resolution share the grid of the T1w image; the others are of another day: thicker slices, larger voxels
in-plane, another position of the head. Contrasts are those of spin echoes; the values are within the range of the
literature at 3 T, chosen by us. Both members of a pair have one protocol: real pairs differ in contrast too.
"""

from collections.abc import Iterator

import numpy as np

from bids_sr.frozen import frozen
from bids_sr.io.array_types import Array
from bids_sr.phantom.head import TISSUES, Head, gradient_echo, scaled
from bids_sr.phantom.poses import draw_pose
from bids_sr.phantom.presets import Preset
from bids_sr.phantom.scanner import Coil, acquire_static
from bids_sr.phantom.simulated_subject import T1W_FLIP, T1W_TE, T1W_TR, SimulatedSubject
from bids_sr.spatial.resampling import sample_volume
from bids_sr.spatial.transforms import hr_grid, invert

T2 = {"gm": 0.099, "wm": 0.069, "csf": 1.8, "skull": 0.008, "scalp": 0.070}  # s
T2_BLOOD = 0.032  # s, venous
LEVEL = 500.0  # mean of the brain in the written images
SNR = {"highres": 40.0, "lowres": 60.0}  # mean of the brain over the noise of each component
_UNEVENNESS = 0.15  # relative size of the receive field


@frozen
class SpinEcho:
    """A spin echo, with an inversion `ti` before the excitation or without; times in s."""

    te: float
    tr: float
    ti: float | None = None

    def signal(self, pd: float, t1: Array | float, t2: Array | float) -> Array:
        """Magnitude at the echo for tissue values; pd relative, t1 and t2 in s.

        Source: PD (1 - exp(-TR/T1)) exp(-TE/T2), and with an inversion |1 - 2 exp(-TI/T1) + exp(-TR/T1)| for the
        bracket; the echo time is short against TR and left out of the recovery.
        """
        e1 = np.exp(-self.tr / np.asarray(t1, dtype=np.float32))
        recovered = 1 - e1
        if self.ti is not None:
            recovered = np.abs(1 + e1 - 2 * np.exp(-self.ti / np.asarray(t1, dtype=np.float32)))
        return np.asarray(pd * recovered * np.exp(-self.te / np.asarray(t2, dtype=np.float32)), dtype=np.float32)


def nulling_time(t1: float, tr: float) -> float:
    """Inversion time (s) at which tissue of this T1 gives no signal."""
    return float(t1 * np.log(2 / (1 + np.exp(-tr / t1))))


PROTOCOLS = {
    "T2w": SpinEcho(te=0.090, tr=5.0),
    "FLAIR": SpinEcho(te=0.090, tr=9.0, ti=nulling_time(TISSUES["csf"].t1, 9.0)),
}
CONTRASTS = ("T1w", *PROTOCOLS)


def spin_echo(head: Head, protocol: SpinEcho) -> Array:
    """Signal of the head under a spin echo, float32 on its grid (relative); blood replaces tissue by its share."""
    out = np.zeros(head.veins.shape, dtype=np.float32)
    for name, share in head.fractions.items():
        texture: Array | float = np.asarray(1 + head.texture) if name in ("gm", "wm") else 1.0
        tissue = TISSUES[name]
        out += share * protocol.signal(tissue.pd, texture * tissue.t1, texture * T2[name])
    blood = protocol.signal(0.9, 1.6, T2_BLOOD)
    return np.asarray(out + head.veins * (blood - out))


@frozen
class Scan:
    """One structural scan ("highres" or "lowres"); `pose` takes a BOLD point (RAS mm) to its point in this image."""

    contrast: str
    acquisition: str
    image: Array
    affine: Array
    pose: Array
    sidecar: dict[str, object]


def low_grid(preset: Preset) -> tuple[tuple[int, int, int], Array]:
    """Grid of the low-resolution scans: the field of view of the T1w image, voxels larger by `anat_factor`."""
    wanted = tuple(1 / f for f in preset.anat_factor)
    return hr_grid(preset.t1w_shape, preset.t1w_affine, wanted)


def scans(subject: SimulatedSubject) -> Iterator[Scan]:
    """T2w and FLAIR at the high resolution, where every subject has a T1w image, then all three at the low one."""
    p, rng = subject.preset, subject.draw("anat")
    grids = {"highres": (p.t1w_shape, p.t1w_affine), "lowres": low_grid(p)}
    # sampled no finer than the highres voxels in-plane, because the scene has no more detail than they do
    sampled = (p.t1w_shape[0] // 4, p.t1w_shape[1] // 4, p.t1w_shape[2])
    days = {"highres": subject.t1w_pose, "lowres": draw_pose(rng, (2.0, 5.0), (2.0, 5.0)) @ subject.t1w_pose}
    for kind in grids:
        for contrast in CONTRASTS:
            between = draw_pose(rng, (0.2, 0.6), (0.1, 0.4))
            if (kind, contrast) == ("highres", "T1w"):
                continue
            scene, sidecar = _scene(subject.head, contrast)
            pose = between @ days[kind]
            image = acquire_static(
                scene, subject.head.affine, grids[kind], subject.bold_pose @ invert(pose),
                Coil(seed=subject.draw.number("coil", 2 + list(grids).index(kind)), unevenness=_UNEVENNESS),
                low_shape=sampled, sigma=LEVEL / SNR[kind], rng=rng,
            )  # fmt: skip
            thick = {"SliceThickness": float(grids[kind][1][2, 2])}
            yield Scan(
                contrast=contrast, acquisition=kind, image=image, affine=grids[kind][1], pose=pose,
                sidecar=sidecar | thick | {"MRAcquisitionType": "3D" if kind == "highres" else "2D"},
            )  # fmt: skip


def _scene(head: Head, contrast: str) -> tuple[Array, dict[str, object]]:
    """Signal of the head in units of the written images, and the metadata of the sequence."""
    if contrast == "T1w":
        scene = gradient_echo(head, te=T1W_TE, tr=T1W_TR, flip=T1W_FLIP)
        sidecar: dict[str, object] = {"RepetitionTime": T1W_TR, "EchoTime": T1W_TE, "FlipAngle": T1W_FLIP}
    else:
        protocol = PROTOCOLS[contrast]
        scene = spin_echo(head, protocol)
        sidecar = {"RepetitionTime": protocol.tr, "EchoTime": protocol.te, "FlipAngle": 90.0}
        if protocol.ti is not None:
            sidecar["InversionTime"] = round(protocol.ti, 4)
    return scaled(scene, head, LEVEL), sidecar


def tissue_shares(subject: SimulatedSubject) -> dict[str, Array]:
    """True share of gray matter, white matter and fluid in each voxel of the T1w image, by BIDS label."""
    p = subject.preset
    pose = subject.bold_pose @ invert(subject.t1w_pose)
    labels = {"GM": "gm", "WM": "wm", "CSF": "csf"}
    return {
        label: np.clip(
            sample_volume(subject.head.fractions[name], subject.head.affine, p.t1w_shape, p.t1w_affine, pose), 0, 1
        )
        for label, name in labels.items()
    }
