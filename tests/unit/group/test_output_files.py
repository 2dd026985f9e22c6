"""Files of the group level: their names, and their replacement as a whole."""

import json
from collections.abc import Iterable
from pathlib import Path

import pytest
from data.group_maps import Study, mean_value, read_sidecar

from bids_sr.engine.metric_rows import MetricRow, table_text
from bids_sr.group import output_files
from bids_sr.group.output_files import (
    GroupNames,
    describe_replaced,
    list_group_files,
    replace_group_files,
)

ALL, PRE, SCANS = (
    GroupNames(),
    GroupNames(sessions=("pre",)),
    GroupNames(sessions=("pre",), kind="scans"),
)
FILES = {
    "group.html": ALL,
    "group_metrics.tsv": ALL,
    "group_stats_columns.json": ALL,
    "group/group_inputs.tsv": ALL,
    "group/group_task-pre_space-A_res-2_contrast-a_stat-t_desc-acquired_statmap.nii.gz": ALL,
    "group/figures/group_task-scans_contrast-a_desc-maps.svg": ALL,
    "group_ses-pre.html": PRE,
    "group_ses-pre_metrics.tsv": PRE,
    "group/figures/group_ses-pre_task-a_contrast-a_desc-maps.svg": PRE,
    "group_ses-pre_scans.html": SCANS,
    "group_ses-pre_scans_methods.tsv": SCANS,
    "group/figures/group_ses-pre_scans_desc-change.svg": SCANS,
    "group_ses-pre2_metrics.tsv": GroupNames(sessions=("pre2",)),
    "group_scans.html": GroupNames(kind="scans"),
    "group_scans_methods.tsv": GroupNames(kind="scans"),
}
"""Names of the call that wrote each file."""
OTHER_FILES = (
    "sub-01.html",
    "index.html",
    "sub-01/group_metrics.tsv",
    "groups.tsv",
    # files of users
    "group_analysis.py",
    "group_ages.tsv",
    "group_ses-pre_talk.html",
    "group/group_task-pre_contrast-a_thresholded.nii.gz",
    "group/figures/group_desc-mean.png",
)


def write_all(root: Path) -> None:
    for name in (*FILES, *OTHER_FILES):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"first {name}")


def contents(root: Path) -> dict[str, str]:
    """Return the text of all files in a folder by relative path."""
    paths = [path for path in root.rglob("*") if path.is_file()]
    return {path.relative_to(root).as_posix(): path.read_text() for path in paths}


def write_second(
    root: Path, names: GroupNames, files: Iterable[str], error: BaseException | None = None
) -> None:
    """Replace the files of a call, or raise an error before all of them are complete."""
    with replace_group_files(root, names) as folder:
        for name in files:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text("second")
        if error is not None:
            raise error


@pytest.mark.parametrize("names", sorted(set(FILES.values()), key=str), ids=str)
def test_files_belong_to_one_selection_of_sessions_and_one_kind(
    tmp_path: Path, names: GroupNames
) -> None:
    write_all(tmp_path)
    found = {path.as_posix() for path in list_group_files(tmp_path, names)}
    assert found == {name for name, owner in FILES.items() if owner == names}
    for name in found:
        assert Path(name).name.startswith(names.start)


@pytest.mark.parametrize("names", [ALL, PRE, SCANS], ids=str)
def test_a_call_replaces_only_the_files_with_the_same_names(
    tmp_path: Path, names: GroupNames
) -> None:
    write_all(tmp_path)
    kept = {name: text for name, text in contents(tmp_path).items() if FILES.get(name) != names}
    files = (names.page, f"group/figures/{names.tables}_new.svg")
    write_second(tmp_path, names, files)
    assert contents(tmp_path) == kept | dict.fromkeys(files, "second")


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_a_call_that_fails_changes_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    write_all(tmp_path)
    before = contents(tmp_path)
    with pytest.raises(error):
        write_second(tmp_path, ALL, ["group.html"], error())
    assert contents(tmp_path) == before


def test_files_of_a_call_that_was_killed_before_it_was_complete_are_not_used(
    tmp_path: Path,
) -> None:
    write_all(tmp_path)
    (tmp_path / ".group").mkdir()
    (tmp_path / ".group" / "group_metrics.tsv").write_text("killed")
    write_second(tmp_path, SCANS, [SCANS.page])
    after = contents(tmp_path)
    assert after["group_metrics.tsv"] == "first group_metrics.tsv"
    assert "killed" not in after.values()
    assert after[SCANS.page] == "second"


@pytest.mark.parametrize("n_moved", [0, 1, 2])
@pytest.mark.parametrize("next_names", [ALL, SCANS], ids=str)
def test_a_call_that_was_stopped_while_files_were_moved_is_completed_by_the_next_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, n_moved: int, next_names: GroupNames
) -> None:
    write_all(tmp_path)
    first = contents(tmp_path)
    second = dict.fromkeys(("group.html", "group_metrics.tsv", "group/group_new.tsv"), "second")
    moved: list[Path] = []

    def move(source: Path, place: Path) -> None:
        if len(moved) == n_moved:
            raise KeyboardInterrupt
        moved.append(place)
        source.rename(place)

    with monkeypatch.context() as patch:
        patch.setattr(output_files, "put_in_place", move)
        with pytest.raises(KeyboardInterrupt):
            write_second(tmp_path, ALL, second)
    assert tmp_path / "group.html" not in moved  # the page is the last file
    kept = {name: text for name, text in first.items() if FILES.get(name) != ALL}
    with pytest.raises(ZeroDivisionError):
        write_second(tmp_path, next_names, (), ZeroDivisionError())
    assert contents(tmp_path) == kept | second


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """Return a study with two sessions."""
    study = Study(tmp_path_factory.mktemp("study"), ("01", "02", "03"))
    for number, participant in enumerate(study.participants, 1):
        for session, gain in (("ses-pre", 1.0), ("ses-post", 10.0)):
            effects = {"thumb": gain * number, "little": -gain * number}
            study.write_run(participant, effects, session=session)
        folder = study.out / participant / "anat"
        folder.mkdir()
        table = folder / f"{participant}_desc-anat_metrics.tsv"
        keys = {"statistic": "psnr", "region": "brain", "contrast": "T1w"}
        rows = [MetricRow(series=name, value=20.0 + number, **keys) for name in ("bspline", "sbl")]
        table.write_text(table_text(rows))
        table.with_suffix(".json").write_text(json.dumps({"SettingsDigest": "abc"}))
    return study


def test_results_of_sessions_and_of_structural_scans_are_kept_side_by_side(
    study: Study, capsys: pytest.CaptureFixture[str]
) -> None:
    participants = {path: path.read_bytes() for path in study.out.rglob("sub-*") if path.is_file()}
    assert study.call("--session-label", "pre") == 0
    pre = study.files()
    assert study.call("--session-label", "post", "--set", "evaluation.group_permutations=3") == 0
    assert "Results of earlier calls for ses-pre were kept" in capsys.readouterr().out
    post = study.files()
    assert study.call("--sr-target", "anat") == 0
    scans = study.files()
    assert pre.items() < post.items() < scans.items()
    assert all("group_ses-pre" in name for name in pre)
    assert all("group_ses-post" in name for name in post.keys() - pre.keys())
    assert all("group_scans" in name for name in scans.keys() - post.keys())
    stem = "task-tap_*_contrast-little_stat-effect_*.nii.gz"
    for session, mean in (("pre", -2.0), ("post", -20.0)):
        (path,) = study.out.glob(f"group/group_ses-{session}_{stem}")
        assert mean_value(path) == pytest.approx(mean)
        sidecar = read_sidecar(path)
        assert (sidecar["Sessions"], sidecar["SelectedSessions"]) == ([session], [session])
    index = (study.out / "index.html").read_text()
    for page in ("group_ses-pre.html", "group_ses-post.html", "group_scans.html"):
        assert f'href="{page}"' in index
    # all sessions, and then without a contrast: nothing of the earlier call is left
    assert study.call() == 0
    together = {name: text for name, text in study.files().items() if name not in scans}
    assert any("contrast-little" in name for name in together)
    assert not any("ses-" in name for name in together)
    for path in study.out.glob("sub-*/*/func/*contrast-little*"):
        path.unlink()
    capsys.readouterr()
    assert study.call() == 0
    removed = sum("contrast-little" in name for name in together)
    assert f"{removed} files that this call does not compute were removed" in (
        capsys.readouterr().out
    )
    after = study.files()
    assert scans.items() < after.items()
    assert after.keys() - scans.keys() == {
        name for name in together if "contrast-little" not in name
    }
    assert all(
        path.read_bytes() == content for path, content in participants.items() if path.exists()
    )


def test_a_call_that_fails_leaves_the_results_of_the_first_call(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bids_sr.group import page

    assert study.call("--session-label", "pre") == 0
    before = study.files()

    def fail(*arguments: object) -> None:
        raise RuntimeError("no page")

    monkeypatch.setattr(page, "write_page", fail)
    assert study.call("--session-label", "pre", "--set", "evaluation.group_permutations=3") == 70
    assert study.files() == before


@pytest.mark.parametrize("names", [ALL, SCANS], ids=str)
def test_participants_of_replaced_results_are_listed_if_they_differ(
    tmp_path: Path, names: GroupNames
) -> None:
    earlier = [f"sub-{number:02d}" for number in range(1, 10)]
    rows = "".join(f"{label}\t{value}\n" for label in earlier for value in (1, 2))
    table = tmp_path / f"{names.tables}_metrics.tsv"
    table.write_text(f"participant\tvalue\n{rows}")
    sentence = describe_replaced(tmp_path, names, ["sub-04", "sub-10"])
    assert "9 participants (sub-01, sub-02" in sentence
    assert "sub-06 and 3 more" in sentence
    assert describe_replaced(tmp_path, names, earlier[::-1]) == ""
    assert describe_replaced(tmp_path, PRE, ["sub-10"]) == ""
    table.write_text("")
    assert describe_replaced(tmp_path, names, ["sub-10"]) == ""
