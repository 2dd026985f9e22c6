"""Test that group maps of odd groups include the right participants, and that others are named.

Wrong results must be detected by the check. benchmarks/odd_groups.py tries hundreds of
combinations of the kinds.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import _odd_groups_kinds
import nibabel as nb
import numpy as np
import pytest
from _odd_groups_kinds import KINDS, Case, judge, kinds_of, prepare, run_case, warm_up
from _odd_groups_scene import Call, Contrast, Folders, Group, Participant, Run, Stored, load_grid
from _odd_groups_truth import (
    AmbiguousError,
    MapName,
    Texts,
    check_results,
    expect,
    session_of,
    snapshot,
)

COMBINATIONS = [
    ("slab_of_some", "opposite_names"),
    ("gone", "without_images", "lacking_contrast"),
    ("sessions_one_by_one", "zero_contrast"),
    ("cannot_open", "earlier_call"),
    ("not_a_number", "stored_maps"),
    ("components", "unequal_weights", "earlier_call"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("groups")
    warm_up(folder)
    return folder


@pytest.mark.parametrize("names", COMBINATIONS, ids="+".join)
def test_an_odd_group_gives_correct_maps_or_an_error(names: tuple[str, ...], folder: Path) -> None:
    kinds = [KINDS[name] for name in names]
    assert run_case(COMBINATIONS.index(names), 28, folder, kinds).wrong == ""


# --- the rules


THUMB = Contrast("thumb", "thumb", {"thumb": 1.0})
DIFFERENCE = Contrast("difference", "bMinusA", {"b": 1.0, "a": -1.0})
OPPOSITE = Contrast("difference", "aMinusB", {"a": 1.0, "b": -1.0}, sign=-1)
NAME = MapName("tap", "", "thumb", "acquired")
FOLDERS = Folders(Path("unused"))


def make_group(count: int, *contrasts: Contrast) -> Group:
    group = Group()
    for number in range(1, count + 1):
        run = Run(contrasts=[*(contrasts or (THUMB,))])
        group.participants.append(Participant(f"sub-{number:02d}", number, runs=[run]))
    return group


def share_of_brain(share: float) -> tuple[int, int, int]:
    """Return a slab with at least a share of the voxels of the brain."""
    counts = np.bincount(load_grid().indices[2])
    last = int(np.searchsorted(np.cumsum(counts), share * counts.sum())) + 1
    return 2, 0, last


@pytest.mark.parametrize(("share", "is_included"), [(0.75, False), (0.83, True)])
def test_a_participant_is_left_out_if_more_than_a_fifth_of_the_voxels_is_gained(
    share: float, is_included: bool
) -> None:
    group = make_group(4)
    group.participants[2].runs[0].region = share_of_brain(share)
    expected = expect(group, FOLDERS).maps[NAME]
    assert ("sub-03" in expected.values) == is_included
    n_voxels = load_grid().mask.sum()
    if not is_included:
        covered = load_grid().covers(share_of_brain(share)).sum()
        assert expected.gains == {"sub-03": n_voxels - covered}


def test_three_participants_always_remain() -> None:
    group = make_group(4)
    for participant in group.participants[:2]:
        participant.runs[0].region = share_of_brain(0.1 if participant.label == "sub-01" else 0.3)
    assert [*expect(group, FOLDERS).maps[NAME].values] == ["sub-02", "sub-03", "sub-04"]


def test_opposite_contrasts_have_the_name_that_most_participants_have() -> None:
    group = make_group(5, DIFFERENCE)
    for participant in group.participants[:2]:
        participant.runs[0].contrasts = [OPPOSITE]
    ((name, expected),) = expect(group, FOLDERS).maps.items()
    assert name.contrast == "bMinusA"
    assert expected.turned == {"sub-01", "sub-02"}
    group.participants[2].runs[0].contrasts = [OPPOSITE]
    ((name, expected),) = expect(group, FOLDERS).maps.items()
    assert name.contrast == "aMinusB"
    assert expected.turned == {"sub-04", "sub-05"}


def test_equally_frequent_weights_have_no_defined_result() -> None:
    group = make_group(4)
    for participant in group.participants[:2]:
        participant.runs[0].contrasts = [Contrast("thumb", "thumb", {"thumb": 1.0, "index": 1.0})]
    with pytest.raises(AmbiguousError):
        expect(group, FOLDERS)


def test_stored_maps_are_used_if_they_contain_exactly_the_selected_runs() -> None:
    group = make_group(3)
    participant = group.participants[0]
    participant.runs = [Run(number=number, contrasts=[THUMB]) for number in "12"]
    participant.stored = [Stored([*participant.runs], factor=2.0)]
    effects = [participant.effect(run, THUMB, "acquired") for run in participant.runs]

    def values() -> np.ndarray:
        return expect(group, FOLDERS).maps[NAME].values["sub-01"]

    np.testing.assert_allclose(values(), 2 * np.mean(effects, axis=0))
    participant.runs.append(Run(number="3", contrasts=[THUMB], zero={"thumb"}))
    assert not values().any()
    group.call = Call(runs=("1",))
    group.participants[1].runs[0].number = group.participants[2].runs[0].number = "1"
    np.testing.assert_allclose(values(), effects[0])


def test_kinds_are_reproducible_and_every_kind_begins_a_case() -> None:
    drawn = [kinds_of(number, 0) for number in range(len(KINDS))]
    assert [kinds[0].name for kinds in drawn] == [*KINDS]
    assert drawn == [kinds_of(number, 0) for number in range(len(KINDS))]
    first, second = (prepare(3, 1, drawn[4], Path("unused")).group for _ in range(2))
    assert first.call == second.call
    assert [one.level for one in first.participants] == [one.level for one in second.participants]


# --- the check


@pytest.fixture(scope="module")
def right(folder: Path) -> tuple[Case, str]:
    """Run a case with right results, and return it with its console text."""
    kinds = [KINDS["gone"], KINDS["slab_of_some"]]
    case = prepare(0, 8, kinds, folder / "right")
    case.folders.root.mkdir()
    assert judge(case) == ("maps", [])
    assert any(one.gains for one in case.truth.maps.values())
    return case, (case.folders.root / "log").read_text()


def faults_after(
    right: tuple[Case, str], folder: Path, alter: Callable[[Path], object]
) -> list[str]:
    """Return the faults that are found after an alteration of the output folder."""
    case, console = right
    folders = Folders(folder)
    shutil.copytree(case.folders.out / "group", folders.out / "group")
    for path in case.folders.out.glob("group*.*"):
        shutil.copy(path, folders.out)
    alter(folders.out)
    return list(check_results(case.group, case.truth, folders, console, {}))


def first_map(out: Path, stat: str = "effect", ending: str = ".nii.gz") -> Path:
    return min(out.glob(f"group/*_stat-{stat}_*{ending}"))


def multiply(path: Path, factor: float, voxels: slice = slice(None)) -> None:
    image = nb.load(path)
    data = image.get_fdata(dtype=np.float32).copy()
    data.reshape(-1)[np.flatnonzero(data)[voxels]] *= factor
    nb.save(nb.Nifti1Image(data, image.affine), path)


def edit(path: Path, key: str, value: object) -> None:
    fields = json.loads(path.read_text())
    path.write_text(json.dumps({**fields, key: value}))


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_the_check_accepts_right_results(right: tuple[Case, str], tmp_path: Path) -> None:
    assert faults_after(right, tmp_path, lambda out: None) == []


@pytest.mark.parametrize(
    ("alter", "words"),
    [
        (lambda out: multiply(first_map(out), 1.001), "effect differs"),
        (lambda out: multiply(first_map(out), 0, slice(5)), "5 differ"),
        (lambda out: multiply(first_map(out, "t"), 1.01), "t differs"),
        (lambda out: multiply(first_map(out, "variance"), 2), "variance differs"),
        (lambda out: first_map(out, "z").unlink(), "no group_task-tap"),
        (lambda out: first_map(out, ending=".json").unlink(), "has no sidecar"),
        (
            lambda out: shutil.copy(
                first_map(out), str(first_map(out)).replace("stat-effect", "stat-logpMaxT")
            ),
            "must not exist",
        ),
        (
            lambda out: edit(first_map(out, ending=".json"), "Participants", ["sub-01"]),
            "Participants has not",
        ),
        (
            lambda out: edit(first_map(out, ending=".json"), "NumberOfParticipants", 2),
            "NumberOfParticipants is 2",
        ),
        (lambda out: edit(first_map(out, ending=".json"), "Excluded", {}), "Excluded has not"),
        (
            lambda out: edit(first_map(out, ending=".json"), "SessionsPerParticipant", {"a": 1}),
            "without sessions",
        ),
        (lambda out: (out / "group.html").unlink(), "group.html does not exist"),
        (lambda out: (out / "group_stats.tsv").unlink(), "group_stats.tsv does not exist"),
        (
            lambda out: replace(out / "group_metrics.tsv", "sub-", "sub-9"),
            "group_metrics.tsv has not",
        ),
        (
            lambda out: (out / "group/figures/group_contrast-gone_desc-maps.svg").write_text(""),
            "contrast-gone_desc-maps.svg must not exist",
        ),
        (lambda out: (out / "group_ses-pre.html").write_text(""), "group_ses-pre.html must not"),
    ],
)
def test_the_check_finds_wrong_results(
    right: tuple[Case, str], tmp_path: Path, alter: Callable[[Path], object], words: str
) -> None:
    faults = faults_after(right, tmp_path, alter)
    assert any(words in fault for fault in faults), faults


def test_the_check_finds_participants_who_are_not_named(
    right: tuple[Case, str], tmp_path: Path
) -> None:
    case, console = right
    label = next(one.label for one in case.group.participants if not one.is_listed)
    silent = (case, "\n".join(line for line in console.splitlines() if label not in line))

    def remove_from_page(out: Path) -> None:
        page = out / "group.html"
        page.write_text(page.read_text().replace(label, "Included: sub-99"))

    assert any(
        f"why {label}" in fault for fault in faults_after(silent, tmp_path, remove_from_page)
    )


def test_lists_of_included_participants_are_not_reasons() -> None:
    texts = Texts("Included: sub-01, sub-02 and sub-03", "<td>sub-04, sub-05</td><p>sub-06</p>")
    assert [*texts.chunks()] == []
    texts = Texts("", "<p>The mask of <b>sub-04</b> does not exist. sub-05 was used</p>")
    assert texts.naming("sub-04") == ["The mask of sub-04 does not exist."]
    assert texts.naming("sub-0") == []


def test_results_of_another_session_have_to_remain(tmp_path: Path) -> None:
    names = ("group_ses-pre.html", "group/group_ses-post_task-a_b", "group.html")
    assert [*map(session_of, names)] == ["pre", "post", ""]
    folders = Folders(tmp_path)
    (folders.out / "group").mkdir(parents=True)
    other = folders.out / "group_ses-pre.html"
    other.write_text("a")
    before = snapshot(folders)
    group = make_group(2)
    truth = expect(group, folders)
    words = "another call was changed"
    assert not any(words in one for one in check_results(group, truth, folders, "", before))
    other.write_text("b")
    assert any(words in one for one in check_results(group, truth, folders, "", before))


@pytest.mark.parametrize(
    ("codes", "refused", "words"),
    [
        ((0, 70), [], "exit code 70"),
        ((0, 2), [], "dry run with exit code 0, run with 2"),
        ((2, 2), [], "refused, and is sound"),
        ((2, 2), ["sub-07"], "the message has none of"),
        ((0, 0), ["sub-01"], "has to be refused"),
    ],
)
def test_the_judge_rejects_wrong_exit_codes(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    codes: tuple[int, int],
    refused: list[str],
    words: str,
) -> None:
    case = prepare(0, 0, [KINDS["few_participants"]], tmp_path)
    case.truth.refused = refused
    remaining = iter(codes)
    monkeypatch.setattr(
        _odd_groups_kinds, "_call", lambda *_: (next(remaining), "out/sub-01: damaged")
    )
    assert any(words in fault for fault in judge(case)[1])
