"""Advice on obtaining missing references, worded for each interface of the program."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

from bids_sr.frozen import frozen


@frozen
class Advice:
    """Advice on how to obtain the reference data that an evaluation lacks.

    `other_run` and `fine_run` concern series of other programs: they advise how to obtain a second
    run of the task, and a reference above the acquired Nyquist frequency. Wording differs between
    the command line and Python.
    """

    reference: str
    images: str
    controls: str
    other_run: str
    fine_run: str


PROGRAM = Advice(
    reference=(
        "specify a reference with --truth DIR, or use --retrospective, which downsamples the run"
        " and uses the run itself as the reference"
    ),
    images="measured volumes (--truth, --retrospective) or a second T2*w pair (run-2) of the"
    " session",
    controls="To run negative controls, use --null-checks.",
    other_run="scan the task twice and keep both runs, with their events, in the dataset",
    fine_run=(
        "measure the run at the high resolution, downsample it for the program, and specify the"
        " measurement with --truth DIR"
    ),
)
COMMAND = replace(
    PROGRAM,
    other_run="scan the task twice and specify the second run with --other-run and --other-events",
    fine_run=(
        "measure the run at the high resolution, downsample it for the program, and specify the"
        " measurement with --truth FILE"
    ),
)
PYTHON = Advice(
    reference=(
        "pass a measured series, or known activation by contrast, as truth to Evaluator.fit"
    ),
    images="a measured series as truth",
    controls="The bids-sr program can run negative controls (--null-checks).",
    other_run="scan the task twice and pass the second run as other_run",
    fine_run=(
        "measure the run at the high resolution, downsample it for the program, and pass the"
        " measurement as truth"
    ),
)
Audience = Literal["program", "command", "python"]
ADVICE: Mapping[Audience, Advice] = {"program": PROGRAM, "command": COMMAND, "python": PYTHON}
"""Advice for users of ``bids-sr``, ``bids-sr-evaluate`` and `bids_sr.Evaluator`."""
