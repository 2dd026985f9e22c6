"""Selection of the torch device, and names of the precisions of training."""

from functools import cache
from typing import Literal

from bids_sr.io.notices import explain

Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["fp32", "mixed"]
"""Arithmetic precision of training."""
TrainPrecision = Literal["auto", "fp32", "mixed"]
"""Requested precision of training (see `bids_sr.sr.models.request.TrainingSettings`)."""


def choose_device(device: str) -> Literal["cpu", "cuda"]:
    """Return the torch device; "auto" selects CUDA if it works.

    Raises `RuntimeError` if CUDA was requested but cannot be used.
    """
    if device == "cpu" or (device == "auto" and _find_cuda_problem()):
        return "cpu"
    if device == "cuda" and _find_cuda_problem():
        raise RuntimeError(
            f"device=cuda cannot be used, because {_find_cuda_problem()}. Use --set "
            "resources.device=cpu or --set resources.device=auto."
        )
    return "cuda"


@cache
def _find_cuda_problem() -> str:
    """Return the reason why CUDA cannot be used in this process, or "" if it can.

    A test computation is run, because an existing device may be too old, occupied or defective.
    """
    import torch

    if not torch.cuda.is_available():
        return "PyTorch did not find a CUDA device"
    try:
        torch.ones(8, device="cuda").sum().item()
    except RuntimeError as error:
        return f"a test computation on the CUDA device failed: {explain(error)}"
    return ""
