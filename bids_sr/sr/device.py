"""Where, and in which arithmetic, torch computes."""

from functools import cache
from typing import Literal

Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["auto", "fp32", "bf16"]


def choose_device(device: str) -> str:
    """Select the torch device: "auto" is CUDA if it works; requesting CUDA in vain is an error."""
    if device == "cpu" or (device == "auto" and _why_no_cuda()):
        return "cpu"
    if device == "cuda" and _why_no_cuda():
        raise RuntimeError(f"--device cuda: {_why_no_cuda()}; use --device cpu or auto")
    return "cuda"


@cache
def _why_no_cuda() -> str:
    """Explain why CUDA cannot be used in this process, or return "".

    A device may be there and too old, taken, or out of order.
    """
    import torch

    if not torch.cuda.is_available():
        return "torch finds no CUDA device here"
    try:
        torch.ones(8, device="cuda").sum().item()
    except RuntimeError as error:
        return f"the CUDA device does not work: {str(error).strip().splitlines()[0]}"
    return ""
