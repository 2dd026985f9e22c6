"""The published SRGAN (`srgan`, recipe `paper`) trained in portions, with copies of its state.

nice -n 19 python benchmarks/srgan_training.py WORK [--minutes 150]

Trains on the T2*w pair of examples/studyforrest on one thread, with squared error in place of
VGG-19 features and one change: every fifth slice is held out, so that the log has a PSNR of slices
that were not trained on. WORK keeps checkpoint and log; the same command resumes an interrupted
training. After 1, 2, 5, 10, 20, 50 and 100 thousand steps, the checkpoint is copied to
WORK/steps_N.safetensors. WORK/calls.tsv lists the calls: first and last step, processor seconds.

python benchmarks/srgan_training.py WORK --table

Writes the PSNR by number of steps, and the processor time, to results/srgan_training.{json,md}.
"""

import argparse
import shutil
import time
from dataclasses import replace
from pathlib import Path

import pandas as pd
from _papers_portions import checkpoint_file, count_completed_steps
from _table import keep
from gpu import FACTOR, Pair

from bids_sr.sr.method import get_method
from bids_sr.sr.models.model import save_model
from bids_sr.sr.models.request import ModelRequest
from bids_sr.sr.networks.training.trainer import train_network

SNAPSHOTS = (1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", type=Path)
    parser.add_argument("--minutes", type=float, help="time limit of this call")
    parser.add_argument("--snapshots", type=int, nargs="*", default=SNAPSHOTS)
    parser.add_argument("--table", action="store_true", help="only write the table")
    options = parser.parse_args()
    work: Path = options.work
    if options.table:
        tabulate(work)
        return
    request = ModelRequest(
        method="srgan",
        recipe="paper",
        replacement_recipe=replace(
            get_method("srgan").recipes["paper"],
            hold_out=5,
            keep="last",
            evaluate_every=min(options.snapshots),
        ),
        factor=FACTOR,
        omp_nthreads=1,
        max_train_minutes=options.minutes,
    )
    first = count_completed_steps(work)

    def copy(_phase: str, step: int, _steps: int) -> None:
        if step in options.snapshots:
            shutil.copy(checkpoint_file(work), work / f"steps_{step}.safetensors")

    start_s = time.process_time()
    try:
        trained = train_network(request, (Pair.read().image,), work, copy)
        save_model(work / "last", trained.state, trained.card)
    finally:
        with (work / "calls.tsv").open("a") as calls:
            seconds = time.process_time() - start_s
            calls.write(f"{first}\t{count_completed_steps(work)}\t{seconds:.0f}\n")


def tabulate(work: Path) -> None:
    """Write the table of a training."""
    log = pd.read_csv(work / "log_search.tsv", sep="\t")
    calls = pd.read_csv(work / "calls.tsv", sep="\t", names=["first", "last", "seconds"])
    n_steps = int((calls["last"] - calls["first"]).sum())
    seconds = float(calls["seconds"].sum())
    keep(
        "srgan_training",
        "Published training of `srgan` on the pair of the example",
        [
            {
                "steps": int(row["iteration"]),
                "PSNR, held-out slices (dB)": round(float(row["psnr"]), 2),
                "PSNR, training slices (dB)": round(float(row["psnr_trained_slices"]), 2),
            }
            for _, row in log.iterrows()
        ],
        remarks=[
            f"{n_steps:,} of 100,000 steps in {len(calls)} call(s), {seconds / 3600:.2f} hours of"
            f" processor time with one thread ({seconds / n_steps:.2f} s per step, with"
            " validation). Squared error in place of VGG-19, and every fifth slice is held out."
        ],
    )


if __name__ == "__main__":
    main()
