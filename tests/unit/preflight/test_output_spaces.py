"""Spaces of ``--output-spaces``: installed, downloaded by the TemplateFlow client, rejected."""

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import requests
from data.dataset import BidsMaker

from bids_sr.bids import Findings
from bids_sr.config import Paths, Settings
from bids_sr.config.sections.preprocessing import Preprocessing
from bids_sr.config.sections.run import Run
from bids_sr.config.sections.selection import Selection
from bids_sr.io import template_files
from bids_sr.io.nifti import save_image
from bids_sr.preflight import check, output_spaces

COLIN = "MNIColin27"
IMAGE = np.random.default_rng(0).integers(0, 9, (12, 12, 12)).astype(np.uint8)


def settings_for(root: Path, *spaces: str) -> Settings:
    paths = Paths(bids_dir=root / "bids", output_dir=root / "out", work_dir=root / "work")
    preprocessing = Preprocessing(output_spaces=spaces)
    return Settings(
        paths=paths, preprocessing=preprocessing, selection=Selection(skip_bids_validation=True)
    )


def check_spaces(
    root: Path, *spaces: str, labels: Sequence[str] = ("01",), without_anat: Sequence[str] = ()
) -> Findings:
    findings = Findings()
    output_spaces.check_templates(settings_for(root, *spaces), findings)
    output_spaces.check_spaces(
        settings_for(root, *spaces), findings, labels=labels, without_anat=without_anat
    )
    return findings


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Use an empty TemplateFlow folder."""
    monkeypatch.setenv("TEMPLATEFLOW_HOME", str(tmp_path / "tf"))
    return tmp_path / "tf"


def write_template(folder: Path, stem: str) -> None:
    """Write a T1w image and its brain mask."""
    folder.mkdir(parents=True, exist_ok=True)
    for ending in ("T1w", "desc-brain_mask"):
        save_image(IMAGE, np.eye(4), folder / f"{stem}_{ending}.nii.gz")


def test_installed_templates_need_neither_cache_nor_client(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "templateflow", None)  # an import fails
    spaces = ("MNI152NLin2009cAsym:res-2", "MNI152NLin2009aSym:res-1", "T1w", "func")
    assert not check_spaces(tmp_path, *spaces).problems
    assert not home.exists()


def test_the_default_template_has_the_grids_of_templateflow() -> None:
    """Grids equal fMRIPrep's outputs.

    The first voxel at 2 mm is half a millimeter outside the first voxel at 1 mm.
    """
    shape, affine = template_files.load_grid("MNI152NLin2009cAsym", "2") or ((), np.eye(4))
    assert shape == (97, 115, 97)
    assert affine.tolist() == [[2, 0, 0, -96.5], [0, 2, 0, -132.5], [0, 0, 2, -78.5], [0, 0, 0, 1]]
    shape, affine = template_files.load_grid("MNI152NLin2009cAsym", "1") or ((), np.eye(4))
    assert (shape, affine[:3, 3].tolist()) == ((193, 229, 193), [-96, -132, -78])


def test_the_grid_of_nilearns_template_is_read_from_its_image() -> None:
    for resolution in ("1", ""):
        shape, affine = template_files.load_grid("MNI152NLin2009aSym", resolution) or ((), None)
        assert (shape, affine[:3, 3].tolist()) == ((197, 233, 189), [-98, -134, -72])
    assert template_files.load_grid("MNI152NLin2009aSym", "2") is None


def test_grids_are_read_from_images_and_from_the_description(home: Path) -> None:
    """The axes of the image are not in RAS order."""
    write_template(folder := home / f"tpl-{COLIN}", f"tpl-{COLIN}_res-01")
    affine = np.array([[-1.0, 0, 0, 5], [0, 0, 2, -3], [0, 3, 0, -4], [0, 0, 0, 1]])
    for ending in ("T1w", "desc-brain_mask"):
        save_image(IMAGE[:, :6], affine, folder / f"tpl-{COLIN}_res-01_{ending}.nii.gz")
    shape, ras_affine = template_files.load_grid(COLIN, "1") or ((), np.eye(4))
    assert shape == (12, 12, 6)
    assert ras_affine.tolist() == [[1, 0, 0, -6], [0, 2, 0, -3], [0, 0, 3, -4], [0, 0, 0, 1]]
    assert template_files.load_grid(COLIN, "2") is None
    grid = {"zooms": [2, 2, 3], "origin": [-1, -2, -3.5], "shape": [9, 8, 7]}
    (folder / "template_description.json").write_text(json.dumps({"res": {"02": grid}}))
    shape, affine = template_files.load_grid(COLIN, "2") or ((), np.eye(4))
    assert (shape, np.diag(affine).tolist()) == ((9, 8, 7), [2, 2, 3, 1])
    assert affine[:3, 3].tolist() == [-1, -2, -3.5]


def test_error_of_an_unavailable_resolution_lists_resolutions(tmp_path: Path) -> None:
    (problem,) = check_spaces(tmp_path, "MNI152NLin2009cAsym:res-7").problems
    assert problem.what == "--output-spaces MNI152NLin2009cAsym:res-7"
    assert (
        "resolution 7 is not available for this template (available: res-1 (1 mm), res-2 (2 mm)"
    ) in problem.why
    assert "Use MNI152NLin2009cAsym without a resolution" in problem.remedy


def test_a_template_in_the_cache_is_found(tmp_path: Path, home: Path) -> None:
    folder = home / f"tpl-{COLIN}"
    write_template(folder, f"tpl-{COLIN}_res-01")
    assert not check_spaces(tmp_path, f"{COLIN}:res-1").problems
    assert template_files.available_templates()[-1] == COLIN
    (folder / f"tpl-{COLIN}_res-01_T1w.nii.gz").write_bytes(b"")
    assert not template_files.is_available(COLIN), "an empty file was not downloaded"


def test_a_cohort_in_the_cache_is_found(tmp_path: Path, home: Path) -> None:
    write_template(
        home / "tpl-MNIPediatricAsym" / "cohort-2", "tpl-MNIPediatricAsym_cohort-2_res-1"
    )
    assert not check_spaces(tmp_path, "MNIPediatricAsym:cohort-2:res-1").problems
    assert template_files.load_grid("MNIPediatricAsym+2", "1") is not None


def test_participants_without_a_t1w_image_only_have_the_space_of_the_run(tmp_path: Path) -> None:
    (problem,) = check_spaces(tmp_path, "func", "T1w", without_anat=("01",)).problems
    assert "no participant has one" in problem.why
    findings = check_spaces(tmp_path, "T1w", labels=("01", "02"), without_anat=("02",))
    assert not findings.problems
    assert "cannot be transformed to T1w" in findings.notices[0].why
    assert not check_spaces(tmp_path, "func", without_anat=("01",)).notices


def test_unavailable_spaces_are_rejected_in_preflight(tmp_path: Path) -> None:
    BidsMaker(tmp_path / "bids").subject()
    plan = check(settings_for(tmp_path, "MNI152NLin2009cAsym:res-9"))
    assert [problem.what for problem in plan.problems] == [
        "--output-spaces MNI152NLin2009cAsym:res-9"
    ]


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuse all requests of the client of TemplateFlow."""

    def get(url: str, **_: object) -> None:
        raise requests.exceptions.ConnectionError(url)

    monkeypatch.setattr(requests, "get", get)


def download(root: Path, space: str) -> Findings:
    """Download a template that is known to exist."""
    findings = Findings()
    settings = settings_for(root, space)
    output_spaces.check_spaces(settings, findings, labels=["01"], without_anat=[])
    return findings


def test_uncached_templates_are_rejected_without_a_network(
    tmp_path: Path, home: Path, offline: None
) -> None:
    (problem,) = download(tmp_path, COLIN).problems
    assert f"tpl-{COLIN}/tpl-{COLIN}_T1w.nii.gz could not be downloaded (Conn" in problem.why
    assert "TEMPLATEFLOW_HOME" in problem.remedy
    assert f"api.get('{COLIN}')" in problem.remedy
    assert not [path for path in home.rglob("*.nii.gz") if path.stat().st_size], (
        "no partial file is left"
    )


def test_the_dry_run_only_reports_a_download(tmp_path: Path, home: Path, offline: None) -> None:
    spaces = ("MNI152NLin6Asym:res-2", "MNIInfant:cohort-11", "PNC", "OASIS30ANTs", COLIN)
    settings = replace(settings_for(tmp_path, *spaces), run=Run(dry_run=True))
    findings = Findings()
    output_spaces.check_templates(settings, findings)
    output_spaces.check_spaces(settings, findings, labels=["01"], without_anat=[])
    assert findings.problems == []
    assert [notice.what for notice in findings.notices] == [
        f"--output-spaces {space}" for space in spaces
    ]
    assert "will be downloaded when processing starts" in findings.notices[0].why


NONEXISTENT_SPACES = {
    "T2w": ("no output space has this name", "func, T1w, fsnative"),
    "sbref": ("no output space has this name", "MNI152NLin2009cAsym"),
    "MNI152NLin2009cASym": ("no output space has this name", "Did you mean MNI152NLin2009"),
    "MNIPediatricAsym": ("requires a cohort", "cohorts are 1, 2, 3, 4, 5, 6"),
    "MNIPediatricAsym:cohort-9": ("no cohort 9", "cohorts are 1, 2, 3, 4, 5, 6"),
    "MNI152Lin:cohort-1": ("has no cohorts", "Use MNI152Lin without a cohort"),
    "MNI152Lin:res-5": ("5 is not available for this template (available: res-1 (1 mm)", "Lin w"),
    "UNCInfant:cohort-1": ("does not include a brain mask", "Choose another"),
    "Own": ("tpl-Own does not contain a T1w image and a brain mask", "Choose another"),
    "WHS": ("does not include a T1w image", "Choose another"),
}


def test_spaces_that_do_not_exist_are_rejected_before_the_data_set_is_read(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch, offline: None
) -> None:
    """The list of templates is complete, also if the cache only contains some templates."""
    write_template(home / f"tpl-{COLIN}", f"tpl-{COLIN}")
    (home / "tpl-Own").mkdir()
    monkeypatch.setattr("bids_sr.preflight.checks.survey", lambda _: pytest.fail("data set read"))
    BidsMaker(tmp_path / "bids").subject()
    problems = check(settings_for(tmp_path, "func", *NONEXISTENT_SPACES)).problems
    for problem, (space, (reason, advice)) in zip(
        problems, NONEXISTENT_SPACES.items(), strict=True
    ):
        assert (problem.what, problem.code) == (f"--output-spaces {space}", "option")
        assert reason in problem.why
        assert advice in problem.remedy


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder from which the client of TemplateFlow downloads."""

    class Response:
        status_code = 200

        def __init__(self, content: bytes) -> None:
            self.content = content
            self.headers = {"content-length": str(len(content))}

        def iter_content(self, _: int) -> list[bytes]:
            return [self.content]

    def get(url: str, **_: object) -> Response:
        return Response((tmp_path / "s3" / url.partition(".com/")[2]).read_bytes())

    monkeypatch.setattr(requests, "get", get)
    return tmp_path / "s3"


def test_templates_are_downloaded_if_there_is_a_network(
    tmp_path: Path, home: Path, server: Path
) -> None:
    stem = "tpl-MNIPediatricAsym_cohort-2"
    write_template(folder := server / "tpl-MNIPediatricAsym" / "cohort-2", f"{stem}_res-1")
    save_image(IMAGE[:6], np.eye(4), folder / f"{stem}_res-2_T1w.nii.gz")
    for tissue in ("GM", "WM"):
        save_image(IMAGE, np.eye(4), folder / f"{stem}_res-1_label-{tissue}_probseg.nii.gz")
    assert download(tmp_path, "MNIPediatricAsym:cohort-2:res-2").problems == []
    assert {path.relative_to(home / "tpl-MNIPediatricAsym") for path in filled_files(home)} >= {
        Path("template_description.json"),
        *(path.relative_to(folder.parent) for path in filled_files(server)),
    }
    assert template_files.is_available("MNIPediatricAsym+2")
    shape, _ = template_files.load_grid("MNIPediatricAsym+2", "2") or ((), None)
    assert shape == (6, 12, 12)


def filled_files(folder: Path) -> list[Path]:
    """Return the files of a template that are not empty."""
    paths = folder.glob("tpl-MNIPediatricAsym/**/*")
    return [path for path in paths if path.is_file() and path.stat().st_size]


def test_a_failed_download_leaves_no_file(tmp_path: Path, home: Path, server: Path) -> None:
    """The T1w image can be downloaded, but not the brain mask."""
    stem = f"tpl-{COLIN}/tpl-{COLIN}"
    (server / f"tpl-{COLIN}").mkdir(parents=True)
    save_image(IMAGE, np.eye(4), server / f"{stem}_T1w.nii.gz")
    (problem,) = download(tmp_path, COLIN).problems
    assert f"{stem}_desc-brain_mask.nii.gz could not be downloaded" in problem.why
    assert not [path for path in home.rglob("*.nii.gz") if path.stat().st_size]


def test_a_directory_that_is_not_writable_is_reported(
    tmp_path: Path, home: Path, server: Path
) -> None:
    write_template(server / f"tpl-{COLIN}", f"tpl-{COLIN}")
    home.mkdir()
    (home / f"tpl-{COLIN}").touch()  # a file instead of a folder
    (problem,) = download(tmp_path, COLIN).problems
    assert f"the TemplateFlow directory {home} is not writable" in problem.why
    assert "TEMPLATEFLOW_HOME" in problem.remedy
