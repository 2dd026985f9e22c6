"""Rerun, seeds and kills: the same outputs, bit for bit in the images, whatever happened on the
way.

python benchmarks/robustness.py BIDS_DIR SCRATCH [--kills 5] [--seed 0] [-- options of bids-sr ...]
"""

import argparse
import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import nibabel as nib
import numpy as np
from _resources import watch
from _table import keep

BIDS_SR = str(Path(sys.executable).parent / "bids-sr")


def fingerprints(out: Path) -> dict[str, str]:
    """Hash of the voxels of every image under ``out``, and of the bytes of every table."""
    prints = {}
    for path in sorted(out.rglob("*")):
        name = str(path.relative_to(out))
        if name.endswith(".nii.gz"):
            image = nib.load(path)
            content = (
                np.ascontiguousarray(image.dataobj.get_unscaled()).tobytes()
                + image.affine.tobytes()
            )
        elif name.endswith((".tsv", ".txt", ".safetensors")) and not name.startswith("logs"):
            content = path.read_bytes()
        else:
            continue
        prints[name] = hashlib.sha256(content).hexdigest()
    return prints


def differences(one: dict[str, str], other: dict[str, str]) -> list[str]:
    """Names that only one side has, or whose content differs."""
    return sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))


def killed_run(command: list[str], seconds: float) -> bool:
    """Start the command in a group of its own and kill all of it; whether it still ran then."""
    process = subprocess.Popen(
        command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        process.wait(timeout=seconds)
        return False
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        time.sleep(0.5)
        return True


def half_files(out: Path) -> list[str]:
    """Images of the output that cannot be read whole."""
    broken = []
    for path in out.rglob("*.nii.gz"):
        if path.name.startswith("."):
            continue
        try:
            np.asarray(nib.load(path).dataobj)
        except Exception:
            broken.append(path.name)
    return broken


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bids_dir")
    parser.add_argument("scratch", type=Path)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0, help="of the moments of the kills")
    args, options = parser.parse_known_args()
    options = [option for option in options if option != "--"]
    args.scratch.mkdir(parents=True, exist_ok=True)

    def command(name: str) -> list[str]:
        work = str(args.scratch / f"{name}-work")
        return [
            BIDS_SR,
            args.bids_dir,
            str(args.scratch / name),
            "participant",
            "-w",
            work,
            *options,
        ]

    rows = []
    first = watch(command("a"))
    reference = fingerprints(args.scratch / "a")
    rows.append(
        {
            "what": "first run",
            "seconds": round(first.seconds, 1),
            "exit": first.code,
            "differences": "",
        }
    )
    stamps = {path: path.stat().st_mtime_ns for path in (args.scratch / "a").rglob("*.nii.gz")}
    again = watch(command("a"))
    touched = sum(path.stat().st_mtime_ns != stamp for path, stamp in stamps.items())
    rows.append(
        {
            "what": f"the same command again ({touched} images written)",
            "seconds": round(again.seconds, 1),
            "exit": again.code,
            "differences": len(differences(reference, fingerprints(args.scratch / "a"))),
        }
    )
    other = watch(command("b"))
    differ = differences(reference, fingerprints(args.scratch / "b"))
    rows.append(
        {
            "what": f"same seed, other directories ({len(reference)} files)",
            "seconds": round(other.seconds, 1),
            "exit": other.code,
            "differences": len(differ),
        }
    )
    rng, broken = np.random.default_rng(args.seed), 0
    moments = sorted(rng.uniform(0.05, 0.95, args.kills) * first.seconds)
    kills = 0
    for moment in moments:
        kills += killed_run(command("c"), moment if not kills else max(5.0, moment - moments[0]))
        broken += len(half_files(args.scratch / "c"))
    last = watch(command("c"))
    differ += differences(reference, fingerprints(args.scratch / "c"))
    rows.append(
        {
            "what": f"one run killed {kills} times, then finished ({broken} half files seen)",
            "seconds": round(last.seconds, 1),
            "exit": last.code,
            "differences": len(differences(reference, fingerprints(args.scratch / "c"))),
        }
    )
    for k, moment in enumerate(moments):
        alive = killed_run(command(f"k{k}"), moment)
        done = watch(command(f"k{k}"))
        changed = differences(reference, fingerprints(args.scratch / f"k{k}"))
        differ += changed
        what = (
            f"killed at {moment:.0f} s, then rerun"
            if alive
            else f"had ended before {moment:.0f} s"
        )
        rows.append(
            {
                "what": what,
                "seconds": round(done.seconds, 1),
                "exit": done.code,
                "differences": len(changed),
            }
        )
    remarks = [f"Differing: {', '.join(sorted(set(differ))[:20])}"] if differ else []
    keep("robustness", "Rerun, seeds and kills", rows, remarks=remarks)
    return int(bool(differ))


if __name__ == "__main__":
    sys.exit(main())
