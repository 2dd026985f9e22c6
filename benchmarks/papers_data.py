"""Fetch the public data of the measured examples, and make the data sets that tables rest on.

python benchmarks/papers_data.py OUT

Clones the two DICOM data sets of the studyforrest project below (license PDDL), converts them with
dcm2niix, which must be on the PATH, and writes OUT/measured: a BIDS data set of one person with
the whole run (80 x 80 x 35, 3 mm) and the T1w image. `papers.py --data OUT/measured` then measures
the tables of `tv`, `cpce` and `mouse` on these images instead of the example's part of them.
Needs a network. Nothing is overwritten.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

SOURCES = {
    "func": "https://github.com/datalad/example-dicom-functional",
    "anat": "https://github.com/datalad/example-dicom-structural",
}
NAMES = {"func": "sub-01_task-localizer_bold", "anat": "sub-01_T1w"}
README = """# measured

One run of a localizer of higher visual areas (3 T, Sengupta et al. 2016,
doi:10.1038/sdata.2016.93) and a T1-weighted image of the same person (Hanke et al. 2014,
doi:10.1038/sdata.2014.3), from the studyforrest project, published under the PDDL:
{sources}
"""


def check(out: Path) -> str:
    """Return why data cannot be fetched to a folder, or ""."""
    missing = [name for name in ("git", "dcm2niix") if shutil.which(name) is None]
    if missing:
        return f"{' and '.join(missing)}: not on the PATH. Install before fetching."
    if (out / "measured").exists():
        return f"{out / 'measured'}: exists. Name another folder."
    return ""


def fetch(out: Path) -> None:
    """Clone, convert and write the data set; a stopped call leaves `out` empty."""
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out) as folder:
        root = Path(folder) / "measured"
        for kind, url in SOURCES.items():
            clone, target = Path(folder) / kind, root / "sub-01" / kind
            target.mkdir(parents=True)
            subprocess.run(["git", "clone", "--depth", "1", url, str(clone)], check=True)
            words = ["dcm2niix", "-z", "y", "-b", "y", "-ba", "y", "-f", NAMES[kind]]
            subprocess.run([*words, "-o", str(target), str(clone / "dicoms")], check=True)
        (root / "dataset_description.json").write_text(
            '{"Name": "measured", "BIDSVersion": "1.9.0", "License": "PDDL"}\n'
        )
        (root / "README").write_text(README.format(sources="\n".join(SOURCES.values())))
        root.rename(out / "measured")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    if why := check(arguments.out):
        sys.stderr.write(f"{why}\n")
        return 2
    fetch(arguments.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
