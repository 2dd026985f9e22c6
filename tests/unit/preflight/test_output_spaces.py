"""Spaces of ``--output-spaces``: installed, downloaded by the TemplateFlow client, rejected."""

import functools
import http.server
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from bidsmaker import BidsMaker

from bids_sr.bids import Findings
from bids_sr.config import Paths, Settings
from bids_sr.config.sections.preprocessing import Preprocessing
from bids_sr.config.sections.selection import Selection
from bids_sr.io import template_cache
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


def test_bundled_templates_need_neither_cache_nor_client(tmp_path: Path, home: Path) -> None:
    spaces = (
        "MNI152NLin2009cAsym:res-2",
        "MNI152NLin6Asym:res-02",
        "MNI152NLin2009aSym",
        "T1w",
        "func",
    )
    assert not check_spaces(tmp_path, *spaces).problems
    assert not home.exists()


def test_bundled_templates_have_the_grids_of_templateflow() -> None:
    """Grids equal fMRIPrep's outputs.

    The first voxel at 2 mm is half a millimeter outside the first voxel at 1 mm.
    """
    shape, affine = template_cache.load_grid("MNI152NLin2009cAsym", "2") or ((), np.eye(4))
    assert shape == (97, 115, 97)
    assert affine.tolist() == [[2, 0, 0, -96.5], [0, 2, 0, -132.5], [0, 0, 2, -78.5], [0, 0, 0, 1]]
    shape, affine = template_cache.load_grid("MNI152NLin2009cAsym", "1") or ((), np.eye(4))
    assert (shape, affine[:3, 3].tolist()) == ((193, 229, 193), [-96, -132, -78])
    shape, affine = template_cache.load_grid("MNI152NLin6Asym", "1") or ((), np.eye(4))
    assert (shape, affine[:3, 3].tolist()) == ((182, 218, 182), [-91, -126, -72]), (
        "left is at lower numbers"
    )
    assert np.allclose(np.diag(affine), 1)


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
    assert template_cache.available_templates()[-1] == COLIN
    (folder / f"tpl-{COLIN}_res-01_T1w.nii.gz").write_bytes(b"")
    assert not template_cache.is_available(COLIN), "an empty file was not downloaded"


def test_a_cohort_in_the_cache_is_found(tmp_path: Path, home: Path) -> None:
    write_template(
        home / "tpl-MNIPediatricAsym" / "cohort-2", "tpl-MNIPediatricAsym_cohort-2_res-1"
    )
    assert not check_spaces(tmp_path, "MNIPediatricAsym:cohort-2:res-1").problems
    assert template_cache.load_grid("MNIPediatricAsym+2", "1") is not None


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


CHECK = """
import sys
from pathlib import Path
sys.path.insert(0, {here!r})
import test_output_spaces as tests
if {port}:
    from templateflow.conf import _cache
    _cache.config.s3_root = "http://127.0.0.1:{port}"
else:
    import socket
    def refused(*_, **__): raise OSError("no network here")
    socket.getaddrinfo = refused
found = tests.check_spaces(Path({root!r}), *{spaces!r})
print(*found.problems, sep=chr(10))
"""


def check_in_subprocess(root: Path, *spaces: str, port: int = 0) -> str:
    """Return problems of spaces in a separate process.

    The client reads its environment variables only once.
    """
    code = CHECK.format(here=str(Path(__file__).parent), port=port, root=str(root), spaces=spaces)
    paths = os.pathsep.join(sys.path)
    process = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": paths, "no_proxy": "*"},
    )
    assert process.returncode == 0, process.stderr
    return process.stdout


@pytest.mark.slow
def test_uncached_templates_are_rejected_without_a_network(tmp_path: Path, home: Path) -> None:
    message = check_in_subprocess(tmp_path, COLIN)
    assert f"tpl-{COLIN}/tpl-{COLIN}_T1w.nii.gz could not be downloaded" in message
    assert "TEMPLATEFLOW_HOME" in message
    assert f"api.get('{COLIN}')" in message
    assert not [path for path in home.rglob("*.nii.gz") if path.stat().st_size], (
        "no partial file is left"
    )


@pytest.mark.parametrize(
    ("space", "reason", "advice"),
    [
        ("T2w", "no output space has this name", "func, T1w, fsnative"),
        ("sbref", "no output space has this name", "MNI152NLin2009cAsym"),
        ("MNI152NLin2009cASym", "no output space has this name", "Did you mean MNI152NLin2009"),
        ("MNIPediatricAsym", "requires a cohort", "cohorts are 1, 2, 3, 4, 5, 6"),
        ("MNIPediatricAsym:cohort-9", "no cohort 9", "cohorts are 1, 2, 3, 4, 5, 6"),
        ("MNI152Lin:cohort-1", "has no cohorts", "Use MNI152Lin without a cohort"),
        ("MNI152Lin:res-5", "resolution 5 is not available", "available resolutions"),
        ("UNCInfant:cohort-1", "does not include a brain mask", "Choose another"),
        ("WHS", "does not include a T1w image", "Choose another"),
    ],
)
def test_spaces_that_do_not_exist_are_rejected_before_the_data_set_is_read(
    tmp_path: Path,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    space: str,
    reason: str,
    advice: str,
) -> None:
    monkeypatch.setattr("bids_sr.preflight.checks.survey", lambda _: pytest.fail("data set read"))
    BidsMaker(tmp_path / "bids").subject()
    (problem,) = check(settings_for(tmp_path, "func", space)).problems
    assert (problem.what, problem.code) == (f"--output-spaces {space}", "option")
    assert reason in problem.why
    assert advice in problem.remedy
    assert not home.exists(), "the client of TemplateFlow was not needed"


def test_every_template_with_images_is_accepted_by_the_dry_run(tmp_path: Path, home: Path) -> None:
    """Names are those of the installed list; the images are not stored on this machine."""
    findings = Findings()
    templates = [
        name.replace("+", ":cohort-")
        for name, files in template_cache.list_templates().items()
        if not template_cache.find_missing_image(files)
    ]
    assert {"MNI152NLin6Sym", "MNIInfant:cohort-11", "PNC", "OASIS30ANTs"} <= set(templates)
    spaces = [name for name in templates if name != "fsaverage"]
    output_spaces.check_templates(settings_for(tmp_path, *spaces), findings)
    assert findings.problems == []


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path) -> Iterator[int]:
    """Return the port of a local template server."""
    (tmp_path / "s3").mkdir()
    handler = functools.partial(_Quiet, directory=tmp_path / "s3")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as http_server:
        threading.Thread(target=http_server.serve_forever, daemon=True).start()
        yield http_server.server_port
        http_server.shutdown()


@pytest.mark.slow
def test_templates_are_downloaded_if_there_is_a_network(
    tmp_path: Path, home: Path, server: int
) -> None:
    stem = "tpl-MNIPediatricAsym_cohort-2"
    write_template(
        folder := tmp_path / "s3" / "tpl-MNIPediatricAsym" / "cohort-2", f"{stem}_res-1"
    )
    write_template(folder, f"{stem}_res-2")
    for tissue in ("GM", "WM"):
        save_image(IMAGE, np.eye(4), folder / f"{stem}_res-1_label-{tissue}_probseg.nii.gz")
    assert (
        check_in_subprocess(tmp_path, "MNIPediatricAsym:cohort-2:res-2", port=server).strip() == ""
    )
    assert template_cache.is_available("MNIPediatricAsym+2")
    assert template_cache.load_grid("MNIPediatricAsym+2", "2") is not None
