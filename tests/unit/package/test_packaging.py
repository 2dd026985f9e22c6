"""What is installed is the same however it is installed, and what describes it agrees."""

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
from bids_sr.cli import phantom_main, report_command
from bids_sr.cli.models import main as models_main
from bids_sr.cli.parser import build_parser

ROOT = Path(__file__).parents[3]
HOMES = {"bids_sr/workflows": "workflows", "bids_sr/boilerplate": "boilerplate"}
TOGETHER = ["bids_sr", "workflows", "boilerplate"]
LINKS = {name: f"../{folder}" for name, folder in HOMES.items()}
BUILD = (
    "import sys, setuptools.build_meta as build; print(getattr(build, sys.argv[1])(sys.argv[2]))"
)


@pytest.fixture(scope="module")
def setup() -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(ROOT / "setup.cfg")
    return parser


def test_tedana_of_this_environment_can_be_run() -> None:
    """What goes before bids-sr is installed with it, and loads a bibliography style that declares
    nothing.
    """
    done = subprocess.run(
        [sys.executable, "-c", "import tedana.workflows"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def build(source: Path, what: str, target: Path) -> Path:
    target.mkdir(exist_ok=True)
    done = subprocess.run(
        [sys.executable, "-c", BUILD, what, str(target)],
        cwd=source,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return target / done.stdout.strip().splitlines()[-1]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what is built from, committed: this checkout stays clean."""
    copy = tmp_path_factory.mktemp("copy") / "source"
    copy.mkdir()
    ignored = shutil.ignore_patterns("__pycache__")
    for name in TOGETHER:
        shutil.copytree(ROOT / name, copy / name, symlinks=True, ignore=ignored)
    for path in ROOT.iterdir():
        if path.is_file() and not path.name.startswith("."):
            shutil.copy(path, copy)
    (copy / ".gitignore").write_text((ROOT / ".gitignore").read_text())
    for name in ("usage.md", "examples/plot_1_one_run.md"):  # the second as mkdocs leaves it
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
    """Build from the copy, from its sdist and from a zip archive; from a changed copy first."""
    here = source.parent
    (source / "README.md").write_text("changed")
    made = {"changed": build(source, "build_wheel", here / "changed")}
    git(source, "checkout", "-q", "README.md")
    for kind in ("wheel", "sdist", "editable"):
        made[kind] = build(source, f"build_{kind}", here / kind)
    with tarfile.open(made["sdist"]) as archive:
        archive.extractall(here / "unpacked", filter="data")
    (unpacked,) = (here / "unpacked").iterdir()
    git(source, "archive", "--format=zip", "--prefix=from_zip/", "-o", str(here / "x.zip"), "HEAD")
    with zipfile.ZipFile(here / "x.zip") as archive:
        archive.extractall(here)
    # Python's zipfile does not restore links
    assert {(here / "from_zip" / name).is_file() for name in LINKS} == {True}
    return {
        **made,
        "of the sdist": build(unpacked, "build_wheel", here / "again"),
        "of the zip archive": build(here / "from_zip", "build_wheel", here / "from_zip_built"),
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
    """The package as it lies in the source: everything but what is made by running it."""
    found = {}
    for top in TOGETHER:
        for path in (source / top).rglob("*"):
            if path.is_file() and path.suffix != ".pyc":
                inside = path.relative_to(source).as_posix()
                found[inside if top == "bids_sr" else f"bids_sr/{inside}"] = path.read_bytes()
    return found


def test_wheel_holds_every_file_of_the_package(source: Path, wheel: dict[str, bytes]) -> None:
    assert package_of(wheel) == expected(source)
    assert "bids_sr/workflows/__init__.py" in wheel
    assert "bids_sr/boilerplate/io_spec.json" in wheel


def test_links_of_the_readme_lead_somewhere_on_the_package_index(
    wheel: dict[str, bytes], setup: configparser.ConfigParser
) -> None:
    (metadata,) = (data.decode() for name, data in wheel.items() if name.endswith("/METADATA"))
    place = rf"{re.escape(setup['metadata']['url'])}/(blob|raw)/v{re.escape(bids_sr.RELEASE)}/"
    links = re.findall(r"\]\(([^)#]+)", metadata)
    assert len(links) == len(re.findall(r"\]\(", (ROOT / "README.md").read_text())) > 30
    found = {re.fullmatch(f"{place}(.+)", link) for link in links}
    assert None not in found
    named = {(each[1], each[2]) for each in found if each}
    assert all((ROOT / name).is_file() for _, name in named)
    pictures = {name for kind, name in named if kind == "raw"}
    assert pictures == {"docs/figures/example.png", "docs/figures/people.svg"}


def test_sdist_gives_the_same_wheel(built: dict[str, Path], wheel: dict[str, bytes]) -> None:
    (unpacked,) = (built["sdist"].parents[1] / "unpacked").iterdir()
    assert [path.name for path in (unpacked / "docs").rglob("*")] == ["usage.md"]
    assert {"LICENSE", "NOTICE", "CITATION.cff", "CHANGES.md", "README.md"} <= {
        path.name for path in unpacked.iterdir()
    }
    again = contents(built["of the sdist"])
    assert package_of(again) == package_of(wheel)
    assert set(again) == set(wheel)


def test_zip_archive_without_links_gives_the_same_wheel(
    built: dict[str, Path], wheel: dict[str, bytes]
) -> None:
    files = package_of(contents(built["of the zip archive"]))
    # only git knows the commit
    assert files | {"bids_sr/commit.txt": b""} == package_of(wheel) | {"bids_sr/commit.txt": b""}


def test_a_build_restores_links_that_an_archive_lost(built: dict[str, Path]) -> None:
    """Otherwise, the package in the unpacked folder would hide the installed one."""
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
def test_types_of_every_module_are_checked_once(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the source tree, mypy finds workflows and boilerplate, too."""
    from mypy.main import process_options

    monkeypatch.chdir(ROOT)
    targets, _ = process_options(arguments)
    expected = [
        ".".join(("bids_sr", *path.parts[path.parts[0] == "bids_sr" :]))
        for top in TOGETHER
        for path in (file.relative_to(ROOT).with_suffix("") for file in (ROOT / top).rglob("*.py"))
    ]
    assert sorted(target.module for target in targets) == sorted(
        name.removesuffix(".__init__") for name in expected
    )


def test_editable_install_reaches_the_same_files(
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
    reached = {}
    for package, top in mapping.items():
        for folder, _, names in os.walk(top, followlinks=True):
            inside = Path(package.replace(".", "/"), os.path.relpath(folder, top))
            for path in (Path(folder, name) for name in names if not name.endswith(".pyc")):
                reached[(inside / path.name).as_posix()] = path.read_bytes()
    assert reached == package_of(wheel)
    scripts = [data for name, data in editable.items() if name.endswith("entry_points.txt")]
    assert scripts == [data for name, data in wheel.items() if name.endswith("entry_points.txt")]


def test_a_build_is_stamped_with_its_commit(
    source: Path, built: dict[str, Path], tmp_path: Path
) -> None:
    """Wheel, sdist and editable installation name the commit; a build of a changed checkout says
    so.
    """
    wanted = f"{bids_sr.RELEASE}+g{git(source, 'rev-parse', 'HEAD')[:9]}"
    names = ("wheel", "editable", "of the sdist")
    assert [built[name].name.split("-")[1] for name in names] == [wanted] * 3
    assert f"-{wanted}.dirty-" in built["changed"].name
    asked = [sys.executable, "-c", "import bids_sr; print(bids_sr.__version__)"]
    zipfile.ZipFile(built["of the sdist"]).extractall(tmp_path)
    shown = subprocess.run(asked, cwd=tmp_path, check=True, capture_output=True, text=True).stdout
    assert shown.strip() == wanted


def test_every_package_is_listed(setup: configparser.ConfigParser) -> None:
    listed = set(setup["options"]["packages"].split())
    found = set()
    for top in TOGETHER:
        for path in (ROOT / top).rglob("*.py"):
            parts = path.parent.relative_to(ROOT).parts
            found.add(".".join(parts if parts[0] == "bids_sr" else ("bids_sr", *parts)))
    assert found == listed
    for name in listed:
        place = name.replace(".", "/")
        for home, at in HOMES.items():
            place = at + place.removeprefix(home) if f"{place}/".startswith(f"{home}/") else place
        folder = ROOT / place
        assert (folder / "__init__.py").is_file(), f"{name} has no __init__.py"


def test_commands_lead_to_functions(setup: configparser.ConfigParser) -> None:
    import importlib

    for line in setup["options.entry_points"]["console_scripts"].strip().splitlines():
        module, _, function = line.partition("=")[2].strip().partition(":")
        assert callable(getattr(importlib.import_module(module), function))


def test_version_is_the_same_everywhere(setup: configparser.ConfigParser) -> None:
    """What is no release ends with .dev0, is unreleased in the list of changes, and has no date to
    be cited by.
    """
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    newest = re.search(
        r"^## (\S+) \((\d{4}-\d\d-\d\d|unreleased)\)$",
        (ROOT / "CHANGES.md").read_text(),
        re.MULTILINE,
    )
    assert newest is not None
    assert setup["metadata"]["version"] == "attr: bids_sr.__version__"
    release = newest[1] + (".dev0" if newest[2] == "unreleased" else "")
    assert (
        release == bids_sr.RELEASE == bids_sr.__version__.partition("+")[0] == citation["version"]
    )
    assert f'image.version="{release}"' in (ROOT / "Dockerfile").read_text()
    assert citation.get("date-released", "unreleased") == newest[2]
    assert citation["license"] == setup["metadata"]["license"] == "Apache-2.0"


def test_readme_has_the_two_lines() -> None:
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
def test_documents_name_only_options_that_there_are(document: str) -> None:
    parsers = (
        build_parser(),
        phantom_main.build_parser(),
        report_command.report_parser(),
        *models_main.parsers().values(),
    )
    known = {
        flag for parser in parsers for action in parser._actions for flag in action.option_strings
    }
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", (ROOT / document).read_text()))
    of_fmriprep = {"--level", "--subject-anatomical-reference"}
    of_tensorboard = {"--logdir"}
    assert named <= known | of_fmriprep | of_tensorboard | {"--build-arg", "--rm", "--slow"}


def test_it_is_imported_in_the_root_of_a_clone_although_the_installed_package_is_hidden() -> None:
    code = "import bids_sr, bids_sr.workflows.run, bids_sr.boilerplate; bids_sr.Evaluator"
    folders = [each for each in sys.path if Path(each).name == "site-packages"]
    packages = {"PYTHONPATH": os.pathsep.join(folders)}  # whose .pth files are not read
    subprocess.run([sys.executable, "-S", "-c", code], cwd=ROOT, env=packages, check=True)
