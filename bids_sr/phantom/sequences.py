"""Pulse sequences of the phantom, and the signal of a head in gradient echo and spin echo."""

import numpy as np
from scipy import ndimage

from bids_sr.io.arrays import Array
from bids_sr.io.frozen import frozen
from bids_sr.phantom.head import Head

_VENOUS_DEPHASING = 22.0  # 1/s per fraction of venous blood in the surrounding tissue


@frozen
class _Tissue:
    """Relative proton density and relaxation times (s) of a tissue at 3 T.

    The values are our choice within the range of the literature. `t1` is the longitudinal
    relaxation time. `t2s` (T2*) is the decay time of a gradient echo, and `t2` the decay time of a
    spin echo.
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
    "lesion": _Tissue(pd=0.85, t1=1.30, t2s=0.065, t2=0.140),
}
_BLOOD = _Tissue(pd=0.9, t1=1.6, t2s=0.013, t2=0.032)  # venous blood


@frozen
class PulseSequence:
    """Spoiled gradient echo, or spin echo with or without inversion.

    The spin echo has an excitation by 90 degrees. Echo time `te`, repetition time `tr` and
    inversion time `ti` are in s; `ti` is None if there is no inversion. `flip` is in degrees. A
    `refocused` echo is a spin echo, which decays by T2 and is not dephased around veins. `fat` is
    the signal of the scalp relative to a sequence without fat suppression.
    """

    te: float
    tr: float
    flip: float = 90.0
    ti: float | None = None
    refocused: bool = False
    fat: float = 1.0

    def magnetization(self, t1: Array | float, pulse: int | None = None) -> Array:
        """Return the longitudinal magnetization before an excitation, relative to equilibrium.

        In a spoiled sequence, M(n+1) = 1 + (M(n) cos(flip) - 1) exp(-TR/T1). After an inversion,
        the magnetization is |1 - 2 exp(-TI/T1) + exp(-TR/T1)| if the echo time is short relative
        to TR.

        `t1` is in s. `pulse` is the number of preceding excitations (0 if relaxed); None for the
        steady state.
        """
        t1 = np.asarray(t1, dtype=np.float32)
        e1 = np.exp(-self.tr / t1)
        if self.ti is not None:
            return np.abs(1 + e1 - 2 * np.exp(-self.ti / t1))
        decay = e1 * np.float32(np.cos(np.deg2rad(self.flip)))
        steady = (1 - e1) / (1 - decay)
        return np.asarray(
            steady if pulse is None else steady + (1 - steady) * decay**pulse, dtype=np.float32
        )

    def signal(
        self, tissue: _Tissue, texture: Array | float = 0.0, pulse: int | None = None
    ) -> Array:
        """Return the magnitude of a tissue's signal at the echo, before the flip angle is applied.

        `texture` is the relative deviation of T1, T2* and T2. `pulse` is the number of preceding
        excitations, ignored after an inversion; None for the steady state. The signal is in units
        of the proton density, for each deviation.
        """
        scale = 1 + np.asarray(texture, dtype=np.float32)
        decay = (tissue.t2 if self.refocused else tissue.t2s) * scale
        return tissue.pd * self.magnetization(tissue.t1 * scale, pulse) * np.exp(-self.te / decay)

    def scene(self, head: "Head", pulse: int | None = None) -> Array:
        """Return the signal of a head on its grid (float32, relative units).

        Venous blood replaces its fraction of the tissue. `pulse` is the number of preceding
        excitations, ignored after an inversion; None returns the steady state.
        """
        signal = np.zeros(head.veins.shape, dtype=np.float32)
        for name, fraction in head.fractions.items():
            texture = head.texture if name in ("gm", "wm", "lesion") else 0.0
            signal += (
                fraction
                * self.signal(TISSUES[name], texture, pulse)
                * (self.fat if name == "scalp" else 1.0)
            )
        if not self.refocused:  # veins dephase the signal within about 1 mm
            signal *= np.exp(
                -self.te
                * _VENOUS_DEPHASING
                * ndimage.gaussian_filter(head.veins, 1.0 / head.affine[0, 0])
            )
        signal += head.veins * (self.signal(_BLOOD, 0.0, pulse) - signal)
        return signal * np.float32(np.sin(np.deg2rad(self.flip)))

    def scale_scene(self, head: "Head", level: float) -> Array:
        """Return the signal of a head scaled to a mean of `level` over the brain (float32)."""
        scene = self.scene(head)
        return scene * np.float32(level / float(scene[head.brain].mean()))

    @property
    def sidecar(self) -> dict[str, object]:
        """BIDS metadata of the sequence."""
        inversion = {} if self.ti is None else {"InversionTime": round(self.ti, 4)}
        return {
            "RepetitionTime": self.tr,
            "EchoTime": self.te,
            "FlipAngle": self.flip,
            **inversion,
        }
