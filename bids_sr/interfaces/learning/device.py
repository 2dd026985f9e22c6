"""Where torch computes: the inputs that every step with a network has, and the choice of the device."""

from __future__ import annotations

from functools import cache

from nipype.interfaces.base import BaseInterfaceInputSpec, traits


class DeviceInputSpec(BaseInterfaceInputSpec):
    """Inputs of a step that may use the GPU, which the scheduler lends to one step at a time by `use_gpu`."""

    device = traits.Enum("auto", "cpu", "cuda", usedefault=True, desc="auto takes CUDA where there is some")
    threads = traits.Range(low=1, value=1, usedefault=True, desc="threads of torch and of matrix products")
    use_gpu = traits.Bool(False, usedefault=True, nohash=True, desc="waits for the GPU; set by the scheduler")


def choose_device(device: str) -> str:
    """The device of torch: "auto" is CUDA where a device works; asking for CUDA in vain is an error."""
    if device == "cpu" or (device == "auto" and why_no_cuda()):
        return "cpu"
    if device == "cuda" and why_no_cuda():
        raise RuntimeError(f"--device cuda: {why_no_cuda()}; use --device cpu or auto")
    return "cuda"


@cache
def why_no_cuda() -> str:
    """Why CUDA cannot be used in this process, or "": a device may be there and too old, taken, or out of order."""
    import torch

    if not torch.cuda.is_available():
        return "torch finds no CUDA device here"
    try:
        torch.ones(8, device="cuda").sum().item()
    except RuntimeError as error:
        return f"the CUDA device does not work: {str(error).strip().splitlines()[0]}"
    return ""
