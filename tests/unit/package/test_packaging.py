"""Wheel, sdist, zip archive and editable installation are equal and agree with the metadata."""

import ast
import configparser
import os
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
from bids_sr.cli.parser import build_parser
from bids_sr.model_commands.cli import main as models_main
from bids_sr.phantom import cli as phantom_cli

ROOT = Path(__file__).parents[3]
HOMES = {"bids_sr/workflows": "workflows", "bids_sr/boilerplate": "boilerplate"}
PACKAGE_FOLDERS = ["bids_sr", "workflows", "boilerplate"]
LINKS = {name: f"../{folder}" for name, folder in HOMES.items()}
BUILD = (
    "import sys, setuptools.build_meta as build; print(getattr(build, sys.argv[1])(sys.argv[2]))"
)


@pytest.fixture(scope="module")
def setup() -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(ROOT / "setup.cfg")
    return parser


def test_tedana_of_this_environment_can_be_imported() -> None:
    """tedana loads a bibliography style without declaring this dependency; we install it."""
    process = subprocess.run(
        [sys.executable, "-c", "import tedana.workflows"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr


def build(source: Path, kind: str, target: Path) -> Path:
    target.mkdir(exist_ok=True)
    process = subprocess.run(
        [sys.executable, "-c", BUILD, kind, str(target)],
        cwd=source,
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    return target / process.stdout.strip().splitlines()[-1]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a committed copy of the sources, so that this checkout stays clean."""
    copy = tmp_path_factory.mktemp("copy") / "source"
    copy.mkdir()
    ignored = shutil.ignore_patterns("__pycache__")
    for name in PACKAGE_FOLDERS:
        shutil.copytree(ROOT / name, copy / name, symlinks=True, ignore=ignored)
    for path in ROOT.iterdir():
        if path.is_file() and not path.name.startswith("."):
            shutil.copy(path, copy)
    (copy / ".gitignore").write_text((ROOT / ".gitignore").read_text())
    for name in ("usage.md", "examples/plot_1_one_run.md"):  # the second is written by mkdocs
        (copy / "docs" / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / "docs" / name).write_text("text")
    git(copy, "init", "-q")
    git(copy, "add", "-A")
    git(copy, "-c", "user.name=x", "-c", "user.email=x@example.org", "commit", "-qm", "x")
    return copy


def git(folder: Path, *words: str) -> str:
    return subprocess.run(
        ["git", *words], cwd=folder, check=True, capture_output=True, text=True
    ).stdout


@pytest.fixture(scope="module")
def built(source: Path) -> dict[str, Path]:
    """Build from the copy, from its sdist and from a zip archive; first from a modified copy."""
    folder = source.parent
    (source / "README.md").write_text("changed")
    builds = {"changed": build(source, "build_wheel", folder / "changed")}
    git(source, "checkout", "-q", "README.md")
    for kind in ("wheel", "sdist", "editable"):
        builds[kind] = build(source, f"build_{kind}", folder / kind)
    with tarfile.open(builds["sdist"]) as archive:
        archive.extractall(folder / "unpacked", filter="data")
    (unpacked,) = (folder / "unpacked").iterdir()
    git(
        source,
        "archive",
        "--format=zip",
        "--prefix=from_zip/",
        "-o",
        str(folder / "x.zip"),
        "HEAD",
    )
    with zipfile.ZipFile(folder / "x.zip") as archive:
        archive.extractall(folder)
    # Python's zipfile does not restore links
    assert {(folder / "from_zip" / name).is_file() for name in LINKS} == {True}
    return {
        **builds,
        "of the sdist": build(unpacked, "build_wheel", folder / "again"),
        "of the zip archive": build(folder / "from_zip", "build_wheel", folder / "from_zip_built"),
    }


@pytest.fixture(scope="module")
def wheel(built: dict[str, Path]) -> dict[str, bytes]:
    return contents(built["wheel"])


def contents(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist() if not name.endswith("/")}


def package_of(files: dict[str, bytes]) -> dict[str, bytes]:
    return {name: data for name, data in files.items() if name.startswith("bids_sr/")}


def expected(source: Path) -> dict[str, bytes]:
    """Return the files of the package in the sources, without compiled files."""
    files = {}
    for top in PACKAGE_FOLDERS:
        for path in (source / top).rglob("*"):
            if path.is_file() and path.suffix != ".pyc":
                name = path.relative_to(source).as_posix()
                files[name if top == "bids_sr" else f"bids_sr/{name}"] = path.read_bytes()
    return files


def test_the_wheel_contains_all_files_of_the_package(
    source: Path, wheel: dict[str, bytes]
) -> None:
    assert package_of(wheel) == expected(source)
    assert "bids_sr/workflows/__init__.py" in wheel
    assert "bids_sr/boilerplate/io_spec.json" in wheel


def test_links_of_the_readme_are_absolute_on_the_package_index(
    wheel: dict[str, bytes], setup: configparser.ConfigParser
) -> None:
    (metadata,) = (data.decode() for name, data in wheel.items() if name.endswith("/METADATA"))
    place = rf"{re.escape(setup['metadata']['url'])}/(blob|raw)/v{re.escape(bids_sr.RELEASE)}/"
    links = re.findall(r"\]\(([^)#]+)", metadata)
    assert len(links) == len(re.findall(r"\]\(", (ROOT / "README.md").read_text())) > 30
    matches = {re.fullmatch(f"{place}(.+)", link) for link in links}
    assert None not in matches
    targets = {(match[1], match[2]) for match in matches if match}
    assert all((ROOT / name).is_file() for _, name in targets)
    pictures = {name for kind, name in targets if kind == "acquired"}
    assert pictures == {"docs/figures/example.png", "docs/figures/people.svg"}


def test_the_sdist_builds_the_same_wheel(built: dict[str, Path], wheel: dict[str, bytes]) -> None:
    (unpacked,) = (built["sdist"].parents[1] / "unpacked").iterdir()
    assert [path.name for path in (unpacked / "docs").rglob("*")] == ["usage.md"]
    assert {"LICENSE", "NOTICE", "CITATION.cff", "CHANGES.md", "README.md"} <= {
        path.name for path in unpacked.iterdir()
    }
    rebuilt = contents(built["of the sdist"])
    assert package_of(rebuilt) == package_of(wheel)
    assert set(rebuilt) == set(wheel)


def test_a_zip_archive_without_links_builds_the_same_wheel(
    built: dict[str, Path], wheel: dict[str, bytes]
) -> None:
    files = package_of(contents(built["of the zip archive"]))
    # the commit is only available from git
    assert files | {"bids_sr/commit.txt": b""} == package_of(wheel) | {"bids_sr/commit.txt": b""}


def test_a_build_restores_links_that_an_archive_lost(built: dict[str, Path]) -> None:
    """Otherwise, the package in the unpacked folder would hide the installed package."""
    (from_sdist,) = (built["sdist"].parents[1] / "unpacked").iterdir()
    from_zip = built["sdist"].parents[1] / "from_zip"
    for tree in (from_sdist, from_zip):
        assert {name: (tree / name).readlink().as_posix() for name in LINKS} == LINKS


def test_links_of_the_package_are_relative_and_tracked() -> None:
    assert {name: (ROOT / name).readlink().as_posix() for name in LINKS} == LINKS
    if (ROOT / ".git").exists():
        tracked = git(ROOT, "ls-files", "--stage", "--", *LINKS).splitlines()
        assert [line.partition(" ")[0] for line in tracked] == ["120000"] * len(LINKS)


@pytest.mark.parametrize("arguments", [[], ["."]])
def test_mypy_checks_all_modules_once(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the source tree, mypy also finds workflows and boilerplate."""
    from mypy.main import process_options

    monkeypatch.chdir(ROOT)
    targets, _ = process_options(arguments)
    expected = [
        ".".join(("bids_sr", *path.parts[path.parts[0] == "bids_sr" :]))
        for top in PACKAGE_FOLDERS
        for path in (file.relative_to(ROOT).with_suffix("") for file in (ROOT / top).rglob("*.py"))
    ]
    assert sorted(target.module for target in targets) == sorted(
        name.removesuffix(".__init__") for name in expected
    )


def test_an_editable_installation_contains_the_same_files(
    built: dict[str, Path], wheel: dict[str, bytes]
) -> None:
    editable = contents(built["editable"])
    finder = next(data for name, data in editable.items() if name.endswith("finder.py")).decode()
    mapping = next(
        ast.literal_eval(node.value)
        for node in ast.parse(finder).body
        if isinstance(node, ast.AnnAssign | ast.Assign)
        and "MAPPING" in ast.unparse(node)[:10]
        and node.value
    )
    files = {}
    for package, top in mapping.items():
        for folder, _, names in os.walk(top, followlinks=True):
            package_path = Path(package.replace(".", "/"), os.path.relpath(folder, top))
            for path in (Path(folder, name) for name in names if not name.endswith(".pyc")):
                files[(package_path / path.name).as_posix()] = path.read_bytes()
    assert files == package_of(wheel)
    scripts = [data for name, data in editable.items() if name.endswith("entry_points.txt")]
    assert scripts == [data for name, data in wheel.items() if name.endswith("entry_points.txt")]


def test_a_build_is_stamped_with_its_commit(
    source: Path, built: dict[str, Path], tmp_path: Path
) -> None:
    """Wheel, sdist and editable installation name the commit; a modified checkout is "dirty"."""
    version = f"{bids_sr.RELEASE}+g{git(source, 'rev-parse', 'HEAD')[:9]}"
    names = ("wheel", "editable", "of the sdist")
    assert [built[name].name.split("-")[1] for name in names] == [version] * 3
    assert f"-{version}.dirty-" in built["changed"].name
    command = [sys.executable, "-c", "import bids_sr; print(bids_sr.__version__)"]
    zipfile.ZipFile(built["of the sdist"]).extractall(tmp_path)
    output = subprocess.run(
        command, cwd=tmp_path, check=True, capture_output=True, text=True
    ).stdout
    assert output.strip() == version


def test_all_packages_are_listed(setup: configparser.ConfigParser) -> None:
    listed = set(setup["options"]["packages"].split())
    packages = set()
    for top in PACKAGE_FOLDERS:
        for path in (ROOT / top).rglob("*.py"):
            parts = path.parent.relative_to(ROOT).parts
            packages.add(".".join(parts if parts[0] == "bids_sr" else ("bids_sr", *parts)))
    assert packages == listed
    for name in listed:
        place = name.replace(".", "/")
        for home, target in HOMES.items():
            place = (
                target + place.removeprefix(home) if f"{place}/".startswith(f"{home}/") else place
            )
        folder = ROOT / place
        assert (folder / "__init__.py").is_file(), f"{name} has no __init__.py"


def test_console_scripts_are_functions(setup: configparser.ConfigParser) -> None:
    import importlib

    for line in setup["options.entry_points"]["console_scripts"].strip().splitlines():
        module, _, function = line.partition("=")[2].strip().partition(":")
        assert callable(getattr(importlib.import_module(module), function))


def test_version_is_the_same_everywhere(setup: configparser.ConfigParser) -> None:
    """Development versions end with .dev0, are "unreleased" in CHANGES, and have no date."""
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    latest = re.search(
        r"^## (\S+) \((\d{4}-\d\d-\d\d|unreleased)\)$",
        (ROOT / "CHANGES.md").read_text(),
        re.MULTILINE,
    )
    assert latest is not None
    assert setup["metadata"]["version"] == "attr: bids_sr.__version__"
    release = latest[1] + (".dev0" if latest[2] == "unreleased" else "")
    assert (
        release == bids_sr.RELEASE == bids_sr.__version__.partition("+")[0] == citation["version"]
    )
    assert f'image.version="{release}"' in (ROOT / "Dockerfile").read_text()
    assert citation.get("date-released", "unreleased") == latest[2]
    assert citation["license"] == setup["metadata"]["license"] == "Apache-2.0"


def test_the_readme_contains_the_commands_to_run_the_example_and_the_tests() -> None:
    lines = (ROOT / "README.md").read_text().splitlines()
    install = "python3 -m venv .venv && . .venv/bin/activate && pip install -e "
    assert lines.count(install + ". && bids-sr examples/studyforrest out participant") == 1
    assert lines.count(install + "'.[tests]' && pytest") == 1


@pytest.mark.parametrize(
    "document",
    [
        "README.md",
        "docs/usage.md",
        "docs/methods.md",
        "docs/models.md",
        "docs/outputs.md",
        "docs/limits.md",
    ],
)
def test_options_named_in_documents_exist(document: str) -> None:
    parsers = (
        build_parser(),
        phantom_cli.build_parser(),
        *models_main.parsers().values(),
    )
    options = {
        flag for parser in parsers for action in parser._actions for flag in action.option_strings
    }
    names = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", (ROOT / document).read_text()))
    fmriprep_options = {"--level", "--subject-anatomical-reference"}
    tensorboard_options = {"--logdir"}
    assert names <= options | fmriprep_options | tensorboard_options | {
        "--build-arg",
        "--rm",
        "--slow",
    }


def test_the_package_can_be_imported_from_the_root_of_a_clone() -> None:
    code = (
        "import bids_sr, bids_sr.workflows.run, bids_sr.boilerplate;"
        "print(bids_sr.SuperResolver.__name__, bids_sr.__file__)"
    )
    folders = [path for path in sys.path if Path(path).name == "site-packages"]
    packages = {
        "PYTHONPATH": os.pathsep.join(folders)
    }  # .pth files are not read, so the installed package is hidden
    done = subprocess.run(
        [sys.executable, "-S", "-c", code],
        cwd=ROOT,
        env=packages,
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout.split() == ["SuperResolver", str(ROOT / "bids_sr" / "__init__.py")]
