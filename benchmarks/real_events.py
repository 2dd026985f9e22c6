"""Events tables of public data sets: compare their interpretation by two versions, and recover
effects in runs simulated with them.

python benchmarks/real_events.py FOLDER EXAMPLES [--before PYTHON]

EXAMPLES is a copy of github.com/bids-standard/bids-examples, whose images are empty. Each table in
`func` is checked as for a run that ends 20 s after its last event, and its design is built.
`--before` is the Python of an environment with the other version. Runs are simulated with the
tables of ds107 (sub-43) and ds000117 (sub-01). Their two most frequent trial types have a known
effect. The runs go through preflight and the linear model.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import numpy as np
from _table import keep
from oddcases import judge, model_depth, warm_up
from oddkinds import Right
from simulatedrun import EFFECTS, Scene, response

ACCEPTED = "ds110"
SIMULATED = ("ds107/sub-43/", "ds000117/sub-01/ses-mri/")
_TR = 2.0  # s; if the data set lists none
_AFTER = 20.0  # s; from the last event to the end of the run
_READER = """
import json, sys, warnings
from pathlib import Path
warnings.simplefilter("ignore")
from bids_sr.bids.findings import Findings
from bids_sr.glm.regressors import DesignError, read_events
from bids_sr.glm.design import build_design, contrast_vector
from bids_sr.preflight import events
from bids_sr.preflight.estimability import TypesOfRun
from bids_sr.preflight.run_contrasts import resolve_run_contrasts
for line in sys.stdin:
    path, tr, n_volumes = json.loads(line)
    findings = Findings()
    table = Path(path)
    bold = table.with_name(table.name.replace("_events.tsv", "_bold.nii.gz"))
    types = events.check_events(table, bold, tr * n_volumes, findings)
    labels, failed = {}, ""
    if types:
        roles = {bold: TypesOfRun.all_described(types)}
        labels = resolve_run_contrasts(roles, (), {bold: table}, findings).get(bold, {})
        try:
            design = build_design(read_events(table), n_volumes=n_volumes, tr=tr)
            for name, weights in labels.items():
                contrast_vector(design, name, weights)
        except DesignError as error:
            failed = str(error)
    print(json.dumps({
        "types": list(types), "labels": list(labels), "failed": failed,
        "problems": [str(notice.why) for notice in findings.problems],
        "notices": [str(notice.why) for notice in findings.notices],
    }), flush=True)
"""


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="scratch folder")
    parser.add_argument("examples", type=Path, help="copy of bids-examples")
    parser.add_argument("--before", type=Path, help="Python of the other version")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    tables = sorted(arguments.examples.glob("**/func/*_events.tsv"))
    runs = [(str(path.absolute()), *length(path)) for path in tables]
    now = read(Path(sys.executable), runs, arguments.folder)
    before = (
        now
        if arguments.before is None
        else read(arguments.before.absolute(), runs, arguments.folder)
    )
    rows, differences = compared(arguments.examples, tables, before, now)
    remarks = [*differences, *simulated(arguments, tables)]
    title = f"{len(tables)} events tables of bids-examples"
    keep("real_events", title, rows, remarks=remarks)
    refused = [result for path, result in zip(tables, now, strict=True) if ACCEPTED in str(path)]
    return int(
        any(result["problems"] for result in refused) or any("WRONG" in text for text in remarks)
    )


def length(table: Path) -> tuple[float, int]:
    """Return TR (s), from the sidecars if they list it, and the number of volumes."""
    tr = _TR
    name = re.sub(r"_run-\w+?(?=_)", "", table.name).replace("_events.tsv", "_bold.json")
    task = re.search(r"task-[^_]+", table.name)
    for folder in table.parents[:5]:
        for path in folder.glob("*_bold.json"):
            if (
                task
                and task.group() in path.name
                and set(path.name.split("_"))
                <= {
                    *name.split("_"),
                    *table.name.split("_"),
                }
            ):
                tr = float(json.loads(path.read_text()).get("RepetitionTime", tr))
                return tr, _volumes(table, tr)
    return tr, _volumes(table, tr)


def _volumes(table: Path, tr: float) -> int:
    end = max([onset + duration for onset, duration, _ in rows_of(table)], default=60.0)
    return int(np.clip((end + _AFTER) / tr, 40, 3000))


def rows_of(table: Path) -> list[tuple[float, float, str]]:
    """Return the rows of a table that have times, each once, without using the program."""
    lines = table.read_text(encoding="utf-8-sig", errors="replace").splitlines()
    header, *cell_rows = [line.split("\t") for line in lines if line.strip()] or [[]]
    rows = []
    for cells in cell_rows:
        row = dict(zip(header, cells, strict=False))
        try:
            times = float(row["onset"]), float(row["duration"])
        except (KeyError, ValueError):
            continue
        rows.append((*times, row.get("trial_type", "task").strip()))
    return list(dict.fromkeys(rows))


def read(
    python: Path, runs: Sequence[tuple[str, float, int]], folder: Path
) -> list[dict[str, Any]]:
    """Read all tables by one version of the program, once per version."""
    text = "\n".join(map(json.dumps, runs))
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    script = "from bids_sr.version import __version__; print(__version__)"
    # python -c would import the program from the current folder
    version = subprocess.run(
        [python, "-c", script], capture_output=True, text=True, check=True, cwd=folder
    )
    file = folder / f"tables-{version.stdout.strip()}.json"
    if file.exists():
        return list(json.loads(file.read_text()))
    done = subprocess.run(
        [python, "-c", _READER],
        input=text,
        capture_output=True,
        text=True,
        env=environment,
        cwd=folder,
        check=False,
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    results = [json.loads(line) for line in done.stdout.splitlines()]
    file.write_text(json.dumps(results))
    return results


def compared(
    root: Path,
    tables: Sequence[Path],
    before: Sequence[dict[str, Any]],
    now: Sequence[dict[str, Any]],
) -> tuple[list[dict[str, Any]], list[str]]:
    """Return a row per data set, and differences in treatment with an example of each."""
    names = [str(path.relative_to(root)) for path in tables]
    rows, examples = [], dict[str, list[str]]()
    for dataset in sorted({name.split("/")[0] for name in names}):
        indices = [k for k, name in enumerate(names) if name.startswith(f"{dataset}/")]
        differences_by_kind = Counter[str]()
        for k in indices:
            for kind in _differences(before[k], now[k]):
                differences_by_kind[kind] += 1
                examples.setdefault(kind, []).append(names[k])
        rows.append(
            {
                "data set": dataset,
                "tables": len(indices),
                "accepted before": sum(not before[k]["problems"] for k in indices),
                "accepted now": sum(not now[k]["problems"] for k in indices),
                "no design before": sum(bool(before[k]["failed"]) for k in indices),
                "no design now": sum(bool(now[k]["failed"]) for k in indices),
                "other trial types": sum(before[k]["types"] != now[k]["types"] for k in indices),
                "differences": ", ".join(f"{kind}: {n}" for kind, n in differences_by_kind.items())
                or "none",
            }
        )
    return rows, [f"- {kind}: {len(of)}, such as {of[0]}" for kind, of in examples.items()]


def _differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    kinds = []
    for key in ("problems", "notices", "failed"):
        earlier, later = (_general(result[key]) for result in (before, now))
        kinds += [f"{key} only now: {text}" for text in sorted(later - earlier)]
        kinds += [f"{key} only before: {text}" for text in sorted(earlier - later)]
    if before["types"] != now["types"]:
        kinds.append("other trial types")
    elif before["labels"] != now["labels"]:
        kinds.append("other labels of contrasts")
    return kinds


def _general(texts: Any) -> set[str]:
    """Return texts without numbers, names and quoted parts."""
    texts = [texts] if isinstance(texts, str) else texts
    general = {
        re.sub(r"'[^']*'|\"[^\"]*\"|\S+\.nii\.gz|[-\d.]+", "…", text)[:90] for text in texts
    }
    return general - {""}


def simulated(arguments: argparse.Namespace, tables: Sequence[Path]) -> list[str]:
    """Return a line for each run that was simulated with a real table."""
    lines = []
    warm_up(arguments.folder)
    for path in tables:
        name = str(path.relative_to(arguments.examples))
        if not name.startswith(SIMULATED):
            continue
        shutil.rmtree(arguments.folder / "case", ignore_errors=True)
        scene = scene_of(path, arguments.folder / "case")
        scene.root.mkdir()
        right = Right(exact=False, types=tuple(scene.names))
        code, text, maps = model_depth(scene.write(), right)
        result, wrong = judge(code, text, maps, scene, right, {})
        types = ", ".join(scene.names.values())
        verdict = f"WRONG, {wrong}" if wrong else f"right ({result})"
        lines.append(f"- {name}, effects of {types}: {verdict}")
        print(lines[-1], flush=True)
    return lines


def scene_of(table: Path, folder: Path) -> Scene:
    """Return a simulated run whose events table is a copy of a real one."""
    tr, n_volumes = length(table)
    rows = rows_of(table)
    frequent = [name for name, _ in Counter(name for _, _, name in rows).most_common(2)]
    names = dict(zip(frequent, EFFECTS, strict=False))
    scene = Scene(folder, tr=tr, n_volumes=n_volumes)
    scene.slice_times = scene.slice_times * tr / 2
    scene.names = {trial_type: name for name, trial_type in names.items()}
    scene.events = [(onset, length, names.get(name, "")) for onset, length, name in rows]
    times = np.arange(0, n_volumes * tr, 0.5)
    peaks = [
        response(times, [event for event in scene.events if event[2] == name]).max()
        for name in scene.names
    ]
    scene.strength = 1 / min(peaks)
    scene.edits.append(lambda scene: scene.table.write_bytes(table.read_bytes()) and None)
    return scene


if __name__ == "__main__":
    sys.exit(main())
