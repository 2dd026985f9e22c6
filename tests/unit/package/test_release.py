"""Requirements of a release: one version, derived metadata, no upper bounds, pinned actions."""

import configparser
import re
import shutil
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from packaging.requirements import Requirement
from pages import loaded
from pybtex.database import parse_string

ROOT = Path(__file__).parents[3]
SOURCES = ("setup.cfg", "CITATION.cff", "CHANGES.md", "Dockerfile", "bids_sr/version.py")
TARGETS = {"setup.cfg", "CITATION.cff", "Dockerfile", ".zenodo.json", "codemeta.json"}
TARGETS |= {"conda/recipe.yaml", "boilerplate/bib/bids_sr.bib"}


@pytest.fixture
def metadata() -> ModuleType:
    """Return the script that writes metadata."""
    return loaded(ROOT / ".ci" / "metadata.py")


def edit(path: Path, *changes: tuple[str, str]) -> None:
    text = path.read_text()
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new)
    path.write_text(text)


@pytest.fixture
def released(
    metadata: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[ModuleType, Path]:
    """Return the script and a checkout that is ready to be released as 9.1.0."""
    for name in SOURCES:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "conda").mkdir()
    (tmp_path / "boilerplate" / "bib").mkdir(parents=True)
    version = (ROOT / "bids_sr/version.py").read_text()
    (line,) = re.findall(r"^RELEASE = .*$", version, re.MULTILINE)
    edit(tmp_path / "bids_sr/version.py", (line, 'RELEASE = "9.1.0"'))
    edit(tmp_path / "CHANGES.md", ("(unreleased)", "(2030-01-02)"))
    (newest,) = re.findall(r"^## (\S+) \(2030", (tmp_path / "CHANGES.md").read_text(), re.M)
    edit(tmp_path / "CHANGES.md", (f"## {newest} (", "## 9.1.0 ("))
    edit(
        tmp_path / "CITATION.cff",
        ("example.org", "lab.edu"),
        ("license: ", "date-released: 2030-01-02\nlicense: "),
        ("  - name: The bids-sr developers\n", "  - family-names: Roe\n    given-names: R.\n"),
    )
    monkeypatch.setattr(metadata, "ROOT", tmp_path)
    return metadata, tmp_path


def test_metadata_are_up_to_date(metadata: ModuleType) -> None:
    assert metadata.stale() == []
    assert set(metadata.written()) == TARGETS


def test_version_authors_and_address_are_written_everywhere(
    released: tuple[ModuleType, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    script, root = released
    assert script.main(["--check"]) == 1
    assert all(f"{name} is not of today" in capsys.readouterr().err for name in ["Dockerfile"])
    assert script.main([]) == 0
    assert script.main(["--check"]) == 0
    texts = {name: (root / name).read_text() for name in TARGETS}
    assert {name for name, text in texts.items() if "9.1.0" not in text} == {
        "setup.cfg",  # reads the version from the package
        ".zenodo.json",  # Zenodo reads the version from the release
    }
    assert not [name for name, text in texts.items() if "example.org" in text]
    assert "author = Roe, R." in texts["setup.cfg"]
    assert '"name": "Roe, R."' in texts[".zenodo.json"]
    assert '"familyName": "Roe"' in texts["codemeta.json"]
    entry = parse_string(texts["boilerplate/bib/bids_sr.bib"], "bibtex").entries["bids_sr"]
    assert [str(person) for person in entry.persons["author"]] == ["Roe, R."]
    assert (entry.fields["year"], entry.fields["url"]) == ("2030", "https://lab.edu/bids-sr")


def test_the_entry_of_an_unreleased_version_has_no_placeholder_and_no_year(
    metadata: ModuleType,
) -> None:
    version, citation, _ = metadata.sources()
    citation |= {"repository-code": f"https://{metadata.PLACEHOLDER}/x", "doi": "10.5281/zenodo.1"}
    citation.pop("date-released", None)
    entry = parse_string(metadata.bibtex(version, citation), "bibtex").entries["bids_sr"]
    assert set(entry.fields) == {"title", "howpublished", "doi"}
    assert entry.fields["title"] == f"{{{citation['title']}}}"
    assert version in entry.fields["howpublished"]
    assert citation["license"] in entry.fields["howpublished"]


def test_a_tag_is_accepted_if_all_metadata_agree(released: tuple[ModuleType, Path]) -> None:
    script, _ = released
    script.main([])
    assert script.main(["--tag", "v9.1.0"]) == 0


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("bids_sr/version.py", '"9.1.0"', '"9.1.1"', "the tag is v9.1.0, bids_sr/version.py has"),
        ("bids_sr/version.py", '"9.1.0"', '"9.1.0.dev0"', "is a development version"),
        ("CHANGES.md", "## 9.1.0 (2030-01-02)", "## 9.1.0 (2030-01-03)", "does not begin with"),
        ("CHANGES.md", "## 9.1.0 (2030-01-02)", "## 9.1.0", "does not begin with"),
        ("CITATION.cff", "date-released: 2030-01-02\n", "", "has no date-released"),
        ("CITATION.cff", "lab.edu", "example.org", "placeholders instead of addresses"),
        ("codemeta.json", "9.1.0", "9.0.0", "codemeta.json is not of today"),
    ],
)
def test_reasons_that_prevent_a_release_are_named(
    released: tuple[ModuleType, Path],
    capsys: pytest.CaptureFixture[str],
    file: str,
    old: str,
    new: str,
    message: str,
) -> None:
    script, root = released
    script.main([])
    edit(root / file, (old, new))
    assert script.main(["--tag", "v9.1.0"]) == 1
    assert message in capsys.readouterr().err


def setup() -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(ROOT / "setup.cfg")
    return parser


def test_no_dependency_has_an_upper_bound() -> None:
    lines = setup()["options"]["install_requires"].strip().splitlines()
    requirements = [Requirement(line) for line in lines if not line.startswith("#")]
    assert len(requirements) > 20
    assert {part.operator for requirement in requirements for part in requirement.specifier} == {
        ">="
    }


def test_the_wheel_is_tested_with_all_declared_python_versions() -> None:
    versions = re.findall(r"Python :: (3\.\d+)", setup()["metadata"]["classifiers"])
    release = yaml.safe_load((ROOT / ".github/workflows/release.yml").read_text())
    assert release["jobs"]["install"]["strategy"]["matrix"]["python"] == versions
    checks = yaml.safe_load((ROOT / ".circleci/config.yml").read_text())["workflows"]["check"]
    (wheel,) = [job["wheel"] for job in checks["jobs"] if isinstance(job, dict) and "wheel" in job]
    assert wheel["matrix"]["parameters"]["python"] == versions


def test_publishing_requires_a_tag_and_passed_checks() -> None:
    jobs = yaml.safe_load((ROOT / ".github/workflows/release.yml").read_text())["jobs"]
    for name in ("index", "pages"):
        assert jobs[name]["if"] == "github.ref_type == 'tag'"
    (publish_step,) = [step for step in jobs["image"]["steps"] if step.get("name") == "publish"]
    assert publish_step["if"] == "github.ref_type == 'tag'"
    assert jobs["index"]["needs"] == "install"
    assert {jobs[name]["needs"] for name in ("build", "image", "site")} == {"check"}


def test_actions_are_pinned_to_commits() -> None:
    text = (ROOT / ".github/workflows/release.yml").read_text()
    actions = re.findall(r"uses: (\S+)(.*)$", text, re.MULTILINE)
    assert actions
    for action, comment in actions:
        assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", action), action
        assert re.fullmatch(r" # v\d+\.\d+\.\d+", comment), action
