"""Requirements of a release: one version, derived metadata, and what is published when."""

import re
import shutil
from pathlib import Path
from types import ModuleType

import pytest
from pages import ROOT, loaded
from pybtex.database import parse_string

SOURCES = ("setup.cfg", "CITATION.cff", "CHANGES.md", "Dockerfile", "bids_sr/version.py")
TARGETS = {"setup.cfg", "CITATION.cff", "Dockerfile", "conda/recipe.yaml"}
TARGETS |= {"boilerplate/bib/bids_sr.bib"}


def edit(path: Path, *changes: tuple[str, str]) -> None:
    text = path.read_text()
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new)
    path.write_text(text)


@pytest.fixture
def metadata(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Return the script that writes metadata, for a checkout ready to be released as 9.1.0."""
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
    script = loaded(ROOT / ".ci" / "metadata.py")
    monkeypatch.setattr(script, "ROOT", tmp_path)
    return script


def test_version_authors_and_address_are_written_everywhere(metadata: ModuleType) -> None:
    assert metadata.main(["--check"]) == 1
    assert metadata.main([]) == 0
    assert metadata.main(["--check"]) == 0
    assert metadata.main(["--tag", "v9.1.0"]) == 0
    texts = {name: (metadata.ROOT / name).read_text() for name in TARGETS}
    assert {name for name, text in texts.items() if "9.1.0" not in text} == {
        "setup.cfg",  # reads the version from the package
    }
    assert not [name for name, text in texts.items() if "example.org" in text]
    assert "author = Roe, R." in texts["setup.cfg"]
    entry = parse_string(texts["boilerplate/bib/bids_sr.bib"], "bibtex").entries["bids_sr"]
    assert [str(person) for person in entry.persons["author"]] == ["Roe, R."]
    assert (entry.fields["year"], entry.fields["url"]) == ("2030", "https://lab.edu/bids-sr")


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("bids_sr/version.py", '"9.1.0"', '"9.1.1"'),
        ("bids_sr/version.py", '"9.1.0"', '"9.1.0.dev0"'),
        ("CHANGES.md", "## 9.1.0 (2030-01-02)", "## 9.1.0 (2030-01-03)"),
        ("CITATION.cff", "date-released: 2030-01-02\n", ""),
        ("CITATION.cff", "lab.edu", "example.org"),
        ("conda/recipe.yaml", "9.1.0", "9.0.0"),
    ],
)
def test_a_release_is_refused_if_its_metadata_disagree(
    metadata: ModuleType, capsys: pytest.CaptureFixture[str], file: str, old: str, new: str
) -> None:
    metadata.main([])
    edit(metadata.ROOT / file, (old, new))
    assert metadata.main(["--tag", "v9.1.0"]) == 1
    assert file in capsys.readouterr().err
