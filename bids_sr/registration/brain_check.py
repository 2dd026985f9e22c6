"""Quality control of a brain mask: what cannot be true of a brain, or of the pose behind it."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from bids_sr.io.array_types import Array
from bids_sr.registration.ants import Image

VOLUME_ML = (900.0, 1900.0)  # of the brain of an adult or a child of school age
MAX_DETERMINANT = 1.1  # of the affine from template to head; the templates are larger than most brains
MIN_DICE = 0.85  # of the mask and the template's brain


@dataclass(frozen=True, kw_only=True, slots=True)
class BrainCheck:
    """Figures of a brain mask; None where there is no pose behind it, as with one of another program.

    `volume_ml` of the mask; `determinant` of the affine from template to head; `nmi` and `nmi_headers`, normalized
    mutual information in the template's brain by the affine and by the headers; `template_dice` of the mask and the
    template's brain brought there by the affine.
    """

    volume_ml: float
    determinant: float | None = None
    nmi: float | None = None
    nmi_headers: float | None = None
    template_dice: float | None = None

    @property
    def doubts(self) -> list[str]:
        """Why the mask is probably wrong, a clause each; none where nothing speaks against it."""
        low, high = VOLUME_ML
        found = []
        if not low <= self.volume_ml <= high:
            found.append(f"its brain mask holds {self.volume_ml:.0f} ml, where brains have {low:.0f} to {high:.0f}")
        if self.determinant is not None and self.determinant > MAX_DETERMINANT:
            found.append(f"the template had to grow to {self.determinant:.2f} of its volume, as it does in the scalp")
        if self.nmi is not None and self.nmi_headers is not None and self.nmi < self.nmi_headers:
            found.append("the template fits it no better than by the headers alone")
        if self.template_dice is not None and self.template_dice < MIN_DICE:
            found.append(f"mask and template's brain agree by a Dice coefficient of {self.template_dice:.2f} alone")
        return found

    def facts(self) -> dict[str, Any]:
        """As plain values for the report; `brain_doubts` holds the doubts."""
        figures = {
            "brain_volume_ml": self.volume_ml,
            "brain_determinant": self.determinant,
            "brain_nmi": self.nmi,
            "brain_nmi_headers": self.nmi_headers,
            "brain_template_dice": self.template_dice,
        }
        return {name: round(v, 4) for name, v in figures.items() if v is not None} | {"brain_doubts": self.doubts}


def volume_ml(mask: Array, affine: Array) -> float:
    """Volume of a mask (ml)."""
    return float(np.count_nonzero(mask)) * abs(float(np.linalg.det(np.asarray(affine)[:3, :3]))) / 1000


def check_mask(mask: Image) -> BrainCheck:
    """Figures of a brain mask that another program has made."""
    return BrainCheck(volume_ml=volume_ml(mask.data > 0.5, mask.affine))
