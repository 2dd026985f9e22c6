"""Description, README and CHANGES of an output dataset."""

import json
from pathlib import Path

import pytest

from bids_sr.io.dataset_description import (
    RESULTS,
    dataset_root,
    read_applied,
    write_dataset,
    write_series_dataset,
)

RAW = {
    "Name": "study",
    "BIDSVersion": "1.8.0",
    "License": "CC0",
    "HEDVersion": "8.2.0",
    "Authors": ["A. One", "B. Two"],
    "ReferencesAndLinks": ["doi:10.1/x"],
    "DatasetDOI": "doi:10.2/y",
}


@pytest.fixture
def raw(tmp_path) -> Path:
    (folder := tmp_path / "study").mkdir()
    (folder / "dataset_description.json").write_text(json.dumps(RAW))
    return folder


def description_of(root: Path) -> dict[str, object]:
    return json.loads((root / "dataset_description.json").read_text())


def test_authors_and_license_are_copied_from_the_source_dataset(raw):
    out = raw / "derivatives" / "sr"
    write_dataset(
        out, bids_dir=raw, version="1.0", links={"fmriprep": raw / "derivatives" / "fmriprep"}
    )
    description = description_of(out)
    assert (description["Authors"], description["License"]) == (RAW["Authors"], "CC0")
    assert description["HEDVersion"] == "8.2.0", "tags of stored events refer to this version"
    assert "doi:10.1/x" in description["HowToAcknowledge"]
    assert description["DatasetLinks"] == {"raw": "../..", "fmriprep": "../fmriprep"}
    assert description["SourceDatasets"] == [
        {"URL": "../..", "DOI": "doi:10.2/y"},
        {"URL": "../fmriprep"},
    ]


def test_a_source_without_a_valid_description_is_accepted(tmp_path):
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "dataset_description.json").write_text("no JSON")
    write_dataset(tmp_path / "out", bids_dir=tmp_path / "study", version="1.0")
    assert not {"Authors", "License"} & set(description_of(tmp_path / "out"))
    assert "study" in description_of(tmp_path / "out")["Name"]


def test_authors_and_doi_set_by_the_user_are_kept_but_not_the_license(raw, tmp_path):
    out = tmp_path / "out"
    write_dataset(out, bids_dir=raw, version="1.0")
    path = out / "dataset_description.json"
    path.write_text(
        json.dumps(
            {
                **description_of(out),
                "Authors": ["C. Three"],
                "DatasetDOI": "doi:10.3/z",
                "License": "mine",
            }
        )
    )
    write_dataset(out, bids_dir=raw, version="1.0")
    description = description_of(out)
    assert (description["Authors"], description["DatasetDOI"]) == (["C. Three"], "doi:10.3/z")
    assert description["License"] == "CC0", "the license of the data applies"


def test_the_dataset_of_a_series_links_to_all_results(raw, tmp_path):
    write_series_dataset(tmp_path / "out", "sbl", bids_dir=raw, version="1.0")
    root = dataset_root(tmp_path / "out", "sbl")
    links = description_of(root)["DatasetLinks"]
    assert links == {"raw": "../../../study", RESULTS: "../.."}
    assert (root / links["raw"]).resolve() == raw


def test_name_and_readme_state_runs_to_which_the_method_was_not_applied(raw, tmp_path):
    """Datasets of baselines are not called super-resolved."""
    out, root = tmp_path / "out", dataset_root(tmp_path / "out", "sbl")

    def name_and_readme(**applied_by_run: bool) -> tuple[str, str]:
        for run, value in applied_by_run.items():
            for space in ("", "space-T1w_"):
                path = root / f"sub-01/func/sub-01_task-{run}_{space}desc-preproc_bold.json"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(json.dumps({"Applied": value}))
        write_series_dataset(out, "sbl", bids_dir=raw, version="1.0")
        return str(description_of(root)["Name"]), (root / "README.md").read_text()

    name, readme = name_and_readme(tap=True)
    assert "super-resolved (sbl)" in name
    assert "task-tap" not in readme
    name, readme = name_and_readme(rest=False)
    assert "1 of 2 runs" in name
    assert "sub-01_task-rest" in readme
    assert "sub-01_task-tap" not in readme
    assert read_applied(out, "sbl") == {"sub-01_task-rest": False, "sub-01_task-tap": True}
    name, readme = name_and_readme(tap=False)
    write_series_dataset(out, "bspline", bids_dir=raw, version="1.0")
    baseline = description_of(dataset_root(out, "bspline"))["Name"]
    for text in (name, readme.splitlines()[0], baseline):
        assert "super-resolved" not in text


def test_the_readme_names_files_that_exist_and_the_name_what_was_made(raw, tmp_path):
    out = tmp_path / "out"

    def write(*endings: str) -> tuple[str, str]:
        for ending in endings:
            path = out / f"sub-01/func/sub-01_task-tap_{ending}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        write_dataset(out, bids_dir=raw, version="1.0")
        return str(description_of(out)["Name"]), (out / "README.md").read_text()

    name, readme = write()
    assert "super-resolved BOLD" in name
    assert "`func/`:" not in readme
    sidecar = dataset_root(out, "sbl") / "sub-01/func/sub-01_task-tap_desc-preproc_bold.json"
    sidecar.parent.mkdir(parents=True)
    sidecar.write_text(json.dumps({"Applied": False}))
    name, readme = write("contrast-all_stat-effect_desc-bspline_statmap.nii.gz")
    assert "zero-filled BOLD" in name
    assert "super-resolved" not in readme
    assert ("desc-bspline" in readme, "sdTotal" in readme) == (True, False)
    _, readme = write("contrast-all_stat-sdTotal_desc-sbl_statmap.nii.gz")
    assert "sdTotal" in readme
    assert "Reliable" not in readme
    _, readme = write("label-all_desc-sblSignReliable_mask.nii.gz")
    assert "sblSignReliable" in readme


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
def test_the_description_names_the_container(raw, tmp_path, monkeypatch, environment, expected):
    for name in ("BIDS_SR_CONTAINER_TAG", "APPTAINER_NAME", "SINGULARITY_NAME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    write_dataset(tmp_path / "out", bids_dir=raw, version="1.0")
    (generator,) = description_of(tmp_path / "out")["GeneratedBy"]
    assert generator.get("Container") == expected


@pytest.mark.parametrize("name", ["README", "README.md"])
def test_our_readme_is_updated_and_a_readme_of_the_user_is_kept(raw, tmp_path, name):
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
