"""Compare the confounds of runs with nipype and niworkflows, and count non-steady-state volumes.

python benchmarks/confounds.py [RUN_FOLDER …] [--bold BOLD …]

RUN_FOLDER is the folder of a run in the work directory (``sub_01_task_tap_wf``). All columns that
fMRIPrep also has are computed from its motion-corrected series, masks and motion parameters. BOLD
is an acquired series whose non-steady-state volumes are counted by nipype and by us, as are those
of simulated signals.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

import nibabel as nib
import numpy as np
import pandas as pd
from _table import keep
from nipype.algorithms.confounds import is_outlier

from bids_sr.io.confound_names import MOTION_PARAMETERS
from bids_sr.io.nifti import SeriesReader, SeriesWriter
from bids_sr.preproc.nonsteady import _count_nonsteady, count_nonsteady_volumes

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from data.fmriprep_confounds import (
    RunFiles,
    compare_columns,
    compute_library_confounds,
    compute_own_confounds,
    make_run_files,
)

N_SIMULATIONS = 500


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", type=Path, nargs="*", help="folder of a run in the work directory")
    parser.add_argument("--bold", type=Path, nargs="*", default=[], help="acquired series")
    arguments = parser.parse_args()
    if arguments.runs:
        keep(
            "confounds",
            "Confounds compared with nipype and niworkflows",
            [row for run in arguments.runs for row in compare_run(run)],
            remarks=[
                "`difference`: largest difference in the columns, relative to the largest value of"
                " the column. Components are compared up to their sign. `in double precision`: the"
                " same if nipype sums the squares of DVARS in double precision."
            ],
        )
    keep(
        "nonsteady",
        "Non-steady-state volumes counted by nipype and by bids-sr",
        [*map(count_in_run, arguments.bold), *simulate_counts()],
        remarks=[f"Simulated signals: mean count of {N_SIMULATIONS} signals."],
    )


def read_run(folder: Path, copy: Path) -> RunFiles:
    """Return the input of the confounds of a run; `copy` is the path of a copy of its series."""
    with (
        SeriesReader(folder / "correct_motion" / "preproc.nii") as reader,
        SeriesWriter(copy, reader.shape, reader.affine, reader.tr) as writer,
    ):
        for volume in reader.volumes():
            writer.append(volume)
    confounds = pd.read_csv(folder / "gather_confounds" / "confounds.tsv", sep="\t")
    mask = np.asarray(nib.load(folder / "mask_bold" / "bold_mask.nii").dataobj) > 0
    tpms = sorted((folder / "tissues_to_bold").glob("tpms_bold*.nii"))
    return make_run_files(
        copy,
        confounds[list(MOTION_PARAMETERS)],
        mask,
        [np.asarray(nib.load(tpm).dataobj) for tpm in tpms],
        sum(name.startswith("non_steady_state_outlier") for name in confounds),
    )


def compare_run(folder: Path) -> Iterator[dict[str, object]]:
    """Yield the largest difference of each kind of column."""
    with tempfile.TemporaryDirectory() as scratch:
        run = read_run(folder, Path(scratch) / "series.nii")
        start = time.process_time()
        own, _ = compute_own_confounds(run)
        own_seconds = time.process_time() - start
        library = compute_library_confounds(run, Path(scratch)).table
        library_seconds = time.process_time() - start - own_seconds
        with mock.patch.object(np, "float32", np.float64):  # precision of sums in nipype
            exact = compute_library_confounds(run, Path(scratch)).table
    differences = pd.DataFrame(
        {
            "difference": compare_columns(own, library),
            "in double precision": compare_columns(own, exact),
        }
    )
    kinds = differences.index.str.replace(
        r"(_[xyz])?(_derivative1)?(_power2)?(_?\d+)?$", "", regex=True
    )
    for kind, values in [*differences.groupby(kinds, sort=False), ("all", differences)]:
        yield {
            "run": folder.name,
            "columns": kind,
            "number": len(values),
            **{name: f"{values[name].max():.1e}" for name in values},
        }
    sys.stderr.write(
        f"{folder.name}: processor time {own_seconds:.1f} s, libraries {library_seconds:.1f} s\n"
    )


def count_in_run(bold: Path) -> dict[str, object]:
    """Return the non-steady-state volumes of an acquired series."""
    first_volumes = np.asarray(nib.load(bold).dataobj[..., :50])
    return {
        "signal": f"{bold.parents[2].name} {bold.name}",
        "expected": "unknown",
        "nipype": is_outlier(first_volumes.mean(axis=(0, 1, 2))),
        "bids-sr": count_nonsteady_volumes(bold),
    }


def simulate_counts() -> Iterator[dict[str, object]]:
    """Yield mean counts in signals of 50 volumes with white noise of .1 % or, if noted, .05 %."""
    rng = np.random.default_rng(3)
    volumes = np.arange(50)
    transient = np.where(volumes < 3, 0.4 / 4.0**volumes, 0.0)
    signals: dict[str, tuple[float, Callable[[], np.ndarray], int]] = {
        "no change": (0.001, lambda: np.zeros(50), 0),
        "transient of 3 volumes": (0.001, lambda: transient, 3),
        "transient of 3 volumes, drift of 3 %": (0.001, lambda: transient - 6e-4 * volumes, 3),
        "head moves after 10 volumes (1 %)": (0.001, lambda: 0.01 * (volumes < 10), 0),
        "5 volumes of rest, 15 of task (.5 %; noise .05 %)": (
            0.0005,
            lambda: 0.005 * (volumes % 20 >= 5),
            0,
        ),
        "constant": (0.0, lambda: np.zeros(50), 0),
    }
    for name, (noise, change, expected) in signals.items():
        counts = [
            (int(is_outlier(signal)), _count_nonsteady(signal))
            for signal in (
                1000 * (1 + change() + noise * rng.normal(size=50)) for _ in range(N_SIMULATIONS)
            )
        ]
        nipype_count, own_count = np.mean(counts, axis=0)
        yield {
            "signal": name,
            "expected": expected,
            "nipype": f"{nipype_count:.2f}",
            "bids-sr": f"{own_count:.2f}",
        }


if __name__ == "__main__":
    main()
