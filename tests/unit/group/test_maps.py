"""Group maps compared with ANTs (points), nilearn (runs) and scipy (participants)."""

import json
from dataclasses import replace
from itertools import product
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from data.group_maps import (
    AFFINE,
    SHAPE,
    SPACE,
    map_path,
    plan_of,
    save_quickly,
    small_target,
    write_combined,
    write_frame,
    write_run,
    write_unit,
)
from scipy import stats

from bids_sr.group import maps as group_maps, template_sampling
from bids_sr.group.input_maps import (
    DerivativeMaps,
    ParticipantMaps,
    exclude_contrasts,
    find_maps,
    group_by_participant,
    read_map_entry,
    sort_runs,
)
from bids_sr.group.map_plan import common_smoothing, common_space
from bids_sr.group.map_records import exclusion_lines
from bids_sr.io.nifti import SeriesReader, load_image, save_image
from bids_sr.io.uris import template_uri
from bids_sr.spatial.itk_files import write_itk
from bids_sr.spatial.transforms import rigid_matrix, voxel_centers

RNG = np.random.default_rng(3)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("out")
    for number in range(1, 5):
        write_run(root, f"sub-{number:02d}_task-tap", number, gain=1.0 if number != 3 else 7.0)
    return root


def test_point_transforms_agree_with_ants_image_transforms(tmp_path: Path) -> None:
    from bids_sr.io.volume import Volume
    from bids_sr.preproc.ants import apply, apply_to_points

    first, second = tmp_path / "a.txt", tmp_path / "b.txt"
    write_itk(first, rigid_matrix([3, -2, 1, 0.1, 0.02, -0.2], [0, 0, 0]))
    write_itk(second, rigid_matrix([-5, 4, 2, 0, 0.3, 0.1], [10, 0, 5]))
    image = RNG.normal(0, 1, SHAPE).astype(np.float32)
    grid, mask = np.diag([3.0, 3.0, 3.0, 1.0]), np.ones((30, 30, 30), dtype=bool)
    grid[:3, 3] = [-30, -40, 10]
    points = apply_to_points(voxel_centers(mask, grid), [first, second])
    sampled = template_sampling.sample_at_points(image, AFFINE, points)
    reference = Volume(data=np.zeros(mask.shape, dtype=np.float32), affine=grid)
    expected = apply(Volume(data=image, affine=AFFINE), reference, [first, second], seed=1)[mask]
    assert np.abs(expected).max() > 1
    assert np.abs(sampled - expected).max() < 1e-3


def test_runs_and_their_transforms_to_the_template_are_found(cohort: Path) -> None:
    runs = find_maps(cohort).runs
    assert [run.participant for run in runs] == [f"sub-{n:02d}" for n in range(1, 5)]
    assert (common_space(runs), common_smoothing(runs)) == (SPACE, 5.0)
    for run in runs:
        assert run.explain_unavailable(SPACE) == ""
        assert (
            run.explain_unavailable("other") == f"no transform from {run.name} to other was found"
        )
    assert find_maps(cohort, lambda entities: entities["task"] == "rest").runs == []


def test_group_maps_are_stored_with_their_sidecars(cohort: Path) -> None:
    result = group_maps.compute_group_maps(plan_of(find_maps(cohort), ("acquired", "sbl")), cohort)
    assert list(result.maps["series"]) == ["acquired", "sbl"]
    assert result.notes == ()
    stem = (
        f"group_task-tap_space-{SPACE}_res-2_contrast-all_stat-effect_desc-acquiredFwhm50_statmap"
    )
    effect, _ = load_image(cohort / "group" / f"{stem}.nii.gz")
    header = SeriesReader(cohort / "group" / f"{stem}.nii.gz").header
    assert (header["qform_code"], header["sform_code"]) == (4, 4)
    sidecar = json.loads((cohort / "group" / f"{stem}.json").read_text())
    assert sidecar["Participants"] == [f"sub-{n:02d}" for n in range(1, 5)]
    assert (sidecar["SpatialReference"], sidecar["Units"]) == (template_uri(SPACE, "2"), "percent")
    # at any scanner gain: the gain of sub-03 is seven times larger
    center = AFFINE @ [SHAPE[0] // 2, SHAPE[1] // 2, SHAPE[2] // 2, 1]
    voxel = tuple(np.round(np.linalg.inv(result.mask.affine) @ center).astype(int)[:3])
    assert effect[voxel] == pytest.approx(4.1, rel=0.15)
    assert result.maps["peak_z"][0] > 2
    from nilearn.glm import threshold_stats_img

    row = result.maps.iloc[0]
    inside = nib.Nifti1Image((load_image(row.z)[0] != 0).astype(np.uint8), nib.load(row.z).affine)
    _, threshold = threshold_stats_img(
        row.z, inside, alpha=0.05, height_control="fdr", two_sided=False
    )
    assert row.fdr_z == pytest.approx(threshold)
    z_sidecar = json.loads(row.z.with_name(row.z.name.partition(".")[0] + ".json").read_text())
    assert z_sidecar["FDR05Threshold"] == (
        None if np.isinf(threshold) else pytest.approx(threshold)
    )


def test_the_group_mask_is_the_intersection_of_all_runs(tmp_path: Path) -> None:
    for number in (1, 2, 3):
        for run in (1, 2):
            write_run(tmp_path, f"sub-{number:02d}_task-tap_run-{run}", 10 * number + run)
    full_mask = group_maps.compute_group_maps(plan_of(find_maps(tmp_path)), tmp_path).mask
    (file,) = tmp_path.glob("sub-02/func/*_run-2_*_mask.nii.gz")
    mask, affine = load_image(file)
    mask[: SHAPE[0] // 2] = 0
    save_image(mask > 0, affine, file)
    reduced_mask = group_maps.compute_group_maps(plan_of(find_maps(tmp_path)), tmp_path).mask
    edge = affine[0, 0] * (SHAPE[0] // 2 - 1) + affine[0, 3]
    x = (
        reduced_mask.affine[0, 0] * np.argwhere(reduced_mask.data)[:, 0]
        + reduced_mask.affine[0, 3]
    )
    assert x.min() > edge
    assert 0.4 < reduced_mask.data.sum() / full_mask.data.sum() < 0.6


def test_too_few_participants_or_missing_transforms_are_reported(
    cohort: Path, tmp_path: Path
) -> None:
    runs = find_maps(cohort).runs
    too_few = plan_of(DerivativeMaps(runs=runs[:2]))
    assert "at least 3 participants are required, but only 2 participants" in too_few.notes[0]
    assert group_maps.compute_group_maps(too_few, tmp_path).maps.empty
    without_runs = group_maps.compute_group_maps(plan_of(DerivativeMaps()), tmp_path)
    assert without_runs.space is None
    assert without_runs.maps.empty
    assert without_runs.notes == plan_of(DerivativeMaps()).notes == ()
    untransformed = DerivativeMaps(runs=[replace(run, boldref2t1w=None) for run in runs])
    without_transforms = plan_of(untransformed)
    assert without_transforms.space is None
    assert group_maps.compute_group_maps(without_transforms, tmp_path).maps.empty
    (notice,) = without_transforms.notes
    assert "none of the participants" in notice
    assert all(run.name in notice for run in runs)
    assert not (tmp_path / "group").exists()


def test_a_participant_without_transforms_is_skipped_and_named(
    cohort: Path, tmp_path: Path
) -> None:
    write_run(cohort, "sub-09_task-tap", 9)
    (
        cohort / "sub-09/func/sub-09_task-tap_from-boldref_to-T1w_mode-image_desc-coreg_xfm.txt"
    ).unlink()
    result = group_maps.compute_group_maps(plan_of(find_maps(cohort)), tmp_path)
    assert result.notes == ()
    (notice,) = exclusion_lines(result.records)
    assert notice.startswith("sub-09 ")
    assert f"no transform from sub-09_task-tap to {SPACE}" in notice
    assert result.records[0].excluded.keys() == {"sub-09"}
    assert all("sub-09" not in participants for participants in result.maps["participants"])


def test_maps_in_the_template_space_are_not_resampled(tmp_path: Path) -> None:
    target = template_sampling.load_target(SPACE)
    for number in range(1, 4):
        name = f"sub-{number:02d}_task-tap"
        write_run(tmp_path, name, number)
        folder = tmp_path / f"sub-{number:02d}" / "func"
        (folder / f"{name}_from-boldref_to-T1w_mode-image_desc-coreg_xfm.txt").unlink()
        values = np.full(target.shape, number, dtype=np.float32)
        map_entities = f"space-{SPACE}_res-2_contrast-all_stat-effect_desc-acquiredFwhm50"
        save_image(values, target.affine, folder / f"{name}_{map_entities}_statmap.nii.gz")
    result = group_maps.compute_group_maps(
        plan_of(find_maps(tmp_path), ("acquired", "sbl")), tmp_path
    )
    assert list(result.maps["series"]) == ["acquired"]
    effect, _ = load_image(result.maps["effect"][0])
    assert np.unique(np.round(effect[result.mask.data], 4)).tolist() == [2.0]
    variance, _ = load_image(result.maps["variance"][0])
    # variance of 1, 2 and 3 percent, divided by three participants
    assert variance[result.mask.data] == pytest.approx(1 / 3, rel=1e-5)
    t, _ = load_image(result.maps["t"][0])
    assert t[result.mask.data] == pytest.approx(
        effect[result.mask.data] / np.sqrt(variance[result.mask.data]), rel=1e-5
    )
    sidecar = json.loads(
        Path(str(result.maps["variance"][0]).replace(".nii.gz", ".json")).read_text()
    )
    assert sidecar["Units"] == "percent^2"


def test_sign_flip_correction_equals_t_tests_of_all_flips(cohort: Path, tmp_path: Path) -> None:
    """Results do not depend on the number of threads."""
    runs = [run for run in find_maps(cohort).runs if run.participant != "sub-09"]
    plan = plan_of(DerivativeMaps(runs=runs), ("acquired", "sbl"))
    notices: list[str] = []
    results = [
        group_maps.compute_group_maps(
            plan,
            tmp_path / str(n),
            print_line=notices.append,
            flips=60,
            seed=4,
            threads=n,
        )
        for n in (1, 2)
    ]
    first, second = (result.maps for result in results)
    assert list(first["fwe_t"]) == list(second["fwe_t"]) == [np.inf, np.inf]
    assert "corrected p values cannot be smaller than 0.12, so no voxel" in results[0].notes[0]
    assert list(first["fwe_mm3"]) == [0, 0]
    uncorrected = group_maps.compute_group_maps(plan, tmp_path / "0")
    assert "fwe_t" not in uncorrected.maps
    assert uncorrected.notes == ()
    target = template_sampling.load_target(SPACE)
    inside = results[0].mask.data[target.mask]
    flips = np.array([(1, *signs) for signs in product((1, -1), repeat=len(runs) - 1)])
    for row in first.itertuples():
        path = row.logpMaxT
        assert path.name.startswith(
            f"group_task-tap_space-{SPACE}_res-2_contrast-all_stat-logpMaxT"
        )
        sidecar = json.loads(Path(str(path).replace(".nii.gz", ".json")).read_text())
        expected_fields = {"FWE05Threshold": None, "SignFlips": len(flips), "RandomSeed": 4}
        assert {name: sidecar[name] for name in expected_fields} == expected_fields
        effects = []
        for run in runs:
            key = ("all", row.series, 5.0, "effect")
            transforms = template_sampling.prepare_participant_sampling(
                ParticipantMaps(runs=[run]), target, [key]
            )
            effects.append(transforms.sample([key]).effects[key][inside])
        t = np.abs(
            [stats.ttest_1samp(flip[:, None] * np.array(effects, float), 0)[0] for flip in flips]
        )
        p = (t.max(axis=1)[:, None] >= t[0] * (1 - 1e-9)).mean(axis=0)
        values, _ = load_image(path)
        assert values[results[0].mask.data] == pytest.approx(-np.log10(p), abs=1e-5)
        assert not values[~results[0].mask.data].any()


def test_maps_of_combined_runs_are_not_listed_as_a_run(tmp_path: Path) -> None:
    names = [f"sub-01_task-tap_run-{run}" for run in (1, 2)]
    for seed, name in enumerate(names):
        write_run(tmp_path, name, seed)
    write_combined(tmp_path, "sub-01", names[1], names)
    collected = find_maps(tmp_path)
    assert [run.name for run in collected.runs] == names
    (maps,) = collected.combined
    assert maps.boldref == tmp_path / "sub-01/func" / f"{names[1]}_desc-hmc_boldref.nii.gz"
    assert maps.map_keys() == collected.runs[0].map_keys()
    ((person,),) = group_by_participant(collected).values()
    assert (person.combined, [run.name for run in person.runs]) == (maps, names)
    # the map includes runs that are not selected
    assert not find_maps(tmp_path, lambda entities: entities.get("run") == "1").combined


def test_combined_maps_that_lack_a_later_run_are_recomputed(tmp_path: Path) -> None:
    names = [f"sub-01_task-tap_run-{run}" for run in (1, 2, 3)]
    for seed, name in enumerate(names[:2]):
        write_run(tmp_path, name, seed)
    write_combined(tmp_path, "sub-01", names[0], names[:2])
    assert len(find_maps(tmp_path).combined) == 1
    write_run(tmp_path, names[2], 3)
    collected = find_maps(tmp_path)
    assert not collected.combined
    ((person,),) = group_by_participant(collected).values()
    assert person.origin(("all", "acquired", 5.0, "effect")) == "computed"
    # the run was excluded on purpose
    for sidecar in tmp_path.glob("sub-01/func/*space-firstBoldref*.json"):
        fields = json.loads(sidecar.read_text()) | {"RunsLeftOut": {"run-3": "other voxels"}}
        sidecar.write_text(json.dumps(fields))
    assert len(find_maps(tmp_path).combined) == 1


def test_stored_and_computed_maps_of_participants_agree(tmp_path: Path) -> None:
    """Stored means are interpolated once; run maps are interpolated before they are averaged."""
    for number in range(1, 5):
        names = [f"sub-{number:02d}_task-tap_run-{run}" for run in (1, 2, 3)]
        for run, name in enumerate(names):
            write_run(tmp_path, name, 10 * number + run)
    computed = group_maps.compute_group_maps(
        plan_of(find_maps(tmp_path), ("acquired", "sbl")), tmp_path
    )
    before = [load_image(path)[0] for path in computed.maps["effect"]]
    sidecar = json.loads(
        Path(str(computed.maps["effect"][0]).replace(".nii.gz", ".json")).read_text()
    )
    assert sidecar["Model"]["Runs"] == (
        "mean of the maps of the runs with equal weights (4 participants)"
    )
    for number in (1, 2, 3):
        names = [f"sub-{number:02d}_task-tap_run-{run}" for run in (1, 2, 3)]
        write_combined(tmp_path, f"sub-{number:02d}", names[0], names)
    stored = group_maps.compute_group_maps(
        plan_of(find_maps(tmp_path), ("acquired", "sbl")), tmp_path
    )
    for path, values in zip(stored.maps["effect"], before, strict=True):
        assert np.ptp(values) > 1
        assert np.abs(load_image(path)[0] - values).max() < 1e-4
    assert stored.mask.data.sum() == computed.mask.data.sum()
    sidecar = json.loads(
        Path(str(stored.maps["effect"][0]).replace(".nii.gz", ".json")).read_text()
    )
    assert sidecar["Participants"] == [f"sub-{number:02d}" for number in range(1, 5)]
    assert sidecar["Model"]["Runs"] == (
        "stored map of all runs (3 participants); mean of the maps of the runs with equal weights"
        " (1 participant)"
    )


def test_stored_maps_are_used_and_only_missing_contrasts_are_computed(tmp_path: Path) -> None:
    for number in range(1, 4):
        names = [f"sub-{number:02d}_task-tap_run-{run}" for run in (1, 2)]
        for run, name in enumerate(names):
            write_run(tmp_path, name, 10 * number + run)
        write_combined(tmp_path, f"sub-{number:02d}", names[0], names, shift=20)
    result = group_maps.compute_group_maps(plan_of(find_maps(tmp_path)), tmp_path)
    effect = load_image(result.maps["effect"][0])[0][result.mask.data]
    assert np.median(effect) == pytest.approx(20.1, abs=0.2)
    # a contrast that only has maps of runs is computed
    for path in tmp_path.glob("sub-02/func/*run*acquired*statmap.nii.gz"):
        path.with_name(path.name.replace("contrast-all", "contrast-rare")).write_bytes(
            path.read_bytes()
        )
    person = group_by_participant(find_maps(tmp_path))["tap", "n/a"][1]
    keys = [(name, "acquired", 5.0, "effect") for name in ("all", "rare")]
    assert [person.origin(key) for key in keys] == ["stored", "computed"]
    target = template_sampling.load_target(SPACE)
    transforms = template_sampling.prepare_participant_sampling(person, target, keys)
    effects = transforms.sample(keys).effects
    stored, computed = (effects[key][result.mask.data[target.mask]] for key in keys)
    assert np.abs(stored - computed - 20).max() < 1e-3


def test_voxels_missing_in_a_run_are_excluded_from_the_group_mask(tmp_path: Path) -> None:
    for number in range(1, 4):
        names = [f"sub-{number:02d}_task-tap_run-{run}" for run in (1, 2)]
        for run, name in enumerate(names):
            write_run(tmp_path, name, 10 * number + run)
        write_combined(tmp_path, f"sub-{number:02d}", names[0], names)
    full_mask = group_maps.compute_group_maps(plan_of(find_maps(tmp_path)), tmp_path).mask
    (file,) = tmp_path.glob(
        "sub-02/func/*space-firstBoldref_contrast-all_stat-effect_desc-acquired*.nii.gz"
    )
    data, affine = load_image(file)
    data[: SHAPE[0] // 2] = 0
    save_image(data, affine, file)
    reduced_mask = group_maps.compute_group_maps(plan_of(find_maps(tmp_path)), tmp_path).mask
    assert 0.4 < reduced_mask.data.sum() / full_mask.data.sum() < 0.6


def test_maps_of_all_sessions_are_used_and_are_in_percent(tmp_path: Path) -> None:
    names = [f"sub-01_ses-{label}_task-tap" for label in "AB"]
    for seed, name in enumerate(names):
        write_run(tmp_path, name, seed)
        folder = tmp_path / "sub-01" / name.split("_")[1] / "func"
        folder.mkdir(parents=True)
        for path in (tmp_path / "sub-01" / "func").glob(f"{name}_*"):
            path.rename(folder / path.name)
    write_combined(tmp_path, "sub-01", names[0], names, over_sessions=True)
    collected = find_maps(tmp_path)
    assert [run.name for run in collected.runs] == names
    ((person,),) = group_by_participant(collected).values()
    assert person.combined is not None
    image = person.combined.find_file(("all", "sbl", 5.0, "effect"), "")
    assert read_map_entry(image, "Units") == "percent"
    keys = [("all", "sbl", 5.0, "effect")]
    target = template_sampling.load_target(SPACE)
    values = []
    for maps in (person, ParticipantMaps(runs=person.runs)):
        transforms = template_sampling.prepare_participant_sampling(maps, target, keys)
        sampled = transforms.sample(keys)
        values.append(sampled.effects[keys[0]][sampled.inside["all"]])
    assert np.abs(values[0] - values[1]).max() < 1e-4
    session_a = find_maps(tmp_path, lambda entities: entities.get("session") == "A")
    ((person,),) = group_by_participant(session_a).values()
    assert person.combined is None
    both = find_maps(tmp_path, lambda entities: entities.get("session") in ("A", "B"))
    assert both.combined == collected.combined


def test_a_combined_map_of_a_single_session_is_not_used_for_the_participant(
    tmp_path: Path,
) -> None:
    for label in "AB":
        for run in (1, 2):
            write_run(tmp_path, f"sub-01_ses-{label}_task-tap_run-{run}", run)
    names = [f"sub-01_ses-A_task-tap_run-{run}" for run in (1, 2)]
    write_combined(tmp_path, "sub-01", names[0], names)
    func = tmp_path / "sub-01" / "func"
    for path in func.glob("sub-01_task-tap_space-firstBoldref_*"):
        path.rename(func / path.name.replace("sub-01_", "sub-01_ses-A_"))
    collected = find_maps(tmp_path)
    assert [maps.session for maps in collected.combined] == ["A"]
    ((person,),) = group_by_participant(collected).values()
    assert (person.combined, len(person.runs)) == (None, 4)
    session_a = find_maps(tmp_path, lambda entities: entities.get("session") == "A")
    ((person,),) = group_by_participant(session_a).values()
    assert person.combined is not None


def test_excluding_a_contrast_of_a_run_also_drops_combined_maps_of_the_run(
    tmp_path: Path,
) -> None:
    names = [f"sub-01_task-tap_run-{run}" for run in (1, 2, 3)]
    for seed, name in enumerate(names):
        write_run(tmp_path, name, seed)
    write_combined(tmp_path, "sub-01", names[0], names[:2], left_out=("run-3",))
    collected = find_maps(tmp_path)
    without_third = exclude_contrasts(tmp_path, collected, {names[2]: {"all"}})
    assert [len(maps.map_keys()) for maps in (*without_third.runs, *without_third.combined)] == [
        4,
        4,
        0,
        4,
    ]
    without_second = exclude_contrasts(tmp_path, collected, {names[1]: {"all"}})
    assert [len(maps.map_keys()) for maps in (*without_second.runs, *without_second.combined)] == [
        4,
        0,
        4,
        0,
    ]
    ((person,),) = group_by_participant(without_second).values()
    assert person.origin(("all", "sbl", 5.0, "effect")) == "computed"


def test_runs_of_a_session_are_brought_to_the_scale_of_the_first_run(tmp_path: Path) -> None:
    """Runs are sorted by number."""
    for run, gain in ((10, 4.0), (2, 1.0)):
        write_run(tmp_path, f"sub-01_task-tap_run-{run}", run, gain=gain)
    stem = tmp_path / "sub-01" / "func" / "sub-01_task-tap_run-10"
    file = stem.with_name(f"{stem.name}_desc-hmc_boldref.nii.gz")
    boldref, affine = load_image(file)
    bright = boldref > 100
    bright[:12] = False  # 6 of the 16 columns of the brain remain
    boldref[bright] *= 3
    save_image(boldref, affine, file)
    collected = find_maps(tmp_path)
    assert [run.name.split("-")[-1] for run in sort_runs(collected.runs)] == ["2", "10"]
    ((person,),) = group_by_participant(collected).values()
    target = template_sampling.load_target(SPACE)
    keys = [("all", "acquired", 5.0, "effect")]
    sampling = template_sampling.prepare_participant_sampling(person, target, keys)
    # in most voxels, the second run has 4 times the signal, and on average over the brain 7 times
    assert [run.scale for run in sampling.runs] == pytest.approx([1, 7 / 4], rel=1e-5)
    # a run in the template space has no points in its own space, and keeps its own scale
    stem.with_name(f"{stem.name}_from-boldref_to-T1w_mode-image_desc-coreg_xfm.txt").unlink()
    entities = f"space-{SPACE}_res-2_contrast-all_stat-effect_desc-acquiredFwhm50"
    effect = np.full(target.shape, 5.0, dtype=np.float32)
    save_image(effect, target.affine, stem.with_name(f"{stem.name}_{entities}_statmap.nii.gz"))
    ((person,),) = group_by_participant(find_maps(tmp_path)).values()
    assert len(person.runs) == 2
    sampling = template_sampling.prepare_participant_sampling(person, target, keys)
    assert [run.scale for run in sampling.runs] == [1, 1]


def test_mean_variance_and_t_equal_the_second_level_model_of_nilearn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The model gets the maps of the included participants in percent, and the common voxels."""
    from nilearn.glm.second_level import SecondLevelModel

    target = small_target()
    monkeypatch.setattr(group_maps, "load_target", lambda space: target)
    write_unit(tmp_path, "percent")
    rng, images = np.random.default_rng(8), {}
    for number in range(1, 8):
        name = f"sub-{number:02d}"
        values = rng.normal(0.4, 1, target.shape)
        inside = rng.random(target.shape) < (0.5 if number == 4 else 0.97)  # sub-04 is left out
        values[~inside] = 0
        stem = tmp_path / name / "func" / f"{name}_task-tap"
        write_frame(stem, np.diag([9.0, 9.0, 9.0, 1.0]), (2, 2, 2))
        save_quickly(values, target.affine, map_path(stem, "thumb"))
        images[name] = values.astype(np.float32)
    result = group_maps.compute_group_maps(plan_of(find_maps(tmp_path)), tmp_path)
    row = result.maps.iloc[0]
    assert row["participants"] == tuple(sorted(images.keys() - {"sub-04"}))
    common = np.all([images[name] != 0 for name in row["participants"]], axis=0)
    assert 0.6 < common.mean() < 0.95
    mask = nib.Nifti1Image(common.astype(np.uint8), target.affine)
    model = SecondLevelModel(mask_img=mask).fit(
        [nib.Nifti1Image(images[name], target.affine) for name in row["participants"]],
        design_matrix=pd.DataFrame({"intercept": np.ones(6)}),
    )
    expected = model.compute_contrast("intercept", output_type="all")
    names = {"effect": "effect_size", "variance": "effect_variance", "t": "stat", "z": "z_score"}
    for stat, nilearn_name in names.items():
        values, _ = load_image(row[stat])
        assert not values[~common].any()
        assert values == pytest.approx(expected[nilearn_name].get_fdata(), rel=1e-4, abs=1e-5)


def test_a_contrast_over_runs_enters_the_group_of_the_participants_who_have_it(
    tmp_path: Path,
) -> None:
    """It exists only in the maps of all runs, and its weights have both signs."""
    terms = [{"label": f"run-{2 - k}", "contrast": "all", "weight": 1 - 2 * k} for k in (0, 1)]
    for number in range(1, 5):
        names = [f"sub-{number:02d}_task-tap_run-{run}" for run in (1, 2)]
        for run, name in enumerate(names):
            write_run(tmp_path, name, seed=10 * number + run)
        if number == 4:
            continue
        write_combined(
            tmp_path, f"sub-{number:02d}", names[0], names, over_sessions=True, shift=20
        )
        for path in (tmp_path / f"sub-{number:02d}" / "func").glob("*firstBoldref*"):
            if path.suffix == ".json":
                sidecar = json.loads(path.read_text())
                sidecar["RunWeights"] = {"run-1": -1.0, "run-2": 1.0}
                sidecar["Terms"] = [{**term, "runs": names} for term in terms]
                path.write_text(json.dumps(sidecar))
            else:
                path.rename(path.with_name(path.name.replace("contrast-all", "contrast-change")))
    plan = plan_of(find_maps(tmp_path), ("acquired",))
    (record,) = [record for record in plan.records if record.key[0] == "change"]
    assert [member.participant for member in record.members] == ["sub-01", "sub-02", "sub-03"]
    assert {member.origin for member in record.members} == {"stored"}
    result = group_maps.compute_group_maps(plan, tmp_path)
    (path,) = [path for path in result.maps["effect"] if "contrast-change" in str(path)]
    values = load_image(path)[0]
    assert values[values != 0].mean() == pytest.approx(20, rel=0.05)
    sidecars = {
        other.name.partition("_contrast-")[2].partition("_")[0]: json.loads(other.read_text())
        for other in path.parent.glob("*_stat-effect_*.json")
    }
    assert sidecars["change"]["Terms"] == terms
    assert "Terms" not in sidecars["all"]
