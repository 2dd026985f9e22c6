"""Participants of each group map, and the reasons why others are not in it."""

import csv
import hashlib
import html
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from data.group_maps import (
    SPACE,
    Study,
    map_path,
    mean_value,
    plan_of,
    read_sidecar,
    write_combined,
    write_run,
)

from bids_sr.config import lock
from bids_sr.config.lock import output_lock
from bids_sr.group.input_maps import find_maps
from bids_sr.group.map_records import GroupMapRecord
from bids_sr.group.maps import compute_group_maps
from bids_sr.io.nifti import load_image, save_image
from bids_sr.io.notices import UsageError


def members_of(records: list[GroupMapRecord]) -> dict[tuple[str, str], tuple[str, ...]]:
    """Return the participants in each map by task and contrast."""
    return {(record.task, record.key[0]): record.participants for record in records}


@pytest.fixture
def study(tmp_path: Path) -> Study:
    """Return a study of four participants with one run each, and its images in the data set."""
    study = Study(tmp_path)
    for number, participant in enumerate(study.participants, 1):
        study.write_run(participant, {"thumb": float(number)})
        add_bold(study, participant)
    return study


def add_bold(study: Study, participant: str, run: str = "task-tap", session: str = "") -> Path:
    """Write an empty BOLD run to the data set."""
    folder = study.data / participant / session / "func"
    folder.mkdir(parents=True, exist_ok=True)
    name = "_".join(filter(None, [participant, session, run]))
    path = folder / f"{name}_bold.nii.gz"
    path.touch()
    return path


THREE = ("sub-01", "sub-02", "sub-03")


def test_the_data_set_decides_which_participants_belong_to_the_group(study: Study) -> None:
    """A removed participant is named, and does not count in any map."""
    shutil.rmtree(study.data / "sub-04")
    study.list_participants(THREE)
    group = study.find()
    (record,) = group.plan.records
    assert record.participants == THREE
    assert list(record.excluded) == ["sub-04"]
    (line,) = group.leftovers
    assert line.startswith("sub-04: ")
    assert set(group.tables["participant"]) == set(THREE)
    assert f"not used: {line}" in group.plan_text()


@pytest.mark.parametrize("is_listed", [True, False])
@pytest.mark.parametrize("has_folder", [True, False])
def test_participants_belong_to_the_data_set_by_folder_or_list(
    study: Study, is_listed: bool, has_folder: bool
) -> None:
    if not has_folder:
        shutil.rmtree(study.data / "sub-04")
    study.list_participants(study.participants if is_listed else THREE)
    (record,) = study.find().plan.records
    assert ("sub-04" in record.participants) == (is_listed or has_folder)


def test_all_results_belong_to_a_data_set_that_lists_nobody(study: Study) -> None:
    for participant in study.participants:
        shutil.rmtree(study.data / participant)
    (study.data / "participants.tsv").unlink()
    group = study.find()
    assert group.plan.records[0].participants == tuple(study.participants)
    assert any("missing participants cannot be identified" in line for line in group.absent)


def test_participants_without_a_table_of_participants_are_found_by_their_folders(
    study: Study,
) -> None:
    (study.data / "participants.tsv").unlink()
    shutil.rmtree(study.data / "sub-04")
    (study.data / "sub-05").mkdir()
    group = study.find()
    (record,) = group.plan.records
    assert (record.participants, list(record.excluded)) == (THREE, ["sub-04", "sub-05"])
    assert any(line.startswith("sub-05: no metrics tables") for line in group.absent)


@pytest.mark.parametrize(
    ("session", "run", "has_bold"),
    [
        ("", "task-tap_run-2", True),
        ("ses-b", "task-tap", True),
        ("ses-b", "task-tap", False),  # only the folders of sessions are kept
    ],
)
def test_runs_and_sessions_that_were_removed_from_the_data_set_are_not_used(
    study: Study, session: str, run: str, has_bold: bool
) -> None:
    kept_session, kept_run = ("ses-a", "task-tap") if session else ("", "task-tap_run-1")
    for path in (study.out / "sub-02", study.data / "sub-02"):
        shutil.rmtree(path)
    for place in ((kept_run, kept_session), (run, session)):
        study.write_run("sub-02", {"thumb": 2.0}, run=place[0], session=place[1])
        bold = add_bold(study, "sub-02", *place)
        if not has_bold:
            bold.unlink()
    both = study.find()
    assert both.leftovers == ()
    (record,) = both.plan.records
    assert [len(member.runs) for member in record.members] == [1, 2, 1, 1]
    bold.unlink(missing_ok=True)
    if session:
        shutil.rmtree(study.data / "sub-02" / session)
    group = study.find()
    (record,) = group.plan.records
    assert [len(member.runs) for member in record.members] == [1, 1, 1, 1]
    removed = "_".join(filter(None, ["sub-02", session, run]))
    assert not any(removed in str(path) for path in record.members[1].files)
    (line,) = group.leftovers
    assert line.startswith(" ".join(filter(None, ["sub-02", session, *run.split("_")])) + ":")


@pytest.fixture
def hands(tmp_path: Path) -> Study:
    return Study(tmp_path)


def test_contrasts_of_opposite_sign_have_their_own_maps(hands: Study) -> None:
    """They are never averaged, and each names the participants of the other."""
    for number, participant in enumerate(hands.participants):
        first, second = ("little", "thumb") if number == 3 else ("thumb", "little")
        contrast = f"{first}Minus{second.capitalize()}"
        weights = {contrast: {first: 1.0, second: -1.0}}
        hands.write_run(participant, {contrast: 1.0 - number}, weights=weights)
    records = {record.key[0]: record for record in hands.find().plan.records}
    assert records["thumbMinusLittle"].participants == tuple(hands.participants[:3])
    assert records["littleMinusThumb"].participants == ("sub-04",)
    reason = records["thumbMinusLittle"].excluded["sub-04"].reason
    assert "no map of the contrast thumbMinusLittle" in reason


def test_pooled_sessions_are_counted_per_participant(hands: Study) -> None:
    for participant in hands.participants:
        sessions = ("ses-pre", "ses-post") if participant != "sub-04" else ("ses-pre",)
        for session in sessions:
            percent = 2.0 if session == "ses-pre" else 4.0
            hands.write_run(participant, {"thumb": percent}, session=session)
    group = hands.find()
    result = compute_group_maps(group.plan, hands.out)
    path = result.maps["effect"][0]
    assert "ses-" not in path.name
    assert mean_value(path) == pytest.approx((3 * 3 + 2) / 4)
    sidecar = read_sidecar(path)
    assert sidecar["Sessions"] == ["post", "pre"]
    assert sidecar["SessionsPerParticipant"] == {
        "sub-01": 2,
        "sub-02": 2,
        "sub-03": 2,
        "sub-04": 1,
    }
    assert "SelectedSessions" not in sidecar
    assert "sub-04: 1 (pre)" in group.plan_text()
    (record,) = hands.find({"session_label": ["post"]}).plan.records
    assert record.participants == THREE
    assert record.file_stem("t").startswith("group_ses-post_task-tap_")
    assert all(member.sessions == ("post",) for member in record.members)


def test_components_are_not_averaged_but_seeds_and_trial_types_are(hands: Study) -> None:
    """The trial type of another task has the name of a component."""
    rest = {"component1": 1.0, "component2": 2.0, "motor": 3.0}
    for participant in hands.participants:
        hands.write_run(participant, rest, run="task-rest", weights={}, at_rest=True)
        hands.write_run(participant, {"component1": 4.0}, run="task-tap")
    plan = hands.find().plan
    everybody = tuple(hands.participants)
    assert members_of(plan.records) == {
        ("rest", "motor"): everybody,
        ("tap", "component1"): everybody,
    }
    (note,) = [note for note in plan.notes if "component" in note]
    assert "task rest" in note
    means = {
        row.task: mean_value(row.effect)
        for row in compute_group_maps(plan, hands.out).maps.itertuples()
    }
    assert means == {"rest": pytest.approx(3), "tap": pytest.approx(4)}


def test_a_participant_with_a_damaged_run_is_not_in_the_map(tmp_path: Path) -> None:
    """The mean of the other run would not be the mean of the participant's runs."""
    for number in range(1, 5):
        for run in (1, 2):
            write_run(tmp_path, f"sub-{number:02d}_task-tap_run-{run}", 10 * number + run)
    (path,) = tmp_path.glob("sub-02/func/*run-2*stat-effect_desc-acquired*.nii.gz")
    data, affine = load_image(path)
    data[3] = np.nan
    save_image(data, affine, path)
    result = compute_group_maps(plan_of(find_maps(tmp_path), ("acquired", "sbl")), tmp_path)
    records = {record.key[1]: record for record in result.records}
    assert records["acquired"].participants == ("sub-01", "sub-03", "sub-04")
    assert str(path) in records["acquired"].excluded["sub-02"].reason
    assert records["sbl"].participants == ("sub-01", "sub-02", "sub-03", "sub-04")
    assert list(result.maps["participants"].map(len)) == [3, 4]


def test_a_participant_with_a_damaged_map_of_all_runs_is_not_in_the_map(tmp_path: Path) -> None:
    for number in range(1, 5):
        names = [f"sub-{number:02d}_task-tap_run-{run}" for run in (1, 2)]
        for run, name in enumerate(names):
            write_run(tmp_path, name, 10 * number + run)
        write_combined(tmp_path, f"sub-{number:02d}", names[0], names)
    (path,) = tmp_path.glob("sub-03/func/*space-firstBoldref*stat-effect_desc-acquired*.nii.gz")
    data, affine = load_image(path)
    data[3] = np.inf
    save_image(data, affine, path)
    result = compute_group_maps(plan_of(find_maps(tmp_path)), tmp_path)
    (record,) = result.records
    assert record.participants == ("sub-01", "sub-02", "sub-04")
    assert str(path) in record.excluded["sub-03"].reason


def test_running_participants_are_refused_unless_others_are_requested(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "_BEAT_S", 0.2)
    uuid = "20260101-000000_other"
    with output_lock(study.out, None, participants=["03"], run_uuid=uuid):
        with pytest.raises(UsageError, match="sub-03") as raised:
            study.find()
        assert uuid in str(raised.value)
        selection = {"participant_label": ["01", "02", "04"]}
        (record,) = study.find(selection).plan.records
        assert record.participants == ("sub-01", "sub-02", "sub-04")
        # the command
        assert study.call("--dry-run") == 2
        assert study.call("--dry-run", "--participant-label", "01", "02", "04") == 0
    assert study.find().plan.records[0].participants == tuple(study.participants)


def test_running_participants_who_left_the_data_set_do_not_matter(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "_BEAT_S", 0.2)
    with output_lock(study.out, None, participants=["09"], run_uuid="x"):
        assert len(study.find().participants) == 4


def test_everybody_is_listed_with_files_and_checksums_or_a_reason(study: Study) -> None:
    """Each map lists everybody in the data set, and those whose results were not used."""
    study.list_participants([*study.participants, "sub-05", "sub-06"])
    study.write_run("sub-03", {"little": 1.0})
    study.write_run("sub-04", {"little": 1.0})
    study.write_run("sub-05", {})
    study.write_run("sub-09", {"thumb": 90.0})
    mask = study.stem("sub-04").with_name(
        "sub-04_task-tap_space-boldref_label-brain_desc-acquired_mask.nii.gz"
    )
    mask.unlink()
    assert study.call() == 0
    with (study.out / "group" / "group_inputs.tsv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    described = json.loads((study.out / "group" / "group_inputs_columns.json").read_text())
    assert list(rows[0]) == list(described)
    everybody = [*study.participants, "sub-05", "sub-06", "sub-09"]
    assert {row["contrast"] for row in rows} == {"thumb"}  # too few participants have the other
    assert sorted(row["participant"] for row in rows) == everybody
    included = [row["participant"] for row in rows if row["included"] == "yes"]
    assert included == ["sub-01", "sub-02", "sub-03"]
    for row in rows:
        if row["included"] == "yes":
            path = study.out / row["file"].removeprefix("bids::")
            assert path == map_path(study.stem(row["participant"]), "thumb")
            assert row["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
            assert (row["origin"], row["reason"]) == ("single", "n/a")
        else:
            assert row["reason"] not in ("", "n/a")
            assert (row["file"], row["sha256"]) == ("n/a", "n/a")
    reasons = {row["participant"]: row["reason"] for row in rows}
    for participant, word in (
        ("sub-04", "brain mask"),
        ("sub-05", "no effect maps"),
        ("sub-09", "no longer contains"),
    ):
        assert word in reasons[participant]
        assert html.unescape(study.page()).count(f"{participant}: {reasons[participant]}") >= 1
    (path,) = study.out.glob(f"group/*{SPACE}*contrast-thumb_stat-effect*.nii.gz")
    assert mean_value(path) == pytest.approx(2)
    sidecar = read_sidecar(path)
    assert sidecar["NumberOfParticipants"] == 3
    assert sidecar["Excluded"] == {
        label: reason for label, reason in reasons.items() if reason != "n/a"
    }
    assert not list(study.out.glob("group/*contrast-little*"))
