"""The process that all workers are forked from: it loads what they share, once."""

import os
from multiprocessing import forkserver, get_context

from bids_sr.execution.usage import limit_threads

_SHARED = (
    "nipype.pipeline.engine",
    "bids_sr.pipeline.nipype_interface",
    "bids_sr.workflows.base",  # with it all steps
    "bids_sr.spatial.spline_kernels",  # compiled here where it is new, once for all workers
    "scipy.ndimage",
    "torch",
    "nilearn.glm.first_level",
    "ants",
    "matplotlib.pyplot",
    "skimage.metrics",
)
"""Loaded before the first worker: each then shares 0.2 GB and 3 s of a processor."""


def start_fork_server() -> None:
    """Start it where it does not run yet, and go on while it loads.

    What it is given of the environment holds for all workers, so the threads of libraries are
    limited, and nipype is kept from the network.
    """
    limit_threads()
    os.environ["NIPYPE_NO_ET"] = "1"
    get_context("forkserver").set_forkserver_preload(list(_SHARED))
    given = os.environ.get("PYTHONSAFEPATH", "")
    os.environ["PYTHONSAFEPATH"] = "1"  # else a checkout in the current directory comes first
    try:
        forkserver.ensure_running()
    finally:
        os.environ["PYTHONSAFEPATH"] = given  # which, empty, is as if it were not there
