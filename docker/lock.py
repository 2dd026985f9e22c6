#!/usr/bin/env python3
"""Make the lock files of the image anew from the requirements in setup.cfg.

python docker/lock.py [--upgrade] [--torch-index URL]

Versions that are locked stay, unless setup.cfg forbids them or `--upgrade` is given. `uv` resolves
(`pip install uv packaging`) from the package index that its own settings name; no address gets
into the files. Each requirement carries the SHA-256 of every wheel that Python 3.11 on x86-64
Linux can take, or of the source where there is no such wheel:

- requirements.lock: everything but torch, with the extra multi-echo
- docker/torch-cuda.lock: torch as the package index has it, with the CUDA packages that it asks
  for
- docker/torch-cpu.lock: the CPU build of the same torch, which the package index does not have: it
  is taken from where pip's own settings find it, or from `--torch-index`
- docker/build.lock: what builds and installs in the build stage; none of it is left in the image
"""

import argparse
import configparser
import hashlib
import os
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from packaging.tags import compatible_tags, cpython_tags
from packaging.utils import parse_wheel_filename

ROOT = Path(__file__).parents[1]
PYTHON = (3, 11)
# glibc of Debian 12, on which the image stands, is 2.36; two older names of the same thing are
# still in use
PLATFORMS = [f"manylinux_2_{minor}_x86_64" for minor in range(36, 4, -1)] + [
    "manylinux2014_x86_64",
    "linux_x86_64",
]
TAGS = {*cpython_tags(PYTHON, platforms=PLATFORMS), *compatible_tags(PYTHON, "cp311", PLATFORMS)}
CUDA = re.compile(r"nvidia-|cuda-|triton$")
BUILD = ["pip", "setuptools>=77"]
HEAD = "# Made by docker/lock.py for Python 3.11 on x86-64 Linux; not to be edited by hand.\n"


def requirements() -> list[str]:
    """Requirements in setup.cfg, with the extra multi-echo, which the image installs."""
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(ROOT / "setup.cfg")
    return [
        *parser["options"]["install_requires"].strip().split("\n"),
        *parser["options.extras_require"]["multi-echo"].strip().split("\n"),
    ]


def locked(*paths: Path) -> list[str]:
    """`name==version` of what lock files hold now, without local versions such as +cpu."""
    found = [
        re.match(r"([^\s=]+==[^\s+]+)", line)
        for path in paths
        if path.is_file()
        for line in path.open()
    ]
    return [match[1] for match in found if match and not match[1].startswith("#")]


def resolve(wanted: Iterable[str], preferred: Iterable[str]) -> list[dict[str, Any]]:
    """Packages with versions and files; what `preferred` names keeps its version where it can."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "wanted.in"), Path(folder, "pylock.toml")
        source.write_text("\n".join(wanted) + "\n")
        # uv keeps the versions of the file that it is to write, in the form of requirements only
        before = Path(folder, "before.txt")
        before.write_text("".join(f"{line}\n" for line in preferred))
        python = ".".join(map(str, PYTHON))
        common = [
            "--python-version",
            python,
            "--python-platform",
            "x86_64-manylinux_2_28",
            "--no-header",
            "--quiet",
        ]
        subprocess.run(
            [
                "uv",
                "pip",
                "compile",
                str(source),
                "--output-file",
                str(before),
                "--no-annotate",
                *common,
            ],
            check=True,
        )
        subprocess.run(
            [
                "uv",
                "pip",
                "compile",
                str(before),
                "--no-deps",
                "--output-file",
                str(target),
                *common,
            ],
            check=True,
        )
        return tomllib.loads(target.read_text())["packages"]


def hashes(package: dict[str, Any]) -> list[str]:
    """SHA-256 of the files of a package that the image can take."""
    found = []
    for wheel in package.get("wheels", []):
        name = wheel.get("name") or wheel["url"].rpartition("/")[2].replace("%2B", "+")
        if parse_wheel_filename(name)[3] & TAGS:
            found.append(wheel["hashes"]["sha256"])
    if not found and "sdist" in package:
        found = [package["sdist"]["hashes"]["sha256"]]
    if not found:
        raise SystemExit(f"{package['name']} {package['version']} has no file for this platform")
    return sorted(found)


def lines_of(packages: Iterable[dict[str, Any]]) -> str:
    """Packages as requirements with hashes."""
    text = ""
    for package in sorted(packages, key=lambda package: str(package["name"])):
        sums = "".join(f" \\\n    --hash=sha256:{digest}" for digest in hashes(package))
        text += f"{package['name']}=={package['version']}{sums}\n"
    return text


def cpu_build(version: str, index: str | None) -> str:
    """The CPU build of torch as a requirement with its hash."""
    with tempfile.TemporaryDirectory() as folder:
        platforms = [
            item for name in PLATFORMS[:1] + PLATFORMS[8:9] for item in ("--platform", name)
        ]
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--quiet",
            "--no-deps",
            "--only-binary",
            ":all:",
            "--python-version",
            "3.11",
            *platforms,
            "--dest",
            folder,
            f"torch=={version}+cpu",
        ]
        subprocess.run(command + (["--index-url", index] if index else []), check=True)
        (wheel,) = Path(folder).iterdir()
        with wheel.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    return f"torch=={version}+cpu \\\n    --hash=sha256:{digest}\n"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--upgrade", action="store_true", help="take the newest versions that setup.cfg allows"
    )
    parser.add_argument(
        "--torch-index", metavar="URL", help="index that has the CPU build of torch"
    )
    given = parser.parse_args()
    main_lock, build_lock = ROOT / "requirements.lock", ROOT / "docker/build.lock"
    cpu_lock, cuda_lock = ROOT / "docker/torch-cpu.lock", ROOT / "docker/torch-cuda.lock"
    os.environ.setdefault("UV_NO_PROGRESS", "1")
    before = [] if given.upgrade else locked(main_lock, cuda_lock)
    packages = resolve(requirements(), before)
    torch = next(package["version"] for package in packages if package["name"] == "torch")
    cuda = [
        package
        for package in packages
        if package["name"] == "torch" or CUDA.match(package["name"])
    ]
    if f"torch=={torch}+cpu " not in (cpu_lock.read_text() if cpu_lock.is_file() else ""):
        cpu_lock.write_text(HEAD + cpu_build(torch, given.torch_index))
    cuda_lock.write_text(HEAD + lines_of(cuda))
    main_lock.write_text(HEAD + lines_of(package for package in packages if package not in cuda))
    build_lock.write_text(
        HEAD + lines_of(resolve(BUILD, [] if given.upgrade else locked(build_lock)))
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
