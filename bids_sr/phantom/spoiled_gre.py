"""Signal of the simulated head under a spoiled gradient echo."""

import numpy as np
from scipy import ndimage

from bids_sr.io.array_types import Array
from bids_sr.phantom.head import BLOOD, TISSUES, Head, Tissue

_DEPHASING = 22.0  # 1/s per share of venous blood, in the tissue around it


def magnetization(t1: Array | float, *, tr: float, flip: float, pulse: int | None) -> Array:
    """Longitudinal magnetization before an excitation, relative to equilibrium; `t1` and `tr` in s, `flip` in degrees.

    `pulse` is the number of excitations before (0: relaxed); None for the steady state.
    Source: recursion of a spoiled sequence, M(n+1) = 1 + (M(n) cos(flip) - 1) exp(-tr/t1).
    """
    e1 = np.exp(-tr / np.asarray(t1, dtype=np.float32))
    keep = e1 * np.float32(np.cos(np.deg2rad(flip)))
    steady = (1 - e1) / (1 - keep)
    return np.asarray(steady if pulse is None else steady + (1 - steady) * keep**pulse, dtype=np.float32)


def gradient_echo(
    head: Head, *, te: float, tr: float, flip: float, pulse: int | None = None, fat: float = 1.0
) -> Array:
    """Magnitude of the transverse magnetization at the echo, float32 on the grid of the head (relative units).

    `te` and `tr` in s, `flip` in degrees, `pulse` as in `magnetization`; `fat` is what fat saturation leaves of the
    scalp. Venous blood replaces tissue by its share and dephases what lies within about 1 mm.
    """

    def signal(tissue: Tissue, texture: Array | float) -> Array:
        mz = magnetization(tissue.t1 * (1 + texture), tr=tr, flip=flip, pulse=pulse)
        return np.asarray(tissue.pd * mz * np.exp(-te / (tissue.t2s * (1 + np.asarray(texture, dtype=np.float32)))))

    out = np.zeros(head.veins.shape, dtype=np.float32)
    for name, share in head.fractions.items():
        textured = head.texture if name in ("gm", "wm") else 0.0
        out += share * signal(TISSUES[name], textured) * (fat if name == "scalp" else 1.0)
    around = ndimage.gaussian_filter(head.veins, 1.0 / head.affine[0, 0])
    out *= np.exp(-te * _DEPHASING * around)
    out += head.veins * (signal(BLOOD, 0.0) - out)
    return out * np.float32(np.sin(np.deg2rad(flip)))


def scaled(scene: Array, head: Head, level: float) -> Array:
    """A scene in units in which its mean over the brain is `level`, float32."""
    return scene * np.float32(level / float(scene[head.brain].mean()))
