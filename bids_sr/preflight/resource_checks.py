"""Whether the work fits: into the memory that may be taken, and onto the device that was asked for."""

from __future__ import annotations

import math

from bids_sr.bids import Problem
from bids_sr.bids.grid_sizes import sizes_of
from bids_sr.config import Settings, machine
from bids_sr.config.memory_model import BASE_GB, Sizes, largest_gb
from bids_sr.preflight.plan import Plan


def check_machine(plan: Plan, settings: Settings) -> list[Problem]:
    """What this machine lacks; for the one that does the work, not for one that submits it to others."""
    if settings.resources.use_plugin is not None:
        return []
    free = None if settings.resources.mem_gb is not None else machine.memory_gb()
    return [*check_memory(settings, sizes_of(plan.subjects, settings), free), *check_device(settings)]


def check_memory(settings: Settings, sizes: Sizes, memory_gb: float | None) -> list[Problem]:
    """Memory that not even the largest step fits into, with nothing beside it.

    Parameters
    ----------
    settings : of the call
    sizes : of the grids
    memory_gb : what may be taken; None where it is not known
    """
    need = BASE_GB + largest_gb(sizes)
    if settings.resources.use_plugin is not None or memory_gb is None or memory_gb >= need:
        return []
    given, enough = settings.resources.mem_gb, math.ceil(need * 10) / 10
    if given is not None:
        what, reason = f"--mem {given:g}", f"{need:.1f} GB are needed by the program with its largest step"
        fix = f"Give --mem {enough:g} or more"
    else:
        what, reason = (
            "memory",
            f"{need:.1f} GB are needed, and {memory_gb:.1f} GB may be taken here",
        )
        fix = f"Run where {enough:g} GB are free"
    return [Problem(file=what, reason=reason, fix=f"{fix}{_smaller(sizes, memory_gb)}.")]


def _smaller(sizes: Sizes, memory_gb: float) -> str:
    """Options with which less memory would do, so much less that it fits."""
    if BASE_GB + largest_gb(Sizes(low=sizes.low, high=sizes.high)) <= memory_gb:
        return ", or leave the T1w image out by a --bids-filter-file"
    if BASE_GB + largest_gb(Sizes(t1w=sizes.t1w, low=sizes.low, high=sizes.low)) <= memory_gb:
        return ", or ask for a smaller --sr-factor"
    return ""


def check_device(settings: Settings) -> list[Problem]:
    """A GPU that was asked for and cannot be used."""
    if settings.resources.device != "cuda" or not settings.superres.learned or machine.has_gpu():
        return []
    fix = "Use --device cpu or auto, or check CUDA_VISIBLE_DEVICES and that the build of torch is one for CUDA."
    return [Problem(file="--device cuda", reason="torch finds no CUDA device that it may use here", fix=fix)]
