"""Console script `bids-sr-phantom`: a simulated BIDS data set with known ground truth."""

import sys
import time
from collections.abc import Sequence
from pathlib import Path

from bids_sr.cli.exit_codes import DONE, run_program
from bids_sr.cli.options import Parser
from bids_sr.config.section import OptionSection, argument
from bids_sr.io.frozen import frozen
from bids_sr.phantom.study import Study

_DESCRIPTION = """\
Simulate a BIDS dataset with BOLD runs (finger tapping or resting state), a pair of high- and
low-resolution T2*w images and a T1w image. The ground truth is stored in
derivatives/ground-truth."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``bids-sr-phantom`` and return its exit code (`bids_sr.cli.exit_codes`)."""
    interrupted = "the incomplete dataset was removed"
    return run_program("bids-sr-phantom", _run, argv, interrupted=interrupted)


def _run(argv: Sequence[str]) -> int:
    """Simulate the data set."""
    destination, study = build_parser().options(argv)
    from bids_sr.phantom.simulated_dataset import make_dataset

    start = time.monotonic()
    make_dataset(destination.out, study, progress=print)
    print(f"{destination.out}: phantom dataset created in {time.monotonic() - start:.0f} s")
    return DONE


@frozen
class _Destination(OptionSection):
    """Directory of the simulated data set."""

    out: Path = argument("OUT", "empty or new directory for the dataset")


def build_parser() -> Parser:
    """Return the parser of ``bids-sr-phantom``."""
    return Parser("bids-sr-phantom", _DESCRIPTION, _Destination, Study)


if __name__ == "__main__":
    sys.exit(main())
