"""Detail above the acquired Nyquist frequency that methods with a run's own variance recover, over
participants.

python benchmarks/people.py data DATA OUT
    data sets of the next three, and the calls that they make
python benchmarks/people.py runs DATA OUT [ONLY ...]
    the whole program, without and with calibration, on every run of DATA
python benchmarks/people.py noisy DATA OUT [ONLY ...]
    the same without calibration, with thermal noise restored
python benchmarks/people.py contrasts DATA OUT [ONLY ...]
    the same without calibration, by contrast
python benchmarks/people.py baselines DATA OUT [ONLY ...]
    the baselines of the same calls
python benchmarks/people.py effects DATA OUT [ONLY ...]
    the same, with block effects for tested_detail.py and large_effects.py
python benchmarks/people.py smoothed DATA OUT [ONLY ...]
    the same on runs that were smoothed before
python benchmarks/people.py harm DATA OUT [ONLY ...]
    wrong calibrations
python benchmarks/people.py protocol DATA OUT [ONLY ...]
    the same with other lengths, moments, distortions
python benchmarks/people.py all DATA OUT
    all of the above on the data sets of DATA

DATA contains studyforrest-localizer, -lowres, -lowres-truth, pydecnef and opennft; ONLY is RUN or
RUN:KIND, such as B2 or B2:blind. Results of a call are stored in OUT/RUN/kept/KIND, and no call is
repeated; tables are made from all stored results.

Each run is downsampled by two in plane (k-space crop about the center of the field of view) and
super-resolved. Every value is an opening of the reference, and TRUTH.md counts them. The
participant is the unit.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from _people_calibrations import make_calibration
from _people_data import TESTED, make_tested
from _people_runs import command
from _people_tables import baselines, contrasts, effects, harm, noisy, protocol, runs, smoothed


def data(arguments: list[str]) -> None:
    """Make the data sets of `runs`, and print the calls of the program that `runs` makes."""
    folder, out = Path(arguments[0]), Path(arguments[1])
    for tested in TESTED.values():
        low, truth = make_tested(tested, folder, out)
        fine = make_calibration("fine", tested, folder, out)
        for calibration in ("none", fine):
            print(
                " ".join(
                    command(
                        low,
                        out / tested.name / "results",
                        truth,
                        calibration,
                        out / tested.name / "work",
                    )
                )
            )


def everything(arguments: list[str]) -> None:
    """Make every table on participants that README and docs show."""
    for command_ in (runs, noisy, contrasts, baselines, smoothed, harm, protocol):
        command_(arguments[:2])


def main() -> int:
    """Run one subcommand."""
    commands = {
        "data": data,
        "runs": runs,
        "noisy": noisy,
        "contrasts": contrasts,
        "baselines": baselines,
        "effects": effects,
        "smoothed": smoothed,
        "harm": harm,
        "protocol": protocol,
        "all": everything,
    }
    if len(sys.argv) < 3 or sys.argv[1] not in commands:
        sys.exit(__doc__)
    torch.set_num_threads(1)
    commands[sys.argv[1]](sys.argv[2:])
    return 0


if __name__ == "__main__":
    sys.exit(main())
