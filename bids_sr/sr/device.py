"""Where, and in which arithmetic, torch computes."""

from functools import cache
from typing import Literal

Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["auto", "fp32", "bf16"]
TrainPrecision = Literal["auto", "fp32", "mixed"]
"""Arithmetic of a training; "auto" is "mixed" on a GPU and "fp32" on the CPU."""


def choose_device(device: str) -> str:
    """Select the torch device: "auto" is CUDA if it works; requesting CUDA in vain is an error."""
    if device == "cpu" or (device == "auto" and _why_no_cuda()):
        return "cpu"
    if device == "cuda" and _why_no_cuda():
        raise RuntimeError(
            f"--device cuda cannot be used, because {_why_no_cuda()}. Use --device cpu or "
            "--device auto."
        )
    return "cuda"


@cache
def _why_no_cuda() -> str:
    """Explain why CUDA cannot be used in this process, or return "".

    A device may be there and too old, taken, or out of order.
    """
    import torch

    if not torch.cuda.is_available():
        return "PyTorch did not find a CUDA device"
    try:
        torch.ones(8, device="cuda").sum().item()
    except RuntimeError as error:
        return (
            f"a test computation on the CUDA device failed: {str(error).strip().splitlines()[0]}"
        )
    return ""
