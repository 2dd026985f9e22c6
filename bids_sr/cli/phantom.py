"""Console script `bids-sr-phantom`: a simulated BIDS data set with known ground truth."""

import sys
import time
from collections.abc import Sequence
from pathlib import Path

from bids_sr.cli.exit_codes import DONE, run_program
from bids_sr.cli.options import ParsedOptions, Parser, make_options
from bids_sr.cli.standard_streams import restart_in_utf8
from bids_sr.config.section import OptionSection, argument
from bids_sr.io.frozen import frozen
from bids_sr.phantom.study import Study

_DESCRIPTION = """\
Simulate a BIDS dataset with BOLD runs (finger tapping or resting state), a pair of high- and
low-resolution T2*w images and a T1w image. The ground truth is stored in
derivatives/ground-truth."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``bids-sr-phantom`` and return its exit code (`bids_sr.cli.exit_codes`)."""
    if argv is None:
        restart_in_utf8()
    arguments = sys.argv[1:] if argv is None else argv
    return run_program(
        "bids-sr-phantom",
        lambda: _run(arguments),
        interrupted="the incomplete dataset was removed",
    )


def _run(argv: Sequence[str]) -> int:
    """Simulate the data set."""
    out, study = build_parser().read(argv, _parse_options)
    from bids_sr.phantom.simulated_dataset import make_dataset

    start = time.monotonic()
    make_dataset(out, study, progress=print)
    print(f"{out}: phantom dataset created in {time.monotonic() - start:.0f} s")
    return DONE


@frozen
class _Destination(OptionSection):
    """Directory of the simulated data set."""

    out: Path = argument("OUT", "empty or new directory for the dataset")


def build_parser() -> Parser:
    """Return the parser of ``bids-sr-phantom``."""
    return Parser("bids-sr-phantom", _DESCRIPTION, _Destination, Study)


def _parse_options(inputs: ParsedOptions) -> tuple[Path, Study]:
    """Return directory and study of a command line."""
    return make_options(inputs, _Destination).out, make_options(inputs, Study)


if __name__ == "__main__":
    sys.exit(main())
