"""Memory and device: whether the work fits into what may be taken, and onto the GPU that was asked for."""

import math

from bids_sr.bids import Findings, Problem
from bids_sr.bids.headers import sizes_of
from bids_sr.config import Settings, machine
from bids_sr.config.memory_model import BASE_GB, Sizes, largest_gb
from bids_sr.preflight.plan import Plan


def check_machine(plan: Plan, settings: Settings) -> list[Problem]:
    """What this machine lacks; for the one that does the work, not for one that submits it to others."""
    found, resources = Findings(), settings.resources
    if resources.use_plugin is None:
        free = None if resources.mem_gb is not None else machine.memory_gb()
        check_memory(settings, sizes_of(plan.subjects, settings), free, found)
        if resources.device == "cuda" and settings.superres.learned and not machine.has_gpu():
            fix = "Use --device cpu or auto, or check CUDA_VISIBLE_DEVICES and that the build of torch is one for CUDA."
            found.refuse("--device cuda", "torch finds no CUDA device that it may use here", fix)
    return found.problems


def check_memory(settings: Settings, sizes: Sizes, memory_gb: float | None, found: Findings) -> None:
    """Memory that not even the largest step fits into, with nothing beside it.

    Parameters
    ----------
    settings : of the call
    sizes : of the grids
    memory_gb : what may be taken; None where it is not known
    """
    need = BASE_GB + largest_gb(sizes)
    if settings.resources.use_plugin is not None or memory_gb is None or memory_gb >= need:
        return
    given, enough = settings.resources.mem_gb, math.ceil(need * 10) / 10
    smaller = _smaller(sizes, memory_gb)
    if given is not None:
        reason = f"{need:.1f} GB are needed by the program with its largest step"
        found.refuse(f"--mem {given:g}", reason, f"Give --mem {enough:g} or more{smaller}.")
    else:
        reason = f"{need:.1f} GB are needed, and {memory_gb:.1f} GB may be taken here"
        found.refuse("memory", reason, f"Run where {enough:g} GB are free{smaller}.")


def _smaller(sizes: Sizes, memory_gb: float) -> str:
    """Options with which less memory would do, so much less that it fits."""
    if BASE_GB + largest_gb(Sizes(low=sizes.low, high=sizes.high)) <= memory_gb:
        return ", or leave the T1w image out by a --bids-filter-file"
    if BASE_GB + largest_gb(Sizes(t1w=sizes.t1w, low=sizes.low, high=sizes.low)) <= memory_gb:
        return ", or ask for a smaller --sr-factor"
    return ""
