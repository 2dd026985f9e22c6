"""Read the data set of the primary series with other programs: pybids, XCP-D and fitlins, each in
its environment.

python benchmarks/clients.py OUT RAW --work DIR [--xcpd PYTHON] [--fitlins PYTHON] [--mixed OUT2]
[--contrast a-b]

OUT is the output of `bids-sr RAW OUT participant --output-spaces MNI152NLin2009cAsym:res-2`, with
one task; OUT2 is the output for a participant with a task and a resting-state run. A program whose
environment is not given is left out. Environments:

--xcpd      Python 3.11: XCP-D 26.1.0 from its source (SETUPTOOLS_SCM_PRETEND_VERSION=26.1.0 pip
install SOURCE
            "nilearn<0.13" antspyx)
--fitlins   Python 3.11: pip install fitlins==0.11.0 "matplotlib<3.9" "numpy<2" "pandas<2"
"scikit-learn<1.4"
            "scipy<1.12" "nibabel<5.3" "setuptools<81"

pybids is taken from this environment. XCP-D needs files of TemplateFlow and a program of ANTs:
replacements for both are made below DIR (`_clients_standins.py`), so its values must not be used
as results. The exit code is 1 if a program fails.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
from _clients_standins import SPACE, make_ants, make_templates
from _table import keep

HERE = Path(__file__).parent
STATMAPS = {
    "name": "statmaps",
    "entities": [
        {"name": name, "pattern": f"_{name}-([a-zA-Z0-9+]+)"} for name in ("contrast", "stat")
    ],
}
"""Entities of maps, which pybids does not know by default."""
INHERITING_MASK = re.compile("sub-[^_]*(_ses-[^_]*)?_space-.*_desc-brain_mask.nii.gz")
"""Brain masks in a template space: by inheritance, the sidecar of the T1w mask applies as well."""
Row = dict[str, object]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("raw", type=Path)
    parser.add_argument(
        "--work", type=Path, required=True, help="folder for what the clients make"
    )
    parser.add_argument("--xcpd", type=Path, help="Python of XCP-D's environment")
    parser.add_argument("--fitlins", type=Path, help="Python of fitlins' environment")
    parser.add_argument(
        "--mixed", type=Path, help="output of a participant with a task and a run at rest"
    )
    parser.add_argument(
        "--contrast",
        default="face-house",
        help="two conditions of the task (default: %(default)s)",
    )
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    (primary,) = (arguments.out / "derivatives").glob("bids-sr-*")
    rows = [*pybids_rows(arguments.out, arguments.raw, primary, arguments.mixed)]
    with ThreadPoolExecutor() as at_once:
        pending = []
        if arguments.xcpd:
            pending.append(
                at_once.submit(lambda: [*xcpd_rows(primary, arguments.xcpd, arguments.work)])
            )
        if arguments.fitlins:
            where = (arguments.out, arguments.raw, primary, arguments.fitlins, arguments.work)
            pending.append(at_once.submit(lambda: [*fitlins_rows(*where, arguments.contrast)]))
        rows += [line for client_rows in pending for line in client_rows.result()]
    dataset = json.loads((arguments.raw / "dataset_description.json").read_text())["Name"]
    remarks = [
        f"OUT is the output of one participant of the dataset *{dataset}*.",
        "Stand-ins for XCP-D: `antsApplyTransforms` is from antspyx; of TemplateFlow, the brain of"
        f" {SPACE} is the packaged template at 2 mm with its mask, and the segmentation"
        " for the carpet plot is computed from intensity and position. fitlins and XCP-D read the"
        f" data set of the primary series, `{primary.relative_to(arguments.out)}`.",
        "XCP-D regresses 36 confounds out within its pass band (0.01 to 0.08 Hz). The pass band of"
        " a run of 2 min has about 17 degrees of freedom, so that almost no variance is left.",
    ]
    keep("clients", "What other programs make of the output", rows, remarks=remarks)
    return int(any(re.search("FAILED|exit code [^0]", str(line["result"])) for line in rows))


def row(client: str, call: str, result: str, started: float) -> Row:
    """Return one line of the table; `started` is from the monotonic clock."""
    line = {
        "client": client,
        "what": call,
        "result": result,
        "s": round(time.monotonic() - started, 1),
    }
    sys.stderr.write(f"{line}\n")
    return line


def pybids_rows(out: Path, raw: Path, primary: Path, mixed: Path | None) -> Iterator[Row]:
    """Index with and without validation, without and with the raw data, and list the entities of
    maps.
    """
    from bids.layout import BIDSLayout

    folders = {
        "OUT": out,
        "primary data set": primary,
        **({"OUT, task and rest": mixed} if mixed else {}),
    }
    for name, folder in folders.items():
        for validate in (False, True):
            start = time.monotonic()
            try:
                layout = BIDSLayout(
                    folder,
                    validate=validate,
                    is_derivative=True,
                    config=["bids", "derivatives", STATMAPS],
                )
                images, maps = (
                    layout.get(extension=".nii.gz"),
                    layout.get(suffix="statmap", extension=".nii.gz"),
                )
                entities = sorted({key for image in maps for key in image.get_entities()})
                result = f"{len(layout.files)} files, {len(images)} images"
                result += f", {len(maps)} maps with {', '.join(entities)}" if maps else ""
                tasks = ", ".join(layout.get_tasks())
                result += f"; tasks {tasks}" if mixed == folder else ""
            except Exception as error:
                result = f"FAILED: {type(error).__name__}: {' '.join(str(error).split())[:200]}"
            yield row("pybids", f"{name}, validate={validate}", result, start)
        start = time.monotonic()
        yield row("pybids", f"{name}, get_metadata", compare_metadata(folder), start)
    start = time.monotonic()
    try:
        layout = BIDSLayout(raw, derivatives=[primary])
        series = layout.get(desc="preproc", suffix="bold", extension=".nii.gz")
        spaces = sorted({str(image.entities.get("space")) for image in series})
        result = f"{len(series)} preprocessed series, space {', '.join(spaces)}"
    except Exception as error:
        result = f"FAILED: {type(error).__name__}: {' '.join(str(error).split())[:200]}"
    yield row("pybids", "RAW with the primary data set", result, start)


def compare_metadata(folder: Path) -> str:
    """Compare the metadata that pybids finds without a configuration with the sidecar of each
    image and transform.
    """
    from bids.layout import BIDSLayout

    layout = BIDSLayout(folder, validate=False, is_derivative=True)
    files = layout.get(extension=[".nii.gz", ".func.gii", ".txt", ".h5"])
    different = {
        Path(file.path).name
        for file in files
        if file.get_metadata() != own_metadata(Path(file.path))
    }
    inheriting = {name for name in different if INHERITING_MASK.fullmatch(name)}
    result = f"{len(files) - len(different)} of {len(files)} files as in their sidecars"
    if inheriting:
        result += f"; brain masks that inherit from the T1w mask: {len(inheriting)}"
    unexpected = sorted(different - inheriting)
    return f"{result}; FAILED: {', '.join(unexpected)[:200]}" if unexpected else result


def own_metadata(path: Path) -> object:
    """Return the content of the sidecar of a file, or of the sidecar that maps share; None if the
    sidecar does not exist.
    """
    stem = re.sub("_contrast-[^_]*_stat-[^_]*", "", path.name.partition(".")[0])
    sidecar = path.with_name(f"{stem}.json")
    return json.loads(sidecar.read_text()) if sidecar.is_file() else None


def called(
    command: list[str | Path], log: Path, environment: Mapping[str, str], limit_s: float = 3600
) -> int:
    """Return the exit code of a command whose output goes to a file."""
    with log.open("w") as stream:
        done = subprocess.run(
            command,
            stdout=stream,
            stderr=subprocess.STDOUT,
            env={**os.environ, **environment},
            timeout=limit_s,
        )
    return done.returncode


def xcpd_rows(primary: Path, python: Path, work: Path) -> Iterator[Row]:
    """Collect the data with XCP-D, compute its confounds, and run it through denoising."""
    templates, programs = work / "templateflow", make_ants(work / "bin", python)
    # XCP-D fills an empty folder with names of files that it would download
    environment = {
        "TEMPLATEFLOW_HOME": str(templates),
        "TEMPLATEFLOW_AUTOUPDATE": "off",
        "NO_ET": "1",
        "PATH": f"{programs}:{python.parent}:{os.environ['PATH']}",
    }
    subprocess.run(
        [python, "-c", "import templateflow.api"], env={**os.environ, **environment}, check=True
    )
    make_templates(templates)
    participant = sorted(primary.glob("sub-*/"))[0].name.removeprefix("sub-")
    start = time.monotonic()
    log = work / "xcpd_reads.log"
    code = called([python, HERE / "_clients_xcpd.py", primary, participant], log, environment)
    for line in log.read_text().splitlines():
        if line.startswith('{"what"'):
            entry = json.loads(line)
            yield row("XCP-D", entry["what"], entry["result"], start)
    if code:
        yield row("XCP-D", "reading", f"FAILED: exit code {code}; {_last_line(log)}", start)
    out, start = work / "xcpd", time.monotonic()
    options = (
        "--mode linc --file-format nifti --input-type fmriprep --dummy-scans auto"
        " --skip-parcellation --despike n -r 50 --smoothing 0"
    )
    command: list[str | Path] = [
        python.parent / "xcp_d",
        primary,
        out,
        "participant",
        *options.split(),
        "--skip",
        "alff",
        "reho",
        "connectivity",
        "--notrack",
        "-w",
        work / "xcpd_work",
        "--nprocs",
        "2",
        "--omp-nthreads",
        "1",
    ]
    code = called(command, work / "xcpd.log", environment)
    yield row(
        "XCP-D", f"the whole call, {options}", f"exit code {code}{_denoised(out, primary)}", start
    )


def _denoised(out: Path, primary: Path) -> str:
    """Describe the denoised series: its size, and the remaining fraction of variance in the
    brain.
    """
    paths = sorted(out.rglob("*_desc-denoised_bold.nii.gz"))
    if not paths:
        return "; FAILED: no denoised series"
    image = nib.load(paths[0])
    (mask,) = primary.rglob(f"func/*_space-{SPACE}*_desc-brain_mask.nii.gz")
    (before,) = primary.rglob(f"func/*_space-{SPACE}*_desc-preproc_bold.nii.gz")
    inside = np.asarray(nib.load(mask).dataobj) > 0
    after_sd, before_sd = (
        np.asarray(nib.load(path).dataobj)[inside, -image.shape[3] :].std(axis=1)
        for path in (paths[0], before)
    )
    share = float(np.median(after_sd[before_sd > 0] ** 2 / before_sd[before_sd > 0] ** 2))
    qc = len(list(out.rglob("*linc_qc.tsv")))
    return (
        f"; {' x '.join(map(str, image.shape))} denoised, {share:.2g} of the variance left (median"
        f" voxel), {qc} linc_qc"
    )


def fitlins_rows(
    out: Path, raw: Path, primary: Path, python: Path, work: Path, contrast: str
) -> Iterator[Row]:
    """Fit a model of a run with one contrast; compare its t map with ours in the same space."""
    first, second = contrast.split("-")
    task = (
        next(iter(primary.rglob(f"func/*_space-{SPACE}*_desc-preproc_bold.nii.gz")))
        .name.split("_task-")[1]
        .split("_")[0]
    )
    confounds = [f"{kind}_{axis}" for kind in ("trans", "rot") for axis in "xyz"]
    confounds.append("non_steady_state_outlier*")
    conditions = sorted(
        pd.read_csv(next(raw.rglob(f"*_task-{task}_*events.tsv")), sep="\t")
        .trial_type.dropna()
        .unique()
    )
    named = [f"trial_type.{name}" for name in conditions]
    model = {
        "Name": "run",
        "BIDSModelVersion": "1.0.0",
        "Input": {"task": [task]},
        "Nodes": [
            {
                "Level": "Run",
                "Name": "run",
                "GroupBy": ["run", "subject"],
                "Transformations": {
                    "Transformer": "pybids-transforms-v1",
                    "Instructions": [
                        {"Name": "Factor", "Input": ["trial_type"]},
                        {"Name": "Convolve", "Input": named, "Model": "spm"},
                    ],
                },
                "Model": {"X": [1, *named, *confounds], "Type": "glm"},
                "Contrasts": [
                    {
                        "Name": f"{first}Minus{second.capitalize()}",
                        "Test": "t",
                        "Weights": [1, -1],
                        "ConditionList": [f"trial_type.{first}", f"trial_type.{second}"],
                    }
                ],
            }
        ],
    }
    (work / "model.json").write_text(json.dumps(model, indent=1))
    start, log = time.monotonic(), work / "fitlins.log"
    command: list[str | Path] = [
        python.parent / "fitlins",
        raw,
        work / "fitlins",
        "run",
        "-m",
        work / "model.json",
        "-d",
        primary,
        "--space",
        SPACE,
        "--desc-label",
        "preproc",
        "-w",
        work / "fitlins_work",
        "--n-cpus",
        "1",
        "--drift-model",
        "cosine",
        "--estimator",
        "nilearn",
    ]
    code = called(command, log, {"PATH": f"{python.parent}:{os.environ['PATH']}"})
    maps = sorted((work / "fitlins").rglob("*stat-t_statmap.nii.gz"))
    result = f"exit code {code}; " + (
        _like_ours(maps[0], out, primary) if maps else f"FAILED: no t map; {_last_line(log)}"
    )
    yield row("fitlins", f"{first} - {second} at the level of the run", result, start)


def _like_ours(path: Path, out: Path, primary: Path) -> str:
    """Describe a t map: its range, and its correlation in the brain with the map of OUT in this
    space.
    """
    t = np.asarray(nib.load(path).dataobj, dtype=np.float64).squeeze()
    (mask,) = primary.rglob(f"func/*_space-{SPACE}*_desc-brain_mask.nii.gz")
    inside = (np.asarray(nib.load(mask).dataobj) > 0) & np.isfinite(t) & (t != 0)
    text = (
        f"{path.name}: t from {t[inside].min():.1f} to {t[inside].max():.1f} in"
        f" {int(inside.sum())} voxels"
    )
    series = primary.name.removeprefix("bids-sr-")
    name = path.name.split("_contrast-")[1].split("_")[0]
    ours = sorted(
        out.rglob(
            f"sub-*/func/*_space-{SPACE}*_contrast-{name}_stat-t_desc-{series}_statmap.nii.gz"
        )
    )
    if ours:
        our_map = np.asarray(nib.load(ours[0]).dataobj, dtype=np.float64)
        inside &= np.isfinite(our_map) & (our_map != 0)
        text += (
            f"; r = {np.corrcoef(t[inside], our_map[inside])[0, 1]:.3f} with ours (other noise"
            " model and confounds)"
        )
    return text


def _last_line(log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1][:200] if lines else "no output"


if __name__ == "__main__":
    sys.exit(main())
