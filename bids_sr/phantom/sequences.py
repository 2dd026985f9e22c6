"""Pulse sequences of the phantom: the signal of a head in gradient echo and spin echo."""

import numpy as np
from scipy import ndimage

from bids_sr.frozen import frozen
from bids_sr.io.arrays import Array
from bids_sr.phantom.head import Head

_DEPHASING = 22.0  # 1/s per share of venous blood, in the tissue around it


@frozen
class _Tissue:
    """Relative proton density, T1, T2* and T2 (s) at 3 T.

    The values are our choice within the range of the literature.

    `t1`: longitudinal relaxation time, T1 (s). `t2s`: decay time of a gradient echo, T2* (s).
    `t2`: decay time of a spin echo, T2 (s).
    """

    pd: float
    t1: float
    t2s: float
    t2: float


TISSUES: dict[str, _Tissue] = {
    "gm": _Tissue(pd=0.84, t1=1.35, t2s=0.051, t2=0.099),
    "wm": _Tissue(pd=0.66, t1=0.85, t2s=0.046, t2=0.069),
    "csf": _Tissue(pd=1.00, t1=4.00, t2s=0.250, t2=1.8),
    "skull": _Tissue(pd=0.06, t1=0.60, t2s=0.008, t2=0.008),
    "scalp": _Tissue(pd=0.75, t1=0.60, t2s=0.030, t2=0.070),
}
_BLOOD = _Tissue(pd=0.9, t1=1.6, t2s=0.013, t2=0.032)  # venous


@frozen
class PulseSequence:
    """A spoiled gradient echo, or a spin echo (`refocused`) with or without inversion.

    The spin echo follows a pulse of 90 degrees.

    `te`, `tr`, `ti`: echo, repetition and inversion time (s); None: no inversion. `refocused`: the
    echo decays by T2, and veins do not dephase what lies around them.
    """

    te: float
    tr: float
    flip: float = 90.0
    ti: float | None = None
    refocused: bool = False
    fat: float = 1.0

    def magnetization(self, t1: Array | float, pulse: int | None = None) -> Array:
        """Longitudinal magnetization before an excitation, relative to equilibrium; `t1` in s.

        `pulse` is the number of excitations before (0: relaxed); None for the steady state.
        Source: M(n+1) = 1 + (M(n) cos(flip) - 1) exp(-TR/T1) of a spoiled sequence; after an
        inversion
        |1 - 2 exp(-TI/T1) + exp(-TR/T1)|, the echo time being short against TR.
        """
        t1 = np.asarray(t1, dtype=np.float32)
        e1 = np.exp(-self.tr / t1)
        if self.ti is not None:
            return np.abs(1 + e1 - 2 * np.exp(-self.ti / t1))
        keep = e1 * np.float32(np.cos(np.deg2rad(self.flip)))
        steady = (1 - e1) / (1 - keep)
        return np.asarray(
            steady if pulse is None else steady + (1 - steady) * keep**pulse, dtype=np.float32
        )

    def signal(
        self, tissue: _Tissue, texture: Array | float = 0.0, pulse: int | None = None
    ) -> Array:
        """Return the magnitude at the echo of a tissue, before the flip.

        T1, T2* and T2 of the tissue deviate by a share (`texture`).

        `tissue`: proton density and relaxation times. `pulse`: number of excitations before,
        without effect after an inversion; None: steady state. Signal for each deviation, in units
        of the proton density.
        """
        times = 1 + np.asarray(texture, dtype=np.float32)
        decay = (tissue.t2 if self.refocused else tissue.t2s) * times
        return tissue.pd * self.magnetization(tissue.t1 * times, pulse) * np.exp(-self.te / decay)

    def scene(self, head: "Head", pulse: int | None = None) -> Array:
        """Return the signal of a head, float32 on its grid (relative units).

        Venous blood replaces tissue by its share.

        `pulse`: number of excitations before, without effect after an inversion; None: steady
        state.
        """
        out = np.zeros(head.veins.shape, dtype=np.float32)
        for name, share in head.fractions.items():
            texture = head.texture if name in ("gm", "wm") else 0.0
            out += (
                share
                * self.signal(TISSUES[name], texture, pulse)
                * (self.fat if name == "scalp" else 1.0)
            )
        if not self.refocused:  # veins dephase what lies within about 1 mm
            out *= np.exp(
                -self.te
                * _DEPHASING
                * ndimage.gaussian_filter(head.veins, 1.0 / head.affine[0, 0])
            )
        out += head.veins * (self.signal(_BLOOD, 0.0, pulse) - out)
        return out * np.float32(np.sin(np.deg2rad(self.flip)))

    def scaled_scene(self, head: "Head", level: float) -> Array:
        """The scene in units in which its mean over the brain is `level`, float32."""
        scene = self.scene(head)
        return scene * np.float32(level / float(scene[head.brain].mean()))

    @property
    def sidecar(self) -> dict[str, object]:
        """Metadata of BIDS."""
        inversion = {} if self.ti is None else {"InversionTime": round(self.ti, 4)}
        return {
            "RepetitionTime": self.tr,
            "EchoTime": self.te,
            "FlipAngle": self.flip,
            **inversion,
        }
