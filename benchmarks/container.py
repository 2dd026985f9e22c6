"""The image against the bare program on the same data: outputs, sizes, times.

python benchmarks/container.py DATA OUT [--tag TAG] [--arguments "--sloppy ..."]

Builds the image of the last commit with the engine that BIDS_SR_TEST_CONTAINER names, runs it on
DATA as user 12345 with a read-only root, DATA read-only and no network, runs the same commit bare
in the environment of this interpreter (whose packages should be those of the locks; what differs
is said), and compares every file of the two outputs.
"""

import argparse
import filecmp
import importlib.metadata
import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import h5py
import nibabel as nib
import numpy as np
import pandas as pd
from _table import keep

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))
from engines import VARIABLE, Engine, engine  # noqa: E402

LOCKS = ("requirements.lock", "docker/torch-cpu.lock")
SITE = "/opt/bids-sr/lib/python3.11/site-packages"
ARGUMENTS = "--sloppy --output-spaces MNI152NLin2009aSym --nprocs 2 --omp-nthreads 1"
TOLERANCE = 1e-6
KINDS = {
    "images": ".nii.gz",
    "tables": ".tsv",
    "models": ".safetensors",
    "transforms": ".txt",
    "transforms (h5)": ".h5",
    "sidecars and others": ".json",
    "figures": ".svg",
    "reports": ".html",
}
PARTS = {
    "torch": "torch*",
    "ants": "ants*",
    "scipy": "scipy*",
    "numpy": "numpy*",
    "all other packages": None,
}


def checked(done: subprocess.CompletedProcess[str]) -> subprocess.CompletedProcess[str]:
    """The finished process, or the end of what it said."""
    if done.returncode:
        sys.exit(
            f"{' '.join(map(str, done.args))[:300]}\nended with {done.returncode}\n"
            f"{(done.stdout + done.stderr)[-3000:]}"
        )
    return done


def strange_versions() -> list[str]:
    """Packages of this environment that are not those of the locks."""
    pins = re.findall(
        r"^([^\s=]+)==([^\s]+)",
        "\n".join((ROOT / name).read_text() for name in LOCKS),
        re.MULTILINE,
    )
    here = {name: version_of(name) for name, _ in pins}
    return [
        f"{name} {here[name]} instead of {version}"
        for name, version in pins
        if here[name] != version
    ]


def version_of(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "none"


def snapshot(folder: Path) -> Path:
    """The last commit, as files."""
    folder.mkdir()
    archive = subprocess.run(
        ["git", "archive", "HEAD"], cwd=ROOT, capture_output=True, check=True
    ).stdout
    subprocess.run(["tar", "--extract", "--directory", str(folder)], input=archive, check=True)
    return folder


def run_bare(source: Path, scratch: Path, data: Path, out: Path, arguments: list[str]) -> None:
    """Run the program of a snapshot in this environment."""
    target = scratch / "bare-package"
    install = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--target",
        str(target),
        str(source),
    ]
    checked(subprocess.run(install, capture_output=True, text=True, check=False))
    code = "import sys; from bids_sr.cli.main import main; sys.exit(main())"
    command = [
        sys.executable,
        "-c",
        code,
        str(data),
        str(out),
        "participant",
        "-w",
        str(scratch / "bare-work"),
        *arguments,
    ]
    # nothing else gets into a container, and a setting such as OPENBLAS_CORETYPE changes the last
    # bits of sums
    env = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    env |= {"LANG": "C.UTF-8", "PYTHONPATH": str(target)}
    checked(
        subprocess.run(command, capture_output=True, text=True, check=False, env=env, cwd=scratch)
    )


def run_image(
    chosen: Engine, tag: str, scratch: Path, data: Path, out: Path, arguments: list[str]
) -> None:
    """Run the image, held as tightly as it goes."""
    for folder in (out, scratch / "image-work"):
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o777)
    flags = (
        "--user",
        "12345:12345",
        *chosen.read_only(),
        "--tmpfs",
        "/tmp",
        "--network",
        "none",
        "--volume",
        f"{data}:/data:ro",
        "--volume",
        f"{out}:/out",
        "--volume",
        f"{scratch / 'image-work'}:/work",
    )
    checked(chosen.run(tag, "/data", "/out", "participant", *arguments, flags=flags))


def difference(a: Path, b: Path) -> float | None:
    """Largest difference of two files relative to the largest value, None for what holds no
    numbers.
    """
    if a.name.endswith(".nii.gz"):
        one, two = nib.load(a), nib.load(b)
        if one.shape != two.shape or not np.array_equal(one.affine, two.affine):
            return np.inf
        return apart(
            np.asanyarray(one.dataobj).astype(float), np.asanyarray(two.dataobj).astype(float)
        )
    if a.suffix == ".tsv":
        one, two = pd.read_csv(a, sep="\t"), pd.read_csv(b, sep="\t")
        if list(one) != list(two) or len(one) != len(two):
            return np.inf
        numbers = [
            name for name in one if one[name].dtype.kind in "fiu" and two[name].dtype.kind in "fiu"
        ]
        if not one.drop(columns=numbers).equals(two.drop(columns=numbers)):
            return np.inf
        return max(
            (apart(one[name].to_numpy(float), two[name].to_numpy(float)) for name in numbers),
            default=0.0,
        )
    if a.suffix == ".h5":
        one, two = numbers_of(a), numbers_of(b)
        if one.keys() != two.keys():
            return np.inf
        return max(apart(one[name], two[name]) for name in one)
    return None


def numbers_of(path: Path) -> dict[str, np.ndarray]:
    """Numbers of an HDF5 file; its bytes hold the time of writing too."""
    found: dict[str, np.ndarray] = {}

    def take(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and item.dtype.kind in "fiu":
            found[name] = item[()].astype(float)

    with h5py.File(path) as file:
        file.visititems(take)
    return found


def apart(a: np.ndarray, b: np.ndarray) -> float:
    if np.array_equal(a, b, equal_nan=True):
        return 0.0
    if not np.array_equal(np.isnan(a), np.isnan(b)):
        return np.inf
    return float(np.nanmax(np.abs(a - b)) / max(float(np.nanmax(np.abs(a))), 1e-30))


def compare(bare: Path, image: Path) -> tuple[list[dict[str, Any]], bool]:
    """A row for each kind of file, and whether all bars hold."""
    names = [
        {
            p.relative_to(top).as_posix()
            for p in top.rglob("*")
            if p.is_file() and "logs" not in p.parts
        }
        for top in (bare, image)
    ]
    rows = [
        {
            "files": "in one output only",
            "n": len(names[0] ^ names[1]),
            "byte for byte": "",
            "largest difference": "",
        }
    ]
    fine = not names[0] ^ names[1]
    both = sorted(names[0] & names[1])
    for kind, ending in KINDS.items():
        own = [name for name in both if name.endswith(ending)]
        if not own:
            continue
        same = [filecmp.cmp(bare / name, image / name, shallow=False) for name in own]
        values = [difference(bare / name, image / name) for name in own]
        numbers = [value for value in values if value is not None]
        largest = max(numbers) if numbers else None
        rows.append(
            {
                "files": f"{kind} ({ending})",
                "n": len(own),
                "byte for byte": sum(same),
                "largest difference": "" if largest is None else largest,
            }
        )
        fine &= largest is None or largest <= (TOLERANCE if kind == "tables" else 0.0)
        for name, equal, value in zip(own, same, values, strict=True):
            if value or (kind == "models" and not equal):
                sys.stderr.write(f"differs: {name} ({value})\n")
                fine &= kind != "models"
    return rows, fine


def sizes(chosen: Engine, tag: str) -> list[dict[str, Any]]:
    """What takes the space (MB on disk, not compressed)."""
    script = "cd {} && du -sm {} 2>/dev/null | awk '{{s += $1}} END {{print s}}'"
    rows = []
    for what, where, names in [
        ("base image, tini", "/", "bin sbin lib lib64 etc usr var"),
        ("all packages", "/opt", "bids-sr"),
        *[(f"- {name}", SITE, pattern) for name, pattern in PARTS.items() if pattern],
        ("- bids-sr itself", SITE, "bids_sr"),
        ("templates of TemplateFlow", "/opt", "templateflow"),
    ]:
        done = chosen.run(
            tag, "-c", script.format(where, names), flags=("--entrypoint", "sh", "--user", "0")
        )
        rows.append({"part": what, "MB": int(checked(done).stdout)})
    total = (
        int(checked(chosen.call("image", "inspect", "--format", "{{.Size}}", tag)).stdout) / 1e6
    )
    return [*rows, {"part": "image, as the engine counts it", "MB": round(total)}]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path, help="folder for both outputs; must not exist")
    parser.add_argument("--tag", default="bids-sr:benchmark")
    parser.add_argument("--arguments", default=ARGUMENTS, help="of both runs, as one word")
    given = parser.parse_args()
    chosen = engine()
    if chosen is None:
        sys.exit(f"{VARIABLE} names no container engine")
    given.out.mkdir(parents=True)
    data, arguments = given.data.resolve(), shlex.split(given.arguments)
    bare, image = given.out.resolve() / "bare", given.out.resolve() / "image"
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        scratch = Path(folder)
        scratch.chmod(0o755)
        source = snapshot(scratch / "source")
        start = time.monotonic()
        checked(chosen.build(given.tag, "--build-arg", f"IMAGE_TAG={given.tag}", context=source))
        built = time.monotonic() - start
        run_image(chosen, given.tag, scratch, data, image, arguments)
        run_bare(source, scratch, data, bare, arguments)
    rows, fine = compare(bare, image)
    strange = strange_versions()
    keep(
        "container",
        "Image and bare run: the same outputs",
        rows,
        remarks=[
            (
                "Largest difference: of voxels or cells, over the largest value of the file."
                f" Arguments: `{given.arguments}`."
            ),
            (
                f"Bars (images and models identical, tables to {TOLERANCE:g}):"
                f" {'hold' if fine else 'broken'}."
            ),
            f"Versions that differ from the locks: {', '.join(strange) or 'none'}.",
        ],
    )
    keep(
        "container_size",
        "Size of the image",
        sizes(chosen, given.tag),
        remarks=[
            (
                "CPU build of torch, without TemplateFlow's spaces where it cannot be reached. "
                f"This build took {built:.0f} s, with what the engine had kept of earlier ones."
            ),
        ],
    )
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
