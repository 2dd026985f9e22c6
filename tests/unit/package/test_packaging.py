"""Wheel, sdist, zip archive and editable installation are equal and agree with the metadata."""

import configparser
import importlib
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
import yaml

import bids_sr

ROOT = Path(__file__).parents[3]
LINKS = {name: f"bids_sr/{name}" for name in ("workflows", "boilerplate")}
"""Links at the top level to folders of the package."""
BUILD = (
    "import sys, setuptools.build_meta as build; print(getattr(build, sys.argv[1])(sys.argv[2]))"
)
SETUP = configparser.ConfigParser(interpolation=None)
SETUP.read(ROOT / "setup.cfg")


def run(folder: Path, *command: str) -> str:
    return subprocess.run(
        command, cwd=folder, check=True, capture_output=True, text=True
    ).stdout.strip()


def build(source: Path, kind: str, target: Path) -> Path:
    target.mkdir(exist_ok=True)
    return target / run(source, sys.executable, "-c", BUILD, kind, str(target)).split("\n")[-1]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a committed copy of the sources, so that this checkout stays clean."""
    copy = tmp_path_factory.mktemp("copy") / "source"
    copy.mkdir()
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "bids_sr", copy / "bids_sr", ignore=ignored)
    for name, target in LINKS.items():
        (copy / name).symlink_to(target)
    for path in ROOT.iterdir():
        if path.is_file() and (not path.name.startswith(".") or path.name == ".gitignore"):
            shutil.copy(path, copy)
    for name in ("usage.md", "examples/plot_1_one_run.md"):  # the second is written by mkdocs
        (copy / "docs" / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / "docs" / name).write_text("text")
    run(copy, "git", "init", "-q")
    run(copy, "git", "add", "-A")
    user = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
    run(copy, "git", *user, "commit", "-qm", "x")
    return copy


@pytest.fixture(scope="module")
def built(source: Path) -> dict[str, Path]:
    """Build from the copy, from its sdist and from a zip archive; first from a modified copy."""
    folder = source.parent
    (source / "README.md").write_text("changed")
    builds = {"changed": build(source, "build_wheel", folder / "changed")}
    run(source, "git", "checkout", "-q", "README.md")
    for kind in ("wheel", "sdist", "editable"):
        builds[kind] = build(source, f"build_{kind}", folder / kind)
    with tarfile.open(builds["sdist"]) as archive:
        # Python before 3.11.4 has no filters
        archive.extraction_filter = getattr(tarfile, "data_filter", lambda member, path: member)
        archive.extractall(folder / "unpacked")
    (unpacked,) = (folder / "unpacked").iterdir()
    zipped = ["--format=zip", "--prefix=from_zip/", "-o", str(folder / "x.zip")]
    run(source, "git", "archive", *zipped, "HEAD")
    with zipfile.ZipFile(folder / "x.zip") as archive:
        archive.extractall(folder)
    # Python's zipfile does not restore links
    assert {(folder / "from_zip" / name).is_file() for name in LINKS} == {True}
    builds["of the sdist"] = build(unpacked, "build_wheel", folder / "again")
    builds["of the zip"] = build(folder / "from_zip", "build_wheel", folder / "from_zip_built")
    return {**builds, "unpacked": unpacked}


def contents(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist() if not name.endswith("/")}


def package_of(wheel: Path) -> dict[str, bytes]:
    return {name: data for name, data in contents(wheel).items() if name.startswith("bids_sr/")}


def test_the_wheel_contains_all_files_of_the_package(source: Path, built: dict[str, Path]) -> None:
    files = {
        path.relative_to(source).as_posix(): path.read_bytes()
        for path in (source / "bids_sr").rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    assert package_of(built["wheel"]) == files
    assert "bids_sr/boilerplate/io_spec.json" in files
    folders = {str(Path(name).parent) for name in files if name.endswith(".py")}
    assert {folder for folder in folders if f"{folder}/__init__.py" not in files} == set()


def test_a_build_is_stamped_with_its_commit(
    source: Path, built: dict[str, Path], tmp_path: Path
) -> None:
    """Wheel, sdist and editable installation name the commit; a modified checkout is "dirty"."""
    version = f"{bids_sr.RELEASE}+g{run(source, 'git', 'rev-parse', 'HEAD')[:9]}"
    names = ("wheel", "editable", "of the sdist")
    assert [built[name].name.split("-")[1] for name in names] == [version] * 3
    assert f"-{version}.dirty-" in built["changed"].name
    zipfile.ZipFile(built["of the sdist"]).extractall(tmp_path)
    code = "import bids_sr; print(bids_sr.__version__)"
    assert run(tmp_path, sys.executable, "-c", code) == version


def test_console_scripts_are_functions() -> None:
    for line in SETUP["options.entry_points"]["console_scripts"].strip().splitlines():
        module, _, function = line.partition("=")[2].strip().partition(":")
        assert callable(getattr(importlib.import_module(module), function))


def test_the_version_is_the_same_everywhere() -> None:
    """Development versions end with .dev0, are "unreleased" in CHANGES, and have no date."""
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    newest = r"^## (\S+) \((\d{4}-\d\d-\d\d|unreleased)\)$"
    version, date = re.findall(newest, (ROOT / "CHANGES.md").read_text(), re.MULTILINE)[0]
    release = version + (".dev0" if date == "unreleased" else "")
    assert SETUP["metadata"]["version"] == "attr: bids_sr.__version__"
    stamped = bids_sr.__version__.partition("+")[0]
    assert release == bids_sr.RELEASE == stamped == citation["version"]
    assert f'image.version="{release}"' in (ROOT / "Dockerfile").read_text()
    assert citation.get("date-released", "unreleased") == date
    assert citation["license"] == SETUP["metadata"]["license"] == "Apache-2.0"
