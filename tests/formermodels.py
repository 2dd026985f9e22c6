"""Write a model of an earlier version, which called the data-consistent network srgan."""

from pathlib import Path

import torch

from bids_sr.sr.method import get_method
from bids_sr.sr.models.model import save_model

_FACTOR = (2.0, 2.0, 1.0)
_CARD = {
    "method": "srgan",
    "recipe": "fast",
    "factor": list(_FACTOR),
    "contrast": "T2starw",
    "orientation": "I-S",
    "resolution": {"lowres_mm": [6.0, 6.0, 4.0]},
    "settings": {"upsampled_by": None},
}


def save_former_srgan(folder: Path) -> Path:
    """Write an untrained model, ``old``, to an existing folder and return its weights."""
    torch.manual_seed(0)
    network = get_method("dcnet").recipes["fast"].build_generator(1, _FACTOR)
    return save_model(folder / "old", network.state_dict(), _CARD)[0]
