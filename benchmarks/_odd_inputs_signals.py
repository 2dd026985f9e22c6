"""Kinds of odd signals, echoes and tables: faults of scanners and converters, long and short TR.

Rows of `KINDS`, as in `_odd_inputs_kinds`. Importing the module enters them.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import nibabel as nb
import numpy as np
from _odd_inputs_kinds import EVERYTHING, Right, Rng, kind, pick
from data.simulated_run import EFFECTS, SHAPE, STEM, Scene, interleaved

# --- timing


@kind("time", "events")
def sounds_before_a_volume(rng: Rng, scene: Scene, right: Right) -> None:
    """Present sounds of 1 to 2 s that begin about 3 s before a volume, at a TR of 8 to 20 s."""
    scene.tr, scene.n_volumes = pick(rng, (8.0, 11.0, 14.0, 20.0)), 100
    scene.slice_times = interleaved(SHAPE[2], 1.0)
    scene.sidecar["DelayTime"] = scene.tr - 1.0
    length = round(float(rng.uniform(1.0, 2.0)), 2)
    types = rng.permutation(np.resize([*EFFECTS, ""], scene.n_volumes - 1))
    onsets = scene.tr * np.arange(1, scene.n_volumes) - 3 - rng.uniform(0, 0.2, len(types))
    scene.events = [
        (round(float(onset), 3), length, str(name))
        for onset, name in zip(onsets, types, strict=True)
        if name
    ]
    scene.strength = 12.0 / length
    right.exact = False


@kind("time", "values")
def bright_start_of_a_fast_run(rng: Rng, scene: Scene, right: Right) -> None:
    """Let the signal approach its steady state for some seconds, at a TR of .2 to .5 s."""
    scene.tr = float(rng.choice([0.2, 0.3, 0.5]))
    scene.n_volumes = round(120 / scene.tr)
    scene.slice_times = np.zeros(SHAPE[2])
    constant, excess = float(rng.uniform(0.8, 1.3)), float(rng.uniform(0.3, 1.0))

    def change(values: np.ndarray) -> np.ndarray:
        seconds = scene.tr * np.arange(values.shape[-1])
        return np.asarray(values * (1 + excess * np.exp(-seconds / constant)))

    scene.series.append(change)
    right.exact = False


@kind("time", "events", "table", "types", "names of types")
def weak_design(rng: Rng, scene: Scene, right: Right) -> None:
    """Show one film, or blocks whose period the high-pass filter removes."""
    scene.n_volumes = 300
    end = scene.n_volumes * scene.tr
    if rng.random() < 0.4:
        scene.events = [(float(rng.uniform(0, 10)), end - float(rng.uniform(0, 20)), "thumb")]
    else:
        period = float(rng.uniform(200, 250))
        scene.events = [
            (float(onset), period / 2, "thumb") for onset in np.arange(5, end - period / 2, period)
        ]
    right.values = False
    right.notices.append("only .* of its response")


@kind("table", "types", "names of types")
def named_pauses(rng: Rng, scene: Scene, right: Right) -> None:
    """List the pauses under a name that says pause."""
    name = pick(rng, ("fix", "ITI", "null", "off", "rest_block", "fixation cross", "Pause"))

    def alter(scene: Scene) -> None:
        ends = [0.0, *(float(row[0]) + float(row[1]) for row in scene.rows or [])]
        onsets = [*(float(row[0]) for row in scene.rows or []), scene.n_volumes * scene.tr]
        pauses = [
            [f"{end:g}", f"{onset - end:g}", name]
            for end, onset in zip(ends, onsets, strict=True)
            if onset > end
        ]
        scene.rows = sorted([*(scene.rows or []), *pauses], key=lambda row: float(row[0]))

    scene.tables.append(alter)
    right.notices.append("taken for rest")
    right.plan.append(lambda plan: _check_pauses(plan, name))


def _check_pauses(plan: Any, name: str) -> str:
    """Return what is wrong if pauses have contrasts."""
    (contrasts,) = plan.contrasts.values()
    names = {other for weights in contrasts.values() for other in weights}
    return f"{name!r} has default contrasts" if name in names else ""


# --- values


@kind("values")
def step_of_the_scale(rng: Rng, scene: Scene, right: Right) -> None:
    """Join two runs of another scale in one file, or change the gain during the run."""
    factor, share = float(rng.choice([0.7, 0.92, 0.95, 1.05, 1.1, 1.3])), rng.uniform(0.3, 0.7)

    def change(values: np.ndarray) -> np.ndarray:
        values[..., int(share * values.shape[-1]) :] *= factor
        return values

    scene.series.append(change)
    right.refused.append("the scale of the signal changes")


@kind("values")
def alternating_contrasts(rng: Rng, scene: Scene, right: Right) -> None:
    """Make every second volume darker, as in label and control (up to 10 %), or VASO."""
    share, first = float(rng.choice([0.02, 0.05, 0.1, 0.15, 0.4])), int(rng.integers(2))

    def change(values: np.ndarray) -> np.ndarray:
        values[..., first::2] *= 1 - share
        return values

    scene.series.append(change)
    right.exact, right.gain = False, 1 - share / 2
    found = right.refused if share > 0.1 else right.notices
    found.append("every second volume is .* darker")
    right.absent.append("filtered, smoothed or resampled")


@kind("values")
def steady_scale(rng: Rng, scene: Scene, right: Right) -> None:
    """Change the signal as scanners and heads do: a ramp, drift, or a part of the head."""
    variant = pick(rng, ("ramp", "drift", "part"))
    outside_regions = scene.head & ~np.logical_or(*scene.regions.values())
    part = outside_regions & (np.random.default_rng(8).random(SHAPE) < 0.1)

    def change(values: np.ndarray) -> np.ndarray:
        total = values.shape[-1]
        index = np.arange(total)
        if variant == "ramp":
            values *= 1 + 0.02 * np.clip((index - total // 3) / 10, 0, 1)
        elif variant == "drift":
            values *= 1 + 0.05 * index * scene.tr / 600
        else:
            values[part] *= 1 + 0.05 * (index * scene.tr > 30) * (index * scene.tr < 90)
        return values

    scene.series.append(change)
    right.values = False  # the changes are as large as the effects
    right.absent.append("the scale of the signal")


@kind("values")
def wrapped_integers(rng: Rng, scene: Scene, right: Right) -> None:
    """Store unsigned values as signed ones, so that the brightest become negative."""
    bits = int(rng.choice([8, 16]))
    share = float(rng.choice([0.005, 0.02, 0.1] if bits == 16 else [0.02, 0.1]))
    half = 2 ** (bits - 1)

    def change(values: np.ndarray) -> np.ndarray:
        bright = np.quantile(values.mean(-1)[scene.head], 1 - share)
        values = np.rint(np.clip(values, 0, None) * half / bright)
        return np.where(values < half, values, values - 2 * half)

    scene.series.append(change)
    scene.dtype = f"int{bits}"
    right.refused.append(
        f"unsigned {bits}-bit integers were stored as signed|not a magnitude series"
    )


@kind("values")
def clipped_values(rng: Rng, scene: Scene, right: Right) -> None:
    """Clip the brightest voxels of the head at the largest value of the converter."""
    share = float(rng.choice([0.03, 0.05, 0.1]))

    def change(values: np.ndarray) -> np.ndarray:
        bright = np.quantile(values.mean(-1)[scene.head], 1 - share)
        return np.minimum(values * 4095 / bright, 4095)

    scene.series.append(change)
    right.exact, right.relative = False, True
    right.notices.append("voxels of the brain .* have the largest stored value")


@kind("values")
def whole_range(rng: Rng, scene: Scene, right: Right) -> None:
    """Use the range of unsigned integers to its end, as some reconstructions do."""

    def change(values: np.ndarray) -> np.ndarray:
        values = np.clip(values, 0, None)
        right.gain = 65535 / float(values.max())
        return np.asarray(values * right.gain)

    scene.series.append(change)
    scene.dtype = "uint16"
    right.exact = False
    right.absent.append("largest stored value")


# --- echoes


@kind("files", "values", "echoes", "time")
def acquired_echoes(rng: Rng, scene: Scene, right: Right) -> None:
    """Write three to five echoes: in another order, copied, exchanged, beside their combination,
    or with rounded times.
    """
    sound = ("last to first", "combined", "rounded", "noise last")
    variant = pick(rng, (*sound, "copied", "exchanged"))
    tes = 0.012 + 0.016 * np.arange(int(rng.integers(3, 6)))
    first = int(rng.integers(len(tes) - 1))  # of two successive echoes that are altered
    numbers = list(range(1, len(tes) + 1))
    if variant == "last to first":
        numbers.reverse()
    shown = list(range(len(tes)))
    if variant == "copied":
        shown[first + 1] = first
    elif variant == "exchanged":
        shown[first], shown[first + 1] = first + 1, first

    def edit(scene: Scene) -> None:
        image = nb.load(scene.bold)
        data = np.asarray(image.dataobj, float)
        for te, number, index in zip(tes, numbers, shown, strict=True):
            # each echo has its own noise, and a copy the noise of its original
            noise = np.random.default_rng([6, index]).normal(0, 1.0, data.shape)
            values = data * np.exp(-(tes[index] - 0.028) / 0.045) + 2 * noise
            if variant == "noise last" and index == len(tes) - 1:
                values = np.abs(8 * noise)
            fields: dict[str, Any] = {"EchoTime": float(te)}
            if variant == "rounded":
                jitter = 1e-4 * float(rng.uniform(-1, 1))
                fields["SliceTiming"] = [max(0.0, float(t) + jitter) for t in scene.slice_times]
                fields["RepetitionTime"] = scene.tr + float(rng.choice([0, 1e-7, 5e-4]))
            stem = scene.func / f"{STEM}_echo-{number}_bold"
            header = image.header.copy()
            header.set_data_dtype("int16")
            stored = np.clip(np.rint(values), 0, 32000).astype("int16")
            nb.save(nb.Nifti1Image(stored, image.affine, header), f"{stem}.nii.gz")
            shutil.copy(scene.json, f"{stem}.json")
            scene.edit_sidecar(Path(f"{stem}.json"), **fields)
        if variant != "combined":
            scene.bold.unlink()
            scene.json.unlink()

    scene.edits.append(edit)
    right.exact, right.relative = False, True
    if variant == "combined":
        right.notices.append(f"{STEM}_bold.nii.gz.* contains no echo-")
    if variant not in sound:
        pair = sorted({numbers[first], numbers[first + 1]})
        right.refused += [
            ".*".join(f"echo-{number}" for number in order) for order in (pair, pair[::-1])
        ]


@kind(*EVERYTHING, depths=("end",))
def runs_acquired_otherwise(rng: Rng, scene: Scene, right: Right) -> None:
    """Write three runs, one of which has the opposite phase encoding or another echo time."""
    other = int(rng.integers(1, 4))
    name, usual, altered = pick(
        rng, (("PhaseEncodingDirection", "j-", "j"), ("EchoTime", 0.03, 0.034))
    )

    def write_runs(scene: Scene) -> None:
        shutil.rmtree(scene.func)
        scene.func.mkdir()
        for index in (1, 2, 3):
            run = Scene(scene.root / f"run{index}", seed=scene.seed + index, dtype="float32")
            run.sidecar[name] = altered if index == other else usual
            run.write()
            for path in run.func.iterdir():
                path.rename(scene.func / path.name.replace(STEM, f"{STEM}_run-{index}"))
            shutil.rmtree(run.root)

    def check_combination(scene: Scene) -> str:
        (path,) = (scene.root / "out").glob(
            "sub-01/func/*_space-firstBoldref*_contrast-thumb_*desc-acquired_statmap.json"
        ) or [None]
        combined = [] if path is None else json.loads(path.read_text())["Sources"]
        joined = any(f"run-{other}_" in source for source in combined)
        return f"run-{other} is combined with other runs" if joined else ""

    scene.edits.append(write_runs)
    right.values = False
    right.notices.append(f"not combined .*{name}")
    right.after.append(check_combination)


# --- tables


@kind("table")
def missing_types(rng: Rng, scene: Scene, right: Right) -> None:
    """Write missing trial types as other programs do."""

    def alter(scene: Scene) -> None:
        words = rng.permutation(["NA", "N/A", "<NA>", "NULL", "None", "."])
        extra = [[f"{9 * k + 1}", "3", str(word)] for k, word in enumerate(words[:3])]
        scene.rows = sorted([*(scene.rows or []), *extra], key=lambda row: float(row[0]))

    scene.tables.append(alter)
    right.notices.append("not modeled because the trial type is missing")


@kind("table")
def trailing_tabs(rng: Rng, scene: Scene, right: Right) -> None:
    """End each line with tabs, or write names of columns with spaces."""
    tabs, end = "\t" * int(rng.integers(1, 3)), pick(rng, ("\n", "\r\n"))
    has_spaces, has_header = rng.random() < 0.5, rng.random() < 0.5

    def rewrite(scene: Scene) -> None:
        header, *rows = scene.table.read_text(encoding="utf-8").splitlines()
        if has_spaces:
            header = "\t".join(f"{cell} " for cell in header.split("\t"))
        lines = [header + tabs * has_header, *(row + tabs for row in rows)]
        scene.table.write_bytes("".join(line + end for line in lines).encode())

    scene.edits.append(rewrite)


@kind("table", "events", "types")
def type_without_strength(rng: Rng, scene: Scene, right: Right) -> None:
    """Give all events of a further type the modulation 0."""

    def alter(scene: Scene) -> None:
        rows = [[*row, "1"] for row in scene.rows or []]
        extra = [[f"{k}", "3", "still", "0"] for k in (5, 31, 66)]
        scene.columns = [*scene.columns, "modulation"]
        scene.rows = sorted([*rows, *extra], key=lambda row: float(row[0]))

    scene.tables.append(alter)
    right.notices.append("'still' is not modeled because all its events have modulation 0")


@kind("table", "events", "types", "names of types")
def only_rest(rng: Rng, scene: Scene, right: Right) -> None:
    """List nothing but rest."""

    def alter(scene: Scene) -> None:
        scene.rows = [[f"{k}", "3", "rest"] for k in (5, 31, 66)]

    scene.tables.append(alter)
    right.refused.append("--ignore events")


@kind("table", "types")
def crowded_moment(rng: Rng, scene: Scene, right: Right) -> None:
    """List an event under hundreds of further names."""
    count = int(rng.integers(300, 1500))

    def alter(scene: Scene) -> None:
        extra = [["60", "4", f"word{k}"] for k in range(count)]
        scene.rows = [*(scene.rows or []), *extra]

    scene.tables.append(alter)
    right.values = False
    right.refused.append("the linear model has .* regressors")


@kind("names of types")
def odd_names(rng: Rng, scene: Scene, right: Right) -> None:
    """Use names with an equals sign, names of one mark, or names that differ in case."""
    first, second = pick(
        rng,
        (
            ("RT=high", "RT=low"),
            ("Thumb", "thumb"),
            ("go_left", "goleft"),
            ("Aa", "aA"),
            ("-", "+"),
            ("left hand", "LeftHand"),
        ),
    )
    scene.names = {"thumb": first, "little": second}
    if "=" in first:
        scene.options += ["--contrasts", f"{first}-{second}", first, second]
