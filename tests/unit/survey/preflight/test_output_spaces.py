"""Spaces of ``--output-spaces``: installed, downloaded by the TemplateFlow client, rejected."""

import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import requests
from data.calls import about, problem_of

from bids_sr.config import Paths, Settings
from bids_sr.config.sections.preprocessing import Preprocessing
from bids_sr.config.sections.run import Run
from bids_sr.io import template_files
from bids_sr.io.nifti import save_image
from bids_sr.io.notices import Notice
from bids_sr.survey.notices import judge
from bids_sr.survey.preflight.checks import plan_call
from bids_sr.survey.preflight.output_spaces import judge_spaces, judge_templates

COLIN = "MNIColin27"
PEDIATRIC = "MNIPediatricAsym"
IMAGE = np.random.default_rng(0).integers(0, 9, (12, 12, 12)).astype(np.uint8)


def settings_of(*spaces: str, dry_run: bool = False) -> Settings:
    return Settings(
        paths=Paths(bids_dir=Path("bids"), output_dir=Path("out")),
        preprocessing=Preprocessing(output_spaces=spaces),
        run=Run(dry_run=dry_run),
    )


def reported(
    *spaces: str,
    labels: Sequence[str] = ("01",),
    without_anat: Sequence[str] = (),
    dry_run: bool = False,
) -> list[Notice]:
    """Return what is reported of output spaces, whose names exist."""
    settings = settings_of(*spaces, dry_run=dry_run)
    return list(judge_spaces(settings, labels=labels, without_anat=without_anat))


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


# ---- templates on this machine


def test_the_default_template_has_the_grids_of_templateflow() -> None:
    """Grids equal fMRIPrep's outputs.

    The first voxel at 2 mm is half a millimeter outside the first voxel at 1 mm.
    """
    shape, affine = template_files.load_grid("MNI152NLin2009cAsym", "2") or ((), np.eye(4))
    assert shape == (97, 115, 97)
    assert affine.tolist() == [[2, 0, 0, -96.5], [0, 2, 0, -132.5], [0, 0, 2, -78.5], [0, 0, 0, 1]]
    shape, affine = template_files.load_grid("MNI152NLin2009cAsym", "1") or ((), np.eye(4))
    assert (shape, affine[:3, 3].tolist()) == ((193, 229, 193), [-96, -132, -78])


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


def test_templates_in_the_cache_are_found(home: Path) -> None:
    folder = home / f"tpl-{COLIN}"
    write_template(folder, f"tpl-{COLIN}_res-01")
    assert reported(f"{COLIN}:res-1") == []
    assert template_files.available_templates()[-1] == COLIN
    (folder / f"tpl-{COLIN}_res-01_T1w.nii.gz").write_bytes(b"")
    assert not template_files.is_available(COLIN), "an empty file was not downloaded"
    write_template(home / f"tpl-{PEDIATRIC}" / "cohort-2", f"tpl-{PEDIATRIC}_cohort-2_res-1")
    assert reported(f"{PEDIATRIC}:cohort-2:res-1") == []
    assert template_files.load_grid(f"{PEDIATRIC}+2", "1") is not None


def test_participants_without_a_t1w_image_only_have_the_space_of_the_run() -> None:
    problem_of(
        reported("func", "T1w", without_anat=("01",)), "--output-spaces", "func", code="option"
    )
    (notice,) = about(reported("T1w", labels=("01", "02"), without_anat=("02",)), "sub-02", "T1w")
    assert (notice.level, notice.subject) == ("note", "02")
    assert reported("func", without_anat=("01",)) == []


# ---- templates of TemplateFlow

EXISTING = ("MNI152NLin6Asym:res-2", "MNIInfant:cohort-11", "PNC", "OASIS30ANTs", COLIN)
NONEXISTENT = {
    "T2w": ["func", "T1w", "fsnative"],
    "sbref": ["MNI152NLin2009cAsym"],
    "MNI152NLin2009cASym": ["MNI152NLin2009cAsym?"],
    PEDIATRIC: ["1, 2, 3, 4, 5, 6"],
    f"{PEDIATRIC}:cohort-9": ["9", "1, 2, 3, 4, 5, 6"],
    "MNI152Lin:cohort-1": ["MNI152Lin"],
    "MNI152Lin:res-5": ["5", "res-1 (1 mm)", "MNI152Lin"],
    "UNCInfant:cohort-1": ["brain"],
    "Own": ["brain"],
    "WHS": ["T1w"],
}


def test_spaces_that_do_not_exist_are_refused(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The list of templates is complete, also if the cache only contains some templates."""
    monkeypatch.setattr(requests, "get", lambda url, **_: pytest.fail("network"))
    write_template(home / "tpl-OASIS30ANTs", "tpl-OASIS30ANTs_res-01")
    (home / "tpl-Own").mkdir()
    settings = settings_of("func", *EXISTING, *NONEXISTENT)
    problems = list(judge((judge_templates,), settings))
    for problem, (space, values) in zip(problems, NONEXISTENT.items(), strict=True):
        problem_of([problem], f"--output-spaces {space}", *values, code="option")
    assert plan_call(settings_of("sbref"), lambda _: pytest.fail("data set read")).problems


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return a client of TemplateFlow, which takes seconds to start."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TEMPLATEFLOW_HOME", str(tmp_path_factory.mktemp("home")))
        from templateflow import TemplateFlowClient

        return TemplateFlowClient(root=tmp_path_factory.mktemp("flow"), use_datalad=False)


@pytest.mark.parametrize("space", [f"{PEDIATRIC}:cohort-2", COLIN])
def test_the_plan_names_a_command_that_stores_the_template_beforehand(
    client: Any, monkeypatch: pytest.MonkeyPatch, space: str
) -> None:
    (notice,) = reported(space, dry_run=True)
    (code,) = re.findall('python -c "(.*)"', notice.why)
    names: list[str] = []
    api = SimpleNamespace(
        get=lambda *name, **query: names.extend(path.name for path in client.ls(*name, **query))
    )
    monkeypatch.setitem(sys.modules, "templateflow", SimpleNamespace(api=api))
    exec(code)
    stem = f"tpl-{COLIN}" if space == COLIN else f"tpl-{PEDIATRIC}_cohort-2_res-1"
    assert {f"{stem}_T1w.nii.gz", f"{stem}_desc-brain_mask.nii.gz"} <= {*names}
    assert space == COLIN or f"{stem}_label-GM_probseg.nii.gz" in names
    assert not [name for name in names if "cohort-1" in name]


class Response:
    """Answer of a server with the content of a file."""

    status_code = 200

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.headers = {"content-length": str(len(content))}

    def iter_content(self, _: int) -> list[bytes]:
        return [self.content]


@pytest.fixture
def server(client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder from which the client downloads; other files cannot be downloaded."""
    monkeypatch.setattr("templateflow.TemplateFlowClient", lambda **_: client)

    def get(url: str, **_: object) -> Response:
        path = tmp_path / "s3" / url.partition(".com/")[2]
        if not path.exists():
            raise requests.exceptions.ConnectionError(url)
        return Response(path.read_bytes())

    monkeypatch.setattr(requests, "get", get)
    return tmp_path / "s3"


def filled_files(folder: Path) -> set[Path]:
    """Return the files that are not empty, relative to the folder."""
    paths = [path for path in folder.rglob("*.*") if path.is_file() and path.stat().st_size]
    return {path.relative_to(folder) for path in paths}


def test_a_template_with_cohort_resolution_and_tissues_is_downloaded(
    home: Path, server: Path
) -> None:
    stem = f"tpl-{PEDIATRIC}_cohort-2"
    write_template(folder := server / f"tpl-{PEDIATRIC}" / "cohort-2", f"{stem}_res-1")
    save_image(IMAGE[:6], np.eye(4), folder / f"{stem}_res-2_T1w.nii.gz")
    for tissue in ("GM", "WM"):
        save_image(IMAGE, np.eye(4), folder / f"{stem}_res-1_label-{tissue}_probseg.nii.gz")
    assert reported(f"{PEDIATRIC}:cohort-2:res-2") == []
    description = Path(f"tpl-{PEDIATRIC}") / "template_description.json"
    assert filled_files(home) >= {description, *filled_files(server)}
    assert template_files.is_available(f"{PEDIATRIC}+2")
    shape, _ = template_files.load_grid(f"{PEDIATRIC}+2", "2") or ((), None)
    assert shape == (6, 12, 12)


@pytest.mark.parametrize("obstacle", ["mask", "directory"])
def test_a_failed_download_is_refused_and_leaves_no_image(
    home: Path, server: Path, obstacle: str
) -> None:
    """The brain mask does not exist on the server, or a file is in place of the folder."""
    write_template(server / f"tpl-{COLIN}", f"tpl-{COLIN}")
    values = [f"api.get('{COLIN}',", "TEMPLATEFLOW_HOME"]
    if obstacle == "mask":
        (server / f"tpl-{COLIN}" / f"tpl-{COLIN}_desc-brain_mask.nii.gz").unlink()
        values.append(f"tpl-{COLIN}/tpl-{COLIN}_desc-brain_mask.nii.gz")
    else:
        home.mkdir()
        (home / f"tpl-{COLIN}").touch()
        values = ["TEMPLATEFLOW_HOME"]
    problem_of(reported(COLIN), f"--output-spaces {COLIN}", *values, code="option")
    assert not [path for path in filled_files(home) if path.name.endswith(".nii.gz")]
