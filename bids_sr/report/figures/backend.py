"""Backend of matplotlib in programs."""

import os


def draw_to_files() -> None:
    """Select the backend without windows for this process and its child processes.

    The environment may contain the backend of a notebook or a desktop, which this environment of
    Python may not have. Call this function before matplotlib is imported.
    """
    os.environ["MPLBACKEND"] = "agg"
