"""Console script `bids-sr-phantom`: a simulated BIDS data set with known truth."""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

PRESET_NAMES = ("tiny", "demo", "paper")
SCENE_NAMES = ("ribbon", "veins", "free")
TASK_NAMES = ("tap", "rest")
FIRST_ECHO_MS, ECHO_SPACING_MS = 13.0, 16.0


def echo_times(text: str) -> tuple[float, ...]:
    """Echo times (ms) from their number or a list.

    >>> echo_times("3"), echo_times("14,30.5")
    ((13.0, 29.0, 45.0), (14.0, 30.5))
    """
    if text.isdecimal():
        return tuple(FIRST_ECHO_MS + ECHO_SPACING_MS * k for k in range(int(text)))
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        message = (
            f"{text!r} is neither a number of echoes (3) nor a list of echo times in ms (14,30,46)"
        )
        raise argparse.ArgumentTypeError(message) from None


def build_parser() -> argparse.ArgumentParser:
    """The parser; needs nothing but the standard library."""
    parser = argparse.ArgumentParser(
        prog="bids-sr-phantom",
        description=(
            "Simulate a BIDS data set: BOLD of a tapping task or at rest, a T2*w pair, a T1w, and"
            " their ground truth in derivatives/ground-truth."
        ),
    )
    add = parser.add_argument
    add("out", metavar="OUT", type=Path, help="directory to make; must not exist, or be empty")
    preset = (
        "tiny: seconds, for tests; demo: a minute (default); paper: 64x64x30x900 at TR 0.5 s, some"
        " minutes"
    )
    add("--preset", choices=PRESET_NAMES, default="demo", help=preset)
    add("--subjects", type=int, default=1, metavar="N", help="number of subjects (default 1)")
    pairs = (
        "T2*w pairs of each subject, each with its own pose and noise; from 2 on as run-1, run-2,"
        " … (default 1)"
    )
    add("--pairs", type=int, default=1, metavar="N", help=pairs)
    add("--seed", type=int, default=0, metavar="N", help="same seed, same files (default 0)")
    scene = (
        "activity along the gray matter (ribbon, default), displaced toward draining veins"
        " (veins), or "
    )
    add(
        "--scene",
        choices=SCENE_NAMES,
        default="ribbon",
        help=f"{scene}regardless of anatomical borders (free)",
    )
    task = (
        "tap: blocks of finger tapping (default); rest: no events, but networks (motor,"
        " defaultMode, visual) that "
    )
    add(
        "--task",
        choices=TASK_NAMES,
        default="tap",
        help=f"{task}fluctuate slowly, each of its own",
    )
    add(
        "--volumes",
        type=int,
        default=0,
        metavar="N",
        help="volumes of the BOLD (default: as many as the preset has)",
    )
    anat = (
        "also T2w and FLAIR, and T1w, T2w and FLAIR at a low resolution, for bids-sr --sr-target"
        " anat"
    )
    add("--anat", action="store_true", help=anat)
    fine = (
        "also a short BOLD run at the high resolution, acq-highres_bold, of N volumes (20 where N"
        " is not given)"
    )
    add("--calibration", type=int, nargs="?", const=20, default=0, metavar="N", help=fine)
    several = (
        "a multi-echo BOLD run (_echo-1_bold, …): how many echoes, the first at 13 ms and one"
        " every 16 ms, or "
    )
    add(
        "--echoes",
        type=echo_times,
        default=(),
        metavar="N|TIMES",
        help=f"{several}their times in ms, as 14,30,46",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Make the data set; returns the exit code: 0 done, 2 bad usage, 130 interrupted."""
    options = vars(build_parser().parse_args(argv))
    out = options.pop("out")
    from bids_sr.phantom.simulated_dataset import PhantomError, Study, make_dataset

    began = time.monotonic()
    try:
        make_dataset(out, Study(**options), progress=print)
    except PhantomError as err:
        print(f"bids-sr-phantom: {err}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("bids-sr-phantom: interrupted; nothing was left behind", file=sys.stderr)
        return 130
    print(f"{out}: done in {time.monotonic() - began:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
