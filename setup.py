"""Stamp the commit that is built into the package, and let links of README.md lead into the
repository from the package index, too; everything else about the package is in setup.cfg.

A version that is no release names its commit (`bids_sr.__version__`), and git is not asked at run
time. An installation with ``pip install -e`` is a build too: what it stamps holds until the next
one.
"""

import configparser
import os
import re
import runpy
import subprocess
from pathlib import Path

from setuptools import setup

HERE = Path(__file__).resolve().parent
STAMP = HERE / "bids_sr" / "commit.txt"


def commit() -> str:
    """Commit of this checkout, ``.dirty`` behind it where files differ from it; "" where git
    cannot say.
    """
    try:
        asked = [
            subprocess.run(
                ["git", *words], cwd=HERE, capture_output=True, text=True, check=True
            ).stdout.strip()
            for words in (("rev-parse", "HEAD"), ("status", "--porcelain", "--untracked-files=no"))
        ]
    except (OSError, subprocess.CalledProcessError):
        return ""
    return f"g{asked[0][:9]}{'.dirty' if asked[1] else ''}"


def description() -> str:
    """README.md, whose links within the repository become addresses of this release."""
    known = configparser.ConfigParser(interpolation=None)
    known.read(HERE / "setup.cfg", encoding="utf-8")
    release = runpy.run_path(str(HERE / "bids_sr" / "version.py"))["RELEASE"]
    address, text = known["metadata"]["url"], (HERE / "README.md").read_text(encoding="utf-8")
    text = re.sub(r"\]\((?=docs/figures/)", f"]({address}/raw/v{release}/", text)
    return re.sub(r"\]\((?!https?:|#)", f"]({address}/blob/v{release}/", text)


if revision := os.environ.get("BIDS_SR_REVISION"):  # an image is built without the folder of git
    STAMP.write_text(f"g{revision[:9]}\n", encoding="utf-8")
elif (HERE / ".git").exists():  # what is built of an sdist keeps the stamp that this carries
    STAMP.write_text(f"{commit()}\n", encoding="utf-8")

setup(long_description=description())
