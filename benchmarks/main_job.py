"""The main job on one data set: wall time, peak memory, exit code, validity of the derivatives,
sections of the report.

python benchmarks/main_job.py NAME BIDS_DIR OUT [options of bids-sr ...]
"""

import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

from _resources import watch
from _table import keep

SECTIONS = (
    "summary",
    "verdict",
    "anatomical",
    "registration",
    "motion",
    "superres-training",
    "superres",
    "activation",
    "evaluation",
    "guards",
    "methods",
    "errors",
    "about",
)


def validate(out: Path) -> tuple[int, int, str]:
    """Errors and validated files by the real validator; the text lists the suffixes that it looked
    at.
    """
    script = Path(sys.executable).parent / "bids-validator-deno"
    done = subprocess.run([script, "--json", out], capture_output=True, text=True, check=False)
    found = json.loads(done.stdout)
    errors = [issue for issue in found["issues"]["issues"] if issue["severity"] == "error"]
    ignored = [line for line in (out / ".bidsignore").read_text().splitlines() if line]
    files = [p for p in out.rglob("*") if p.is_file()]
    seen = Counter(
        path.name.split("_")[-1]
        for path in files
        if not _is_ignored(path.relative_to(out), ignored)
    )
    return (
        len(errors),
        sum(seen.values()),
        ", ".join(f"{n} {name}" for name, n in sorted(seen.items())),
    )


def _is_ignored(path: Path, patterns: list[str]) -> bool:
    return any(
        path.match(pattern) or any(parent.match(pattern) for parent in path.parents)
        for pattern in patterns
    )


def section_figures(report: Path) -> dict[str, int]:
    """Bytes of figures and tables inside each section of the report, by id."""
    text = report.read_text()
    starts = sorted(
        (m.start(), m.group(1)) for m in re.finditer(r'<(?:section|div)[^>]*\bid="([\w-]+)"', text)
    )
    sizes = {}
    for (start, name), (end, _) in zip(starts, [*starts[1:], (len(text), "")], strict=True):
        sizes[name] = sizes.get(name, 0) + end - start
    return sizes


def main() -> int:
    name, bids_dir, out, *options = sys.argv[1:]
    command = [
        str(Path(sys.executable).parent / "bids-sr"),
        bids_dir,
        out,
        "participant",
        *options,
    ]
    usage = watch(command, log=Path(f"{out}.log"))
    rows = [
        {"what": "exit code", "value": usage.code},
        {"what": "wall time (min)", "value": round(usage.seconds / 60, 2)},
        {"what": "peak PSS of all processes (GiB)", "value": round(usage.peak_gib, 2)},
    ]
    remarks = []
    if usage.code == 0:
        errors, validated, listing = validate(Path(out))
        rows += [
            {"what": "validator errors", "value": errors},
            {"what": "files validated", "value": validated},
        ]
        remarks.append(f"Validated: {listing}.")
        for report in sorted(Path(out).glob("sub-*.html")):
            sizes = section_figures(report)
            absent = [section for section in SECTIONS if section not in sizes]
            rows.append(
                {"what": f"{report.name}: sections absent", "value": ", ".join(absent) or "none"}
            )
            rows.append(
                {
                    "what": f"{report.name}: size (MB)",
                    "value": round(report.stat().st_size / 1e6, 1),
                }
            )
    keep(f"main_job_{name}", f"The main job on {name}", rows, remarks=remarks)
    return usage.code


if __name__ == "__main__":
    sys.exit(main())
