"""The process that all workers are forked from: it loads what they share, once."""

import os
import tempfile
from multiprocessing import forkserver, get_context, util

from bids_sr.execution.usage import limit_threads

_SHARED = (
    "nipype.pipeline.engine",
    "bids_sr.pipeline.nipype_interface",
    "bids_sr.workflows.participant",  # with it all steps
    "bids_sr.spatial.spline_kernels",  # compiled here where it is new, once for all workers
    "bids_sr.figures.line_loops",  # the same
    "scipy.ndimage",
    "torch",
    "nilearn.glm.first_level",
    "ants",
    "matplotlib.pyplot",
    "skimage.metrics",
)
"""Loaded before the first worker: each then shares 0.4 GB and 3 s of a processor."""
_LONGEST = 64  # characters of a folder for sockets, whose whole path may have 107


def start_fork_server() -> None:
    """Start it where it does not run yet, and go on while it loads.

    What it is given of the environment holds for all workers, so the threads of libraries are
    limited, and nipype is kept from the network.
    """
    limit_threads()
    os.environ["NIPYPE_NO_ET"] = "1"
    get_context("forkserver").set_forkserver_preload(list(_SHARED))
    if len(tempfile.gettempdir()) > _LONGEST:
        given_dir, tempfile.tempdir = tempfile.tempdir, "/tmp"
        util.get_temp_dir()  # of all sockets; it is kept, and removed at the end
        tempfile.tempdir = given_dir
    before = os.environ.get("PYTHONSAFEPATH", "")
    os.environ["PYTHONSAFEPATH"] = "1"  # else a checkout in the current directory comes first
    try:
        forkserver.ensure_running()
    finally:
        os.environ["PYTHONSAFEPATH"] = before  # which, empty, is as if it were not there
