"""Runs that are not combined at the group level, and stored combined maps that are outdated."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from bids_sr.group.combinable_runs import find_uncombinable
from bids_sr.group.input_maps import DerivativeMaps, find_maps, group_by_participant
from bids_sr.io.nifti import save_image

KEY = ("all", "acquired", 0.0, "effect")


def write_map(root: Path, run: str, zooms: float = 4.0, **about: object) -> Path:
    """Write the effect map of a run, or with `about` (its sidecar) of combined runs."""
    session = next((part for part in run.split("_") if part.startswith("ses-")), "")
    func = root / run.split("_")[0] / session / "func"
    func.mkdir(parents=True, exist_ok=True)
    stem = run if "_space-" in run else f"{run}_space-boldref"
    path = func / f"{stem}_contrast-all_stat-effect_desc-acquired_statmap.nii.gz"
    save_image(np.ones((4, 4, 2), np.float32), np.diag([zooms, zooms, 4.0, 1.0]), path)
    if about:
        (func / f"{stem}_desc-acquired_statmap.json").write_text(json.dumps(about))
    return path


def write_digest(root: Path, run: str, digest: str) -> None:
    path = root / run.split("_")[0] / "func" / f"{run}_desc-activation_metrics.json"
    path.write_text(json.dumps({"SettingsDigest": digest}))


def names(found: DerivativeMaps) -> list[str]:
    return [run.name for run in found.runs]


@pytest.mark.parametrize(
    ("runs", "remaining", "parts"),
    [
        ({"run-1": 4, "run-2": 4}, ["run-1", "run-2"], []),
        ({"run-1": 4}, ["run-1"], []),
        (
            {"run-1": 4, "run-2": 5},
            [],
            [
                "sub-01_task-tap: the participant was excluded from the group maps, because run-1"
                " and run-2 cannot be combined (run-2: acquired voxels of 5 × 5 × 4 mm; expected"
                " acquired voxels of 4 × 4 × 4 mm, as in sub-01_task-tap_run-1)",
                "--run-id",
            ],
        ),
        (
            {"run-1": 4, "run-2": 5, "run-3": 4},
            ["run-1", "run-3"],
            ["sub-01_task-tap: run-2 was excluded from the group maps, because runs that differ"],
        ),
        ({"": 4, "run-2": 4}, [], ["no run-: the name has no run- entity"]),
        ({"": 4, "run-2": 4, "run-10": 4}, ["run-2", "run-10"], ["no run- was excluded"]),
    ],
)
def test_runs_that_differ_are_not_combined_and_are_named(
    tmp_path: Path, runs: dict[str, float], remaining: list[str], parts: list[str]
) -> None:
    for label, zooms in runs.items():
        write_map(tmp_path, "_".join(filter(None, ["sub-01_task-tap", label])), zooms)
    write_map(tmp_path, "sub-01_task-other", 7)
    collected = find_maps(tmp_path)
    uncombinable = find_uncombinable(collected)
    lines = uncombinable.lines
    expected = {"sub-01_task-other", *(f"sub-01_task-tap_{label}" for label in remaining)}
    assert set(names(uncombinable.exclude(collected))) == expected
    assert list(uncombinable.reasons) == [("sub-01", ("tap", "n/a"))] * bool(parts)
    assert [participant for participant, _ in lines] == ["sub-01"] * bool(parts)
    for part in parts:
        assert part in lines[0][1]


def test_sessions_with_other_voxels_are_not_combined(tmp_path: Path) -> None:
    write_map(tmp_path, "sub-01_ses-a_task-tap", 4)
    write_map(tmp_path, "sub-01_ses-b_task-tap", 5)
    collected = find_maps(tmp_path)
    uncombinable = find_uncombinable(collected)
    ((_, line),) = uncombinable.lines
    assert uncombinable.exclude(collected).runs == []
    assert "ses-a and ses-b cannot be combined" in line


def write_boldref(root: Path, run: str, affine: np.ndarray, **sidecar: object) -> None:
    path = root / run.split("_")[0] / "func" / f"{run}_desc-hmc_boldref.nii.gz"
    save_image(np.ones((4, 4, 2), np.float32), affine, path)
    path.with_name(f"{run}_desc-hmc_boldref.json").write_text(json.dumps(sidecar))


@pytest.mark.parametrize("is_combined", [False, True])
@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"PhaseEncodingDirection": "j-"}, "PhaseEncodingDirection A to P; expected P to A"),
        ({"EchoTime": 0.02}, "EchoTime 20 ms; expected 30 ms"),
        ({"MagneticFieldStrength": 7}, "MagneticFieldStrength 7 T; expected 3 T"),
        ({"EchoTime": 0.0305, "MagneticFieldStrength": 2.89}, ""),
        ({"PhaseEncodingDirection": None}, ""),
    ],
)
def test_runs_acquired_otherwise_are_only_combined_if_their_stored_map_is(
    tmp_path: Path, fields: dict[str, object], words: str, *, is_combined: bool
) -> None:
    usual = {"PhaseEncodingDirection": "j", "EchoTime": 0.03, "MagneticFieldStrength": 3}
    for number, sidecar in enumerate((usual, {**usual, **fields}), 1):
        run = f"sub-01_task-tap_run-{number}"
        write_map(tmp_path, run)
        write_boldref(tmp_path, run, np.diag([4.0, 4.0, 4.0, 1.0]), **sidecar)
    if is_combined:
        combined_of(tmp_path, "run-1", "run-2")
    collected = find_maps(tmp_path)
    uncombinable = find_uncombinable(collected)
    is_excluded = bool(words) and not is_combined
    assert len(uncombinable.exclude(collected).runs) == (0 if is_excluded else 2)
    assert [words in line for _, line in uncombinable.lines] == [True] * is_excluded


def combined_of(root: Path, *runs: str, left_out: tuple[str, ...] = (), digest: str = "") -> None:
    """Write the stored map of all runs of a participant."""
    write_map(
        root,
        "sub-01_task-tap_space-firstBoldref",
        RunWeights=dict.fromkeys(runs, 1 / len(runs)),
        RunsLeftOut=dict.fromkeys(left_out, "other voxels"),
        SettingsDigest=digest,
    )


@pytest.mark.parametrize(
    ("existing", "left_out", "reason"),
    [
        (("run-1", "run-2"), (), ""),
        (("run-1", "run-2", "run-3"), ("run-3",), ""),
        (("run-1", "run-2"), ("run-3",), ""),
        ((), (), ""),
        (("run-1",), (), "run-2 no longer exists"),
        (("run-2", "run-3"), (), "run-1 no longer exists, run-3 is not included"),
    ],
)
def test_a_stored_map_is_used_only_if_it_matches_the_runs(
    tmp_path: Path, existing: tuple[str, ...], left_out: tuple[str, ...], reason: str
) -> None:
    for run in existing:
        write_map(tmp_path, f"sub-01_task-tap_{run}")
    combined_of(tmp_path, "run-1", "run-2", left_out=left_out)
    found = find_maps(tmp_path)
    assert len(found.combined) == (not reason)
    assert [participant for participant, _ in found.outdated] == ["sub-01"] * bool(reason)
    if reason:
        line = found.outdated[0][1]
        assert line.startswith("sub-01_task-tap: the stored maps of all runs were not used")
        assert f"({reason})" in line
        ((person,),) = group_by_participant(found).values()
        assert person.origin(KEY) == ("computed" if len(existing) > 1 else "single")


def test_a_stored_map_of_runs_that_were_mapped_with_other_settings_is_not_used(
    tmp_path: Path,
) -> None:
    for run in ("run-1", "run-2"):
        write_map(tmp_path, f"sub-01_task-tap_{run}")
        write_digest(tmp_path, f"sub-01_task-tap_{run}", "aaa")
    combined_of(tmp_path, "run-1", "run-2", digest="aaa")
    assert find_maps(tmp_path).outdated == []
    write_digest(tmp_path, "sub-01_task-tap_run-2", "bbb")
    found = find_maps(tmp_path)
    assert found.combined == []
    assert "(run-2 was mapped again with other settings)" in found.outdated[0][1]


def test_only_the_maps_that_do_not_match_are_computed_again(tmp_path: Path) -> None:
    for run in ("run-1", "run-2"):
        write_map(tmp_path, f"sub-01_task-tap_{run}")
    combined_of(tmp_path, "run-1", "run-2")
    image = write_map(
        tmp_path,
        "sub-01_task-tap_space-firstBoldref",
        Contrasts={
            "all": {"RunWeights": {"run-1": 0.5, "run-2": 0.5}},
            "left": {"RunWeights": {"run-9": 1.0}},
        },
    )
    shutil.copy(image, image.with_name(image.name.replace("-all_", "-left_")))
    found = find_maps(tmp_path)
    assert [maps.map_keys() for maps in found.combined] == [{KEY}]
    assert "the stored maps of all runs of left were not used" in found.outdated[0][1]


def test_a_map_that_its_sidecar_does_not_describe_is_computed_again(tmp_path: Path) -> None:
    """A later call with other contrasts writes the shared sidecar again."""
    for run in ("run-1", "run-2"):
        write_map(tmp_path, f"sub-01_task-tap_{run}")
    weights = {"RunWeights": {"run-1": 0.5, "run-2": 0.5}}
    write_map(tmp_path, "sub-01_task-tap_space-firstBoldref", Contrasts={"left": weights})
    found = find_maps(tmp_path)
    assert not found.combined
    assert "does not list its runs" in found.outdated[0][1]


def test_runs_with_other_super_resolved_voxels_are_not_combined(tmp_path: Path) -> None:
    """The acquired voxels of all runs are equal."""
    for label, zooms in (("run-1", 2.0), ("run-2", 1.0), ("run-3", 2.0)):
        acquired = write_map(tmp_path, f"sub-01_task-tap_{label}", 4)
        name = acquired.name.replace("boldref_", "boldref_res-hr_").replace("acquired", "sbl")
        affine = np.diag([zooms, zooms, 4.0, 1.0])
        save_image(np.ones((8, 8, 2), np.float32), affine, acquired.with_name(name))
    collected = find_maps(tmp_path)
    uncombinable = find_uncombinable(collected)
    assert names(uncombinable.exclude(collected)) == [
        "sub-01_task-tap_run-1",
        "sub-01_task-tap_run-3",
    ]
    ((_, line),) = uncombinable.lines
    assert "voxels of 1 × 1 × 4 mm; expected voxels of 2 × 2 × 4 mm, as in most runs" in line
