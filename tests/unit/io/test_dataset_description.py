"""What is said of a data set of results: description, README and CHANGES."""

import json
from pathlib import Path

import pytest

from bids_sr.io.dataset_description import RESULTS, _link_to, applied_in, dataset_of, write_dataset

RAW = {
    "Name": "study",
    "BIDSVersion": "1.8.0",
    "License": "CC0",
    "Authors": ["A. One", "B. Two"],
    "ReferencesAndLinks": ["doi:10.1/x"],
    "DatasetDOI": "doi:10.2/y",
}


@pytest.fixture
def raw(tmp_path) -> Path:
    (folder := tmp_path / "study").mkdir()
    (folder / "dataset_description.json").write_text(json.dumps(RAW))
    return folder


def told(root: Path) -> dict[str, object]:
    return json.loads((root / "dataset_description.json").read_text())


def test_results_are_of_the_authors_and_under_the_license_of_their_source(raw):
    out = raw / "derivatives" / "sr"
    write_dataset(
        out, bids_dir=raw, version="1.0", links={"fmriprep": raw / "derivatives" / "fmriprep"}
    )
    found = told(out)
    assert (found["Authors"], found["License"]) == (RAW["Authors"], "CC0")
    assert found["HowToAcknowledge"].endswith("For the data: doi:10.1/x")
    assert found["DatasetLinks"] == {"raw": "../..", "fmriprep": "../fmriprep"}
    assert found["SourceDatasets"] == [
        {"URL": "../..", "DOI": "doi:10.2/y"},
        {"URL": "../fmriprep"},
    ]


def test_a_source_without_a_description_is_no_hindrance(tmp_path):
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "dataset_description.json").write_text("no JSON")
    write_dataset(tmp_path / "out", bids_dir=tmp_path / "study", version="1.0")
    assert not {"Authors", "License"} & set(told(tmp_path / "out"))
    assert "study" in told(tmp_path / "out")["Name"]


def test_who_publishes_results_names_authors_once(raw, tmp_path):
    out = tmp_path / "out"
    write_dataset(out, bids_dir=raw, version="1.0")
    path = out / "dataset_description.json"
    path.write_text(
        json.dumps(
            {**told(out), "Authors": ["C. Three"], "DatasetDOI": "doi:10.3/z", "License": "mine"}
        )
    )
    write_dataset(out, bids_dir=raw, version="1.0")
    found = told(out)
    assert (found["Authors"], found["DatasetDOI"]) == (["C. Three"], "doi:10.3/z")
    assert found["License"] == "CC0", "that of the data binds"


def test_the_data_set_of_a_series_names_all_results(raw, tmp_path):
    write_dataset(tmp_path / "out", bids_dir=raw, version="1.0", series="sbl")
    root = dataset_of(tmp_path / "out", "sbl")
    links = told(root)["DatasetLinks"]
    assert links == {"raw": "../../../study", RESULTS: "../.."}
    assert (root / links["raw"]).resolve() == raw
    assert "../../CITATION.md" in told(root)["HowToAcknowledge"]
    assert "hard links" in (root / "README.md").read_text()


def test_a_data_set_of_a_method_that_was_not_applied_says_what_it_holds(raw, tmp_path):
    """In its name and at the start of its README; baselines are not called super-resolved."""
    out, root = tmp_path / "out", dataset_of(tmp_path / "out", "sbl")

    def described(**applied: bool) -> tuple[str, str]:
        for run, value in applied.items():
            for space in ("", "space-T1w_"):
                path = root / f"sub-01/func/sub-01_task-{run}_{space}desc-preproc_bold.json"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(json.dumps({"Applied": value}))
        write_dataset(out, bids_dir=raw, version="1.0", series="sbl")
        return str(told(root)["Name"]), (root / "README.md").read_text()

    name, readme = described(tap=True)
    assert name == "bids-sr: BOLD of study, super-resolved (sbl)"
    assert "zero filling" not in readme
    name, readme = described(rest=False)
    assert name == "bids-sr: BOLD of study, super-resolved (sbl); 1 of 2 runs zero filled"
    assert readme.splitlines()[2].startswith(
        "**Not super-resolved: sub-01_task-rest.** sbl was not applied"
    )
    assert applied_in(out, "sbl") == {"sub-01_task-rest": False, "sub-01_task-tap": True}
    name, readme = described(tap=False)
    assert name == "bids-sr: zero-filled BOLD series of study (sbl was not applied)"
    assert "super-resolved" not in readme.splitlines()[0]
    write_dataset(out, bids_dir=raw, version="1.0", series="bspline")
    assert (
        told(dataset_of(out, "bspline"))["Name"]
        == "bids-sr: BOLD of study, cubic B-spline interpolation"
    )


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, None),
        ({"BIDS_SR_CONTAINER_TAG": "bids-sr:1"}, {"Type": "docker", "Tag": "bids-sr:1"}),
        (
            {"BIDS_SR_CONTAINER_TAG": "bids-sr:1", "APPTAINER_NAME": "x.sif"},
            {"Type": "singularity", "Tag": "bids-sr:1"},
        ),
        ({"SINGULARITY_NAME": "x.sif"}, {"Type": "singularity", "Tag": "x.sif"}),
    ],
)
def test_results_name_the_container_that_made_them(
    raw, tmp_path, monkeypatch, environment, expected
):
    for name in ("BIDS_SR_CONTAINER_TAG", "APPTAINER_NAME", "SINGULARITY_NAME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    write_dataset(tmp_path / "out", bids_dir=raw, version="1.0")
    (made,) = told(tmp_path / "out")["GeneratedBy"]
    assert made.get("Container") == expected


def test_what_has_nothing_in_common_is_linked_from_the_root():
    assert _link_to(Path("/input/study"), Path("/output")) == "file:///input/study"


@pytest.mark.parametrize("name", ["README", "README.md", "README.rst"])
def test_a_readme_of_the_user_stays_and_ours_is_brought_up_to_date(raw, tmp_path, name):
    out = tmp_path / "out"
    write_dataset(out, bids_dir=raw, version="1.0")
    (out / "README.md").write_text((out / "README.md").read_text().replace("report", "REPORT"))
    write_dataset(out, bids_dir=raw, version="1.0")
    assert "REPORT" not in (out / "README.md").read_text()
    (out / "README.md").unlink()
    (out / name).write_text("mine\n")
    write_dataset(out, bids_dir=raw, version="1.0")
    assert [path.name for path in out.glob("README*")] == [name]
    assert (out / name).read_text() == "mine\n"


def test_changes_have_an_entry_for_each_version_and_the_same_one_changes_nothing(raw, tmp_path):
    out = tmp_path / "out"
    for version in ("1.0", "1.0", "1.1", "1.0"):
        write_dataset(out, bids_dir=raw, version=version)
    lines = (out / "CHANGES").read_text().splitlines()
    assert [line.split()[0] for line in lines if line and line[0].isdigit()] == ["1.1", "1.0"]
