"""Directories that were not mounted in a container are reported with the missing option."""

from __future__ import annotations

from pathlib import Path

import pytest
from data.calls import about, plan_for, problem_of
from data.dataset import BidsMaker

from bids_sr.cli import main
from bids_sr.io import mounts
from bids_sr.survey.preflight import directories

UNMOUNTED = Path("/bids-sr-test-unmounted")
"""Directory that does not exist in the root of the file system."""


VARIABLES = ("BIDS_SR_CONTAINER_TAG", "APPTAINER_CONTAINER", "SINGULARITY_CONTAINER")
ROOT_LINE = "22 1 0:1 / / rw - overlay overlay rw\n"


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Run as outside of containers."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(mounts, "MARKER_FILES", ())
    return monkeypatch


@pytest.fixture
def table(host: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a table of mount points that only has the root."""
    file = tmp_path_factory.mktemp("proc") / "mountinfo"
    file.write_text(ROOT_LINE)
    host.setattr(mounts, "MOUNT_TABLE", file)
    return file


@pytest.fixture
def image(host: pytest.MonkeyPatch, table: Path) -> pytest.MonkeyPatch:
    """Run as in the image, without any mounted directory."""
    host.setenv("BIDS_SR_CONTAINER_TAG", "bids-sr")
    return host


def mount(folder: Path, table: Path) -> None:
    """Add a mounted directory to a table."""
    name = str(folder.resolve()).replace(" ", r"\040")
    table.write_text(f"{ROOT_LINE}23 22 8:1 /home/x {name} ro,relatime - ext4 /dev/sda1 rw\n")


def test_mount_points_are_read_with_their_special_characters(table: Path) -> None:
    mount(Path("/my data"), table)
    assert mounts.is_mounted(Path("/my data/sub-01"))
    assert not mounts.is_mounted(Path("/my"))
    table.unlink()
    assert mounts.is_mounted(Path("/my"))  # unknown mounts are no reason for an error


@pytest.mark.parametrize(
    ("marker", "environ", "is_container", "is_own"),
    [
        ("", {}, False, False),
        (".dockerenv", {}, True, False),
        ("run/.containerenv", {}, True, False),
        ("", {"BIDS_SR_CONTAINER_TAG": "bids-sr"}, True, True),
        ("", {"APPTAINER_CONTAINER": "/x.sif"}, True, True),
        ("", {"SINGULARITY_CONTAINER": "/x.sif"}, True, True),
    ],
)
def test_containers_are_recognized(
    tmp_path: Path,
    host: pytest.MonkeyPatch,
    marker: str,
    environ: dict[str, str],
    is_container: bool,
    is_own: bool,
) -> None:
    (tmp_path / "run").mkdir()
    if marker:
        (tmp_path / marker).touch()
    host.setattr(mounts, "MARKER_FILES", (tmp_path / ".dockerenv", tmp_path / "run/.containerenv"))
    for name, value in environ.items():
        host.setenv(name, value)
    assert mounts.is_container() is is_container
    assert mounts.is_own_image() is is_own


def test_a_call_without_mounts_names_both_missing_options(
    image: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data, out = UNMOUNTED / "data", UNMOUNTED / "out"
    for level in ("participant", "group"):
        assert main.main([str(data), str(out), level]) == 2
        text = capsys.readouterr().err
        assert f"-v /path/to/bids:{data}:ro" in text
        assert f"-v /path/to/out:{out}" in text
    image.setenv("APPTAINER_CONTAINER", "/x.sif")
    assert main.main([str(data), str(out), "participant", "--reports-only"]) == 2
    assert f"-B /path/to/out:{out}" in capsys.readouterr().err
    assert not UNMOUNTED.exists()


@pytest.mark.usefixtures("image")
def test_a_new_output_in_the_root_of_the_image_is_refused(maker: BidsMaker) -> None:
    for options in ([], ["--dry-run"]):
        problem = problem_of(plan_for(maker, *options, out=UNMOUNTED).problems, str(UNMOUNTED))
        assert f"-v /path/to/out:{UNMOUNTED}" in problem.remedy


@pytest.mark.usefixtures("image")
def test_an_output_in_a_directory_of_the_image_is_accepted_with_a_warning(
    maker: BidsMaker,
) -> None:
    out = maker.root.parent / "out"
    plan = plan_for(maker, out=out)
    assert plan.problems == ()
    (warning,) = about(plan.warnings, str(out))
    assert f"-v /path/to/out:{out}" in warning.why


def test_a_mounted_output_of_another_user_needs_the_option_u(
    image: pytest.MonkeyPatch, table: Path, maker: BidsMaker
) -> None:
    mount(maker.root.parent, table)
    image.setattr(directories.os, "access", lambda path, mode: mode == directories.os.R_OK)
    (problem, _) = plan_for(maker).problems  # of output and working directory
    assert "write permission is missing" in problem.why
    assert '-u "$(id -u):$(id -g)"' in problem.remedy


def test_in_containers_of_other_images_only_a_path_in_the_root_is_a_missing_mount(
    image: pytest.MonkeyPatch, maker: BidsMaker, capsys: pytest.CaptureFixture[str]
) -> None:
    image.delenv("BIDS_SR_CONTAINER_TAG")
    image.setattr(mounts, "MARKER_FILES", (Path("/proc"),))
    out = maker.root.parent / "out"
    for data, is_advised in ((UNMOUNTED, True), (maker.root.parent / "typo", False)):
        assert main.main([str(data), str(out), "participant"]) == 2
        assert ("-v /path/to/bids" in capsys.readouterr().err) is is_advised
    assert about(plan_for(maker, out=out).warnings, str(out)) == []


@pytest.mark.usefixtures("host")
def test_outside_of_containers_no_mount_is_advised(
    maker: BidsMaker, capsys: pytest.CaptureFixture[str]
) -> None:
    out = maker.root.parent / "out"
    assert main.main([str(UNMOUNTED), str(out), "participant"]) == 2
    text = capsys.readouterr().err
    assert "the dataset directory was not found" in text
    assert "-v " not in text
