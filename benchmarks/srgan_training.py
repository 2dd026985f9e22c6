"""The published SRGAN (`srgan`, recipe `paper`) trained in portions, with copies of its state.

nice -n 19 python benchmarks/srgan_training.py WORK [--minutes 150]

Trains on the T2*w pair of examples/studyforrest on one thread, with squared error in place of
VGG-19 features and one change: every fifth slice is held out, so that the log has a PSNR of slices
that were not trained on. WORK keeps checkpoint and log; the same command resumes an interrupted
training. After 1, 2, 5, 10, 20, 50 and 100 thousand steps, the checkpoint is copied to
WORK/steps_N.safetensors. WORK/calls.tsv lists the calls: first and last step, processor seconds.

python benchmarks/srgan_training.py WORK --score RUN

Applies the generators of the copies to a run, with the steps and inputs of a finished call with
`srgan` (RUN is its working directory; see `small_srgan.py`), and writes the explained variance of
the detail to WORK/detail.tsv, next to the values of this call. Copies that were scored before are
not scored again.

python benchmarks/srgan_training.py WORK --table

Writes PSNR and explained variance by number of steps, and the processor time, to
results/srgan_training.{json,md}.
"""

import argparse
import shutil
import tempfile
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import pandas as pd
from _papers_portions import PortionEnded, checkpoint_file, count_completed_steps
from _table import keep
from gpu import FACTOR, Pair
from small_srgan import REGIONS, Call, chosen_rows, compared, folder_in

from bids_sr.glm.steps.block_effects import measure_effects
from bids_sr.sr.method import get_method
from bids_sr.sr.models.model import save_model
from bids_sr.sr.models.request import ModelRequest
from bids_sr.sr.networks.training.trainer import train_network
from bids_sr.sr.recipe import Recipe
from bids_sr.sr.steps.super_resolution import super_resolve

COLUMNS = ("PSNR, held-out slices (dB)", "PSNR, training slices (dB)")
SNAPSHOTS = (250, 500, 750, 1_000, 2_000, 5_000, 10_000, 15_000)
ROWS = ("published", "no critic", "critic from 500", "weight 1")


def recipe_of_row(row: str) -> Recipe:
    """Return the published recipe with the change of a row, and with every fifth slice held out."""
    published = replace(
        get_method("srgan").recipes["paper"], hold_out=5, keep="last", evaluate_every=250
    )
    weight = 1.0 if row == "weight 1" else 4.0
    recipe = replace(
        published,
        losses=tuple(
            replace(term, weight=weight) if term.kind == "content" else term
            for term in published.losses
        ),
    )
    match row:
        case "no critic":
            return replace(
                recipe,
                build_critic=None,
                losses=tuple(term for term in recipe.losses if term.kind != "adversarial"),
            )
        case "critic from 500":
            return replace(recipe, adversarial_from=500)
    return recipe


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", type=Path)
    parser.add_argument("--row", choices=ROWS, default=ROWS[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=1_000, help="last step of this call")
    parser.add_argument("--minutes", type=float, help="time limit of this call")
    parser.add_argument("--score", type=Path, help="only score the copies on this call")
    parser.add_argument("--table", action="store_true", help="only write the table")
    options = parser.parse_args()
    work: Path = options.work
    if options.table:
        tabulate(work)
        return
    request = request_training(options.row, options.seed, options.minutes)
    if options.score:
        score(work, request, Call(options.score))
        return
    work /= f"{options.row.replace(' ', '_')}-{options.seed}"
    first = count_completed_steps(work)
    if first >= options.steps:
        return

    def copy(_phase: str, step: int, _steps: int) -> None:
        if step in SNAPSHOTS:
            shutil.copy(checkpoint_file(work), work / f"steps_{step}.safetensors")
        if step >= options.steps:
            raise PortionEnded

    start_s = time.process_time()
    try:
        train_network(request, (Pair.read().image,), work, copy)
    except PortionEnded:
        pass
    finally:
        with (work / "calls.tsv").open("a") as calls:
            seconds = time.process_time() - start_s
            calls.write(f"{first}\t{count_completed_steps(work)}\t{seconds:.0f}\n")


def request_training(row: str, seed: int, minutes: float | None) -> ModelRequest:
    """Return the request of a training; `minutes` is None without a time limit."""
    return ModelRequest(
        method="srgan",
        recipe="paper",
        replacement_recipe=recipe_of_row(row),
        factor=FACTOR,
        random_seed=seed,
        omp_nthreads=1,
        max_train_minutes=minutes,
    )


def score(work: Path, request: ModelRequest, call: Call) -> None:
    """Add the explained variance of copies that were not scored before to the table."""
    table = work / "detail.tsv"
    stored = [pd.read_csv(table, sep="\t", dtype={"steps": str})] if table.exists() else []
    scored = {step for rows in stored for step in rows["steps"]}
    for step in map(str, SNAPSHOTS):
        file = work / f"steps_{step}.safetensors"
        if file.exists() and step not in scored:
            with tempfile.TemporaryDirectory() as temporary:
                values = explain_detail(file, request, call, Path(temporary))
            rows = [{"steps": name or step, **values[name]} for name in values]
            stored.append(pd.DataFrame(rows))
            pd.concat(stored).drop_duplicates("steps").to_csv(table, sep="\t", index=False)


def explain_detail(
    file: Path, request: ModelRequest, call: Call, work: Path
) -> dict[str, dict[str, float]]:
    """Return the explained variance by region: zero filling, the call, and (as "") the copy."""
    here = partial(folder_in, work)
    training = here("training")
    shutil.copy(file, checkpoint_file(training))
    # the training resumes from the copy and is stopped by its time limit
    model = train_network(replace(request, max_train_minutes=1e-3), (Pair.read().image,), training)
    assert count_completed_steps(training) >= int(file.stem.rpartition("_")[2])
    weights, _ = save_model(work / "srgan", model.state, model.card)
    application = call.inputs(call.run / "srgan/super_resolve") | {"model_file": str(weights)}
    series = super_resolve.run_on_files(application, here("series"))
    model_of_blocks = call.inputs(call.run / "srgan/measure_effects")
    model_of_blocks |= {"series": series["series"]}
    (effects_file,) = measure_effects.run_on_files(model_of_blocks, here("effects")).values()
    fast_file = call.run / "srgan/measure_effects/effects.npz"
    fast_rows, _ = compared(call, "srgan", str(fast_file), here("scores of the call"))
    rows, _ = compared(call, "srgan", str(effects_file), here("scores"))
    chosen = {
        "zero filling": chosen_rows(rows, "zerofill"),
        "recipe fast": chosen_rows(fast_rows, "srgan"),
        "": chosen_rows(rows, "srgan"),
    }
    return {
        name: {region: round(by_region[region][0], 4) for region in REGIONS}
        for name, by_region in chosen.items()
    }


def tabulate(work: Path) -> None:
    """Write the table of a training."""
    log = pd.read_csv(work / "log_search.tsv", sep="\t")
    calls = pd.read_csv(work / "calls.tsv", sep="\t", names=["first", "last", "seconds"])
    n_steps = int((calls["last"] - calls["first"]).sum())
    seconds = float(calls["seconds"].sum())
    detail = {}
    if (work / "detail.tsv").exists():
        table = pd.read_csv(work / "detail.tsv", sep="\t", dtype={"steps": str})
        detail = table.set_index("steps").to_dict("index")
    psnr = {
        str(int(row["iteration"])): [
            f"{row[name]:.2f}" for name in ("psnr", "psnr_trained_slices")
        ]
        for _, row in log.iterrows()
    }
    keep(
        "srgan_training",
        "Published training of `srgan` on the pair of the example",
        [
            {
                "steps": step,
                **dict(zip(COLUMNS, psnr.get(step, ["–", "–"]), strict=True)),
                **{
                    f"detail explained, {region}": str(detail.get(step, {}).get(region, "–"))
                    for region in REGIONS
                },
            }
            for step in [*psnr, *(step for step in detail if step not in psnr)]
        ],
        remarks=[
            f"{n_steps:,} of 100,000 steps in {len(calls)} call(s), {seconds / 3600:.2f} hours of"
            f" processor time with one thread ({seconds / n_steps:.2f} s per step, with"
            " validation). Squared error in place of VGG-19, and every fifth slice is held out.",
            "The explained variance of the detail (contrast all, without conditions that cannot be"
            " split into halves) is from one application of the generator to the run, compared"
            " with the measured run. Recipe `fast` is one training of the same call. Pair and run"
            " are those of the example at 6d74947be.",
        ],
    )


if __name__ == "__main__":
    main()
