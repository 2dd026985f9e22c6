"""Process from which all workers are forked, with their common modules loaded once."""

import os
import tempfile
from multiprocessing import forkserver, get_context, util

from bids_sr.engine.usage import limit_threads

# modules that are loaded before the first worker, which saves 0.4 GB and 3 s per worker
_PRELOADED_MODULES = (
    "nipype.pipeline.engine",
    "bids_sr.engine.nipype_interface",
    "bids_sr.workflows.participant",  # imports all steps
    # compiled here if there is no cached code, once for all workers
    "bids_sr.spatial.linear_kernels",
    "bids_sr.spatial.smoothing_kernels",
    "bids_sr.spatial.spline_kernels",
    "bids_sr.spatial.lag_products",
    "bids_sr.glm.lattice_loops",
    "bids_sr.report.figures.line_loops",
    "scipy.ndimage",
    "torch",
    "ants",
    "matplotlib.pyplot",
    "skimage.filters",
)
_MAX_TEMP_DIR_LENGTH = (
    64  # characters of the temporary directory; the whole path of a socket may have 107
)


def start_fork_server() -> None:
    """Start the fork server unless it is running; return while it loads modules.

    All workers inherit its environment. Therefore the threads of libraries are limited and network
    access of nipype is disabled here.
    """
    limit_threads()
    os.environ["NIPYPE_NO_ET"] = "1"
    get_context("forkserver").set_forkserver_preload(list(_PRELOADED_MODULES))
    if len(tempfile.gettempdir()) > _MAX_TEMP_DIR_LENGTH:
        original_dir, tempfile.tempdir = tempfile.tempdir, "/tmp"
        # directory of all sockets, which multiprocessing remembers and removes at the end
        util.get_temp_dir()
        tempfile.tempdir = original_dir
    original = os.environ.get("PYTHONSAFEPATH", "")
    # otherwise a checkout in the current directory would be imported first
    os.environ["PYTHONSAFEPATH"] = "1"
    try:
        forkserver.ensure_running()
    finally:
        os.environ["PYTHONSAFEPATH"] = original  # an empty value is the same as no value
