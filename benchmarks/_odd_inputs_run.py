"""Run the program on an altered data set, and check the result.

A case is a number and a seed, which determine its kinds, random numbers and expected result.
"""

from __future__ import annotations

import json
import logging
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import _odd_inputs_places  # noqa: F401 - enters its kinds
import _odd_inputs_signals  # noqa: F401 - enters its kinds
import nibabel as nb
import numpy as np
from _odd_inputs_kinds import KINDS, Depth, Kind, Right
from data.simulated_run import EFFECTS, Scene
from graphrunner import GraphRunner, handle_of, output_of

EXACT = 1e-3
"""Largest difference from the unaltered maps, in standard deviations of the unaltered map."""
NEAR = 0.05
"""Largest relative error of a median effect, in comparisons with known effects."""
NOISY = 4.0
"""Largest error in standard errors of the median, used if it exceeds `NEAR`."""
LARGEST_SE = 0.05
"""Largest standard error of a median effect: more noise shows that data were lost."""
LEAST_DICE = 0.9
WALL_S = 900.0
OPTIONS = (
    *("--sr-method", "bspline", "--smoothing", "0", "--nprocs", "1", "--set", "run.sloppy=true"),
    "--skip-bids-validation",
)

Maps = dict[str, np.ndarray]
"""Effect by trial type as written, and ``mask`` and ``boldref``, in the order of the file."""


@dataclass(frozen=True)
class Outcome:
    """Result of a case: the outcome, and its fault ("" if none)."""

    number: int
    kinds: tuple[str, ...]
    depth: Depth
    result: str
    wrong: str = ""
    seconds: float = 0.0
    commit: str = ""

    def line(self) -> str:
        """Return the outcome as a line of JSON."""
        return json.dumps(asdict(self), ensure_ascii=False)


def kinds_of(number: int, seed: int, depth: Depth) -> tuple[Kind, ...]:
    """Draw one to three kinds that touch different parts; the first is chosen in order."""
    table = [candidate for candidate in KINDS.values() if depth in candidate.depths]
    rng = np.random.default_rng([seed, number, 0])
    chosen = [table[number % len(table)]]
    for _ in range(int(rng.integers(3))):
        touched = frozenset[str]().union(*(candidate.touches for candidate in chosen))
        fitting = [candidate for candidate in table if not candidate.touches & touched]
        if fitting:
            chosen.append(fitting[int(rng.integers(len(fitting)))])
    return tuple(chosen)


def prepare(number: int, seed: int, kinds: Sequence[Kind], folder: Path) -> tuple[Scene, Right]:
    """Return the altered scene, not yet written, and its expected result."""
    shutil.rmtree(folder, ignore_errors=True)
    scene, right = Scene(folder), Right()
    for index, entry in enumerate(sorted(kinds, key=lambda kind: "time" not in kind.touches)):
        entry.alter(np.random.default_rng([seed, number, 1 + index]), scene, right)
    scene.root.mkdir(parents=True, exist_ok=True)
    return scene, right


def run_case(
    number: int, seed: int, depth: Depth, folder: Path, kinds: Sequence[Kind] = ()
) -> Outcome:
    """Write a case, run it and check its result."""
    kinds = kinds or kinds_of(number, seed, depth)
    scene, right = prepare(number, seed, kinds, folder / "case")
    start_times = os.times()
    scene.write()
    base = {} if not right.exact else unaltered(depth, folder)
    run = model_depth if depth == "model" else end_depth
    code, text, maps = run(scene, right)
    result, wrong = judge(code, text, maps, scene, right, base)
    # published tables must not contain paths of a machine
    wrong = wrong.replace(str(folder), "FOLDER")
    end_times = os.times()
    seconds = sum(end_times[:4]) - sum(start_times[:4])
    names = tuple(entry.name for entry in kinds)
    return Outcome(number, names, depth, result, wrong, round(seconds, 1))


def warm_up(folder: Path) -> None:
    """Import and compile everything that the model depth needs, before anything is forked."""
    from bids_sr.cli.parser import parse_settings
    from bids_sr.survey.preflight.voxel_checks import check_data
    from bids_sr.workflows import call_checks

    scene = Scene(folder / "warm")
    shutil.rmtree(scene.root, ignore_errors=True)
    settings = parse_settings(command(scene.write())).resolve(run_uuid="x")
    plan = call_checks.check(settings)
    check_data(plan)
    model_maps(plan, settings, scene.root / "steps")
    shutil.rmtree(scene.root)


def unaltered(depth: Depth, folder: Path) -> Maps:
    """Return the maps of the unaltered scene, computed once per depth and folder."""
    file = folder / f"unaltered-{depth}.npz"
    if not file.exists():
        scene = Scene(folder / "unaltered")
        shutil.rmtree(scene.root, ignore_errors=True)
        run = model_depth if depth == "model" else end_depth
        code, text, maps = run(scene.write(), Right())
        if code or not maps:
            raise RuntimeError(f"the unaltered run ended with {code}: {text[-2000:]}")
        np.savez(file, **maps)
        shutil.rmtree(scene.root)
    with np.load(file) as stored:
        return dict(stored)


def command(scene: Scene, level: str = "participant") -> list[str]:
    """Return command-line arguments for a scene."""
    out, work = scene.root / "out", scene.root / "work"
    return [str(scene.bids), str(out), level, "-w", str(work), *OPTIONS, *scene.options]


# --- preflight and the linear model of the acquired series


def model_depth(scene: Scene, right: Right) -> tuple[int, str, Maps]:
    """Run preflight, all voxels included, and the steps that the maps of the acquired series need.

    Steps are taken from the graph of the call, so that they have the program's settings.
    """
    log, result = scene.root / "log", scene.root / "maps.npz"
    code = run_in_child(lambda: preflight_and_model(scene, right, result), log, scene.root)
    text = log.read_text(encoding="utf-8", errors="replace")
    if right.shell != "{}" or right.environment:
        dry = _shell(scene, right, "--dry-run")
        if dry.returncode not in ((0, 2) if code == 2 else (code,)):
            text += f"\nthe dry run ended with {dry.returncode}:\n{dry.stdout}{dry.stderr}"
            return dry.returncode, text, {}
    maps: Maps = {}
    if code == 0 and result.exists():
        with np.load(result) as stored:
            maps = dict(stored)
    return code, text, maps


def run_in_child(work: Callable[[], int], log: Path, folder: Path) -> int:
    """Run a function in a forked process, and return its exit code.

    The process begins with the modules of this process, works in `folder`, and writes standard
    output and error to `log`.
    """
    pid = os.fork()
    if pid == 0:
        _end_child(work, log, folder)
    return _wait(pid)


def _wait(pid: int) -> int:
    """Wait for a child process, and kill it if it takes too long."""
    until = time.monotonic() + WALL_S
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > until:
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)


def _end_child(work: Callable[[], int], log: Path, folder: Path) -> None:
    """Run a function in this process, which exits with its code."""
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    sys.stdout, sys.stderr = (
        open(number, "w", encoding="utf-8", errors="replace", closefd=False)  # noqa: SIM115
        for number in (1, 2)
    )
    # warnings of steps, which the program records as notices
    logging.getLogger("bids_sr").addHandler(logging.StreamHandler(sys.stdout))
    os.chdir(folder)
    code = 1
    try:
        code = work()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def preflight_and_model(scene: Scene, right: Right, result: Path) -> int:
    """Run the program until processing would begin, write the maps of the model, and return its
    code.
    """
    from bids_sr.cli import main as cli

    plans: list[Any] = []
    undamaged, write_settings = cli._skip_damaged_runs, cli._write_settings

    def record_plan(plan: Any, settings: Any) -> Any:
        plans.append(undamaged(plan, settings))
        return plans[-1]

    def stop(settings: Any) -> None:
        for notice in plans[-1].warnings:
            print(f"notice {notice.code}: {notice}")
        for check in right.plan:
            if wrong := check(plans[-1]):
                print(f"WRONG: {wrong}")
        np.savez(result, **model_maps(plans[-1], settings, scene.root / "steps"))
        sys.exit(0)

    # with a new working directory, the program would start worker processes now
    (scene.root / "work").mkdir()
    cli._skip_damaged_runs, cli._write_settings = record_plan, stop
    try:
        return cli.main(command(scene))
    finally:
        cli._skip_damaged_runs, cli._write_settings = undamaged, write_settings


def model_maps(plan: Any, settings: Any, folder: Path) -> Maps:
    """Compute the maps of the acquired series of the only run with the steps of the program.

    Anatomy is left out, because registration to a template takes long and does not change these
    maps.
    """
    from bids_sr.io.grids import inverse_order, reorder
    from bids_sr.workflows.participant import make_graph

    subjects = tuple(replace(subject, t1w=(), precomputed=None) for subject in plan.subjects)
    plan = replace(plan, subjects=subjects)
    graph = make_graph(settings, plan, "0")
    run = next(scope.name for scope in graph.scope.inward() if scope.run)
    handles = [
        handle_of(graph, "map_series", "maps", "acquired"),
        handle_of(graph, "exclude_clipped", "bold_mask"),
        output_of(graph, "boldref", run),
    ]
    folder.mkdir()
    derivatives, mask, boldref = GraphRunner(graph, folder).load(*handles)
    back = inverse_order(plan.runs[0].axis_order)
    maps: Maps = {"mask": mask.data, "boldref": boldref.data}
    labels = {}
    for derivative in derivatives:
        weights = dict(derivative.sidecar.get("ContrastWeights", {}))
        if derivative.entities.get("stat") == "effect" and list(weights.values()) == [1.0]:
            (name,) = weights
            mean_signal = derivative.sidecar["MeanSignal"]
            maps[name] = np.array(derivative.volume.data) * mean_signal / 100
            labels[name] = derivative.entities["contrast"]
    stored = {f"map {name}": reorder(np.asarray(data), back) for name, data in maps.items()}
    return {**stored, "labels": np.array(json.dumps(labels))}


# --- the whole run


def end_depth(scene: Scene, right: Right) -> tuple[int, str, Maps]:
    """Run the program to its end as a command, twice if files change in between."""
    done = _shell(scene, right)
    if right.again is not None and done.returncode == 0:
        right.again(scene)
        done = _shell(scene, right)
    if right.group and done.returncode == 0:
        done = _shell(scene, right, level="group")
    text = done.stdout + done.stderr
    if done.returncode == 0:
        text += "".join(f"\nWRONG: {wrong}" for check in right.after if (wrong := check(scene)))
    out = scene.root / "out"
    notices = [
        json.loads(line)
        for record in sorted(out.glob("logs/*/notices.jsonl"))
        for line in record.read_text(encoding="utf-8").splitlines()
    ]
    for notice in notices:
        text += f"\nnotice {notice['code']}: {notice['what']}: {notice['why']}"
    is_skipped = any(
        (notice["code"], notice["level"]) == ("left-out", "error") for notice in notices
    )
    if done.returncode == 0 and is_skipped != right.skipped:
        text += f"\nWRONG: {'a' if is_skipped else 'no'} run was skipped"
    maps = written_maps(out) if done.returncode == 0 else {}
    shutil.rmtree(scene.root / "work", ignore_errors=True)
    return done.returncode, text, maps


def _shell(
    scene: Scene, right: Right, *more: str, level: str = "participant"
) -> subprocess.CompletedProcess[str]:
    program = str(Path(sys.executable).parent / "bids-sr")
    line = " ".join(map(shlex.quote, [program, *command(scene, level), *more]))
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **right.environment}
    return subprocess.run(
        ["bash", "-c", right.shell.format(line)],
        capture_output=True,
        text=True,
        errors="replace",
        env=environment,
        cwd=scene.root,
        timeout=WALL_S,
        check=False,
    )


def written_maps(out: Path) -> Maps:
    """Read the effect maps of the acquired series in signal units, its mask and its reference."""
    maps, labels = Maps(), {}
    weights: dict[str, Mapping[str, float]] = {}
    mean_signals: dict[str, float] = {}
    for path in out.glob("sub-01/**/*_desc-acquired_statmap.json"):
        shared = json.loads(path.read_text(encoding="utf-8"))
        mean_signals[path.name] = shared["MeanSignal"]
        for label, entries in shared["Contrasts"].items():
            weights[label] = entries["ContrastWeights"]
    for path in sorted(out.glob("sub-01/**/*_stat-effect_desc-acquired_statmap.nii.gz")):
        label = path.name.split("contrast-")[1].split("_")[0]
        if list(weights.get(label, {}).values()) == [1.0]:
            (name,) = weights[label]
            shared_name = path.name.replace(f"_contrast-{label}_stat-effect", "")
            mean_signal = mean_signals[shared_name.replace(".nii.gz", ".json")]
            maps[f"map {name}"] = np.nan_to_num(nb.load(path).get_fdata()) * mean_signal / 100
            labels[name] = label
    for name, pattern in (
        ("mask", "*_space-boldref_label-brain_desc-acquired_mask.nii.gz"),
        ("boldref", "*desc-hmc_boldref.nii.gz"),
    ):
        for path in out.glob(f"sub-01/**/{pattern}"):
            maps[f"map {name}"] = nb.load(path).get_fdata()
    return {**maps, "labels": np.array(json.dumps(labels))}


# --- checks of the result


def judge(
    code: int, text: str, maps: Maps, scene: Scene, right: Right, base: Maps
) -> tuple[str, str]:
    """Return the outcome, and its fault ("" if none)."""
    result = {0: "accepted", 2: "refused"}.get(code, f"exit code {code}")
    if "Traceback" in text or code not in (0, 2):
        return result, f"exit code {code}: {_last_words(text)}"
    if code == 2:
        patterns = right.refused or right.may_refuse
        if not patterns:
            return result, f"refused, and is sound: {_last_words(text)}"
        unseen = "2>" in right.shell  # standard error is closed, or only its first line is read
        if not unseen and not any(re.search(pattern, _joined(text)) for pattern in patterns):
            return result, f"the message has none of {patterns}: {_last_words(text)}"
        return result, ""
    if right.refused:
        return result, "accepted, and has to be refused"
    if wrong := re.search("^WRONG: (.*)", text, re.MULTILINE):
        return result, wrong.group(1)
    silent = right.shell != "{}" and not text.strip()
    for pattern in right.notices if not silent else ():
        if not re.search(pattern, _joined(text)):
            return result, f"no notice has {pattern!r}"
    for pattern in right.absent:
        if match := re.search(pattern, _joined(text)):
            return result, f"a notice has {match.group()!r}"
    if not right.values:
        return "accepted, with the notice" if right.notices else result, ""
    return judge_maps(maps, scene, right, base)


def judge_maps(maps: Maps, scene: Scene, right: Right, base: Maps) -> tuple[str, str]:
    """Compare maps with the unaltered maps, or with the known effects."""
    labels = json.loads(str(maps["labels"])) if "labels" in maps else {}
    for name, pattern in right.labels.items():
        label = labels.get(scene.written_name(name), "")
        if not re.match(pattern, label):
            return "accepted", f"label {label!r} of {scene.written_name(name)!r}, not {pattern!r}"
    # file systems may ignore case
    if len({label.casefold() for label in labels.values()}) < len(labels):
        return "accepted", f"two trial types share a label: {labels}"
    mask = maps["map mask"] > 0
    head = scene.in_file(scene.head)
    dice = 2 * (mask & head).sum() / (mask.sum() + head.sum())
    if dice < LEAST_DICE:
        return "accepted", f"the brain mask has {mask.sum()} voxels, the head {head.sum()}"
    for name in right.types:
        key = f"map {scene.written_name(name)}"
        if key not in maps:
            return "accepted", f"no map of {scene.written_name(name)!r}; there are {labels}"
        truth = scene.in_file(scene.truth(name)) * right.gain
        effect = maps[key]
        if right.relative:
            effect = effect / np.maximum(maps["map boldref"], 1) * scene.in_file(scene.mean)
        for region in EFFECTS:
            inside = scene.in_file(scene.regions[region]) & mask
            scale = np.median(np.abs(truth[truth != 0]))
            error = float(np.median((effect - truth)[inside]) / scale)
            se = 1.25 * float((effect - truth)[inside].std() / scale / np.sqrt(inside.sum()))
            if not se <= LARGEST_SE:
                return "accepted", f"effect of {name} in region {region} has an SE of {se:.0%}"
            if not abs(error) < max(NEAR, NOISY * se):
                fault = f"effect of {name} in region {region} wrong by {error:.0%}"
                return "accepted", fault
    if not right.exact:
        return "known effects", ""
    for name in right.types:
        values = maps[f"map {scene.written_name(name)}"]
        reference = scene.in_file(base[f"map {name}"]) * right.gain
        difference = np.abs(values - reference).max() / reference.std()
        if not difference <= EXACT:
            return (
                "accepted",
                f"map of {name} differs by {difference:.2g} SD from the unaltered one",
            )
    return "equal", ""


def _joined(text: str) -> str:
    """Return the text on one line, because the console wraps lines."""
    return re.sub(r"\s+", " ", text)


def _last_words(text: str) -> str:
    return _joined(text)[-400:]
