"""Preflight checks: plan, contrasts of runs, estimates, validator report and voxel values."""

from __future__ import annotations

import dataclasses
import json
import os
import stat
import tracemalloc
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import nibabel as nb
import numpy as np
import pytest
from checking import found_by, problems_of
from data.dataset import EVENTS, BidsMaker
from graphmaker import stage_minutes

from bids_sr.bids import BoldRun, Findings
from bids_sr.bids.inputs import HighresReference
from bids_sr.bids.method_options import series_of_run
from bids_sr.cli.console import make_start_lines
from bids_sr.cli.stages import estimate_with_time
from bids_sr.config import Paths, Resources, Selection, Settings, SuperRes
from bids_sr.config.sections.activation import Activation
from bids_sr.config.sections.preprocessing import Preprocessing
from bids_sr.config.sections.run import Run
from bids_sr.io.nifti import save_image
from bids_sr.io.template_files import DEFAULT_SPACE, load_grid
from bids_sr.notices import Notice
from bids_sr.preflight import (
    Plan,
    check,
    check_data,
    cost_text,
    directories,
    dry_run_text,
    format_problems,
    validator,
    voxel_checks as voxels,
)
from bids_sr.preflight.estimability import TypesOfRun
from bids_sr.preflight.plan_text import _format_cost_table, notes
from bids_sr.preflight.run_contrasts import resolve_run_contrasts
from bids_sr.region_names import find_atlas
from bids_sr.run_time import RunTime
from bids_sr.spatial.transforms import hr_grid
from bids_sr.sr.method import get_method
from bids_sr.steps import bold_reference

NO_VALIDATOR = Selection(skip_bids_validation=True)
Planned = Callable[..., Plan]


@pytest.fixture
def maker(tmp_path: Path) -> BidsMaker:
    data = BidsMaker(tmp_path / "bids")
    data.subject()
    return data


@pytest.fixture
def planned(maker: BidsMaker) -> Planned:
    def _planned(**groups: object) -> Plan:
        return check(settings_for(maker, **groups))

    return _planned


def settings_for(maker: BidsMaker, **groups: object) -> Settings:
    paths = Paths(
        bids_dir=maker.root,
        output_dir=maker.root.parent / "out",
        work_dir=maker.root.parent / "work",
    )
    return Settings(**{"paths": paths, "selection": NO_VALIDATOR, **groups})  # type: ignore[arg-type]


def remove_pair(maker: BidsMaker) -> None:
    for resolution in ("highres", "lowres"):
        maker.path(f"sub-01_acq-{resolution}_T2starw.nii.gz", "anat").unlink()


def test_plan_of_a_valid_dataset(maker: BidsMaker, planned: Planned) -> None:
    plan = planned()
    assert plan.problems == ()
    assert plan.series == ("acquired", "bspline", "zerofill", "srgan", "sbl")
    (run,) = plan.subjects[0].runs
    assert plan.list_series(run) == plan.series
    assert list(plan.contrasts[run.bold]) == ["little", "thumb", "all", "littleMinusThumb"]


def test_series_that_require_a_pair_are_not_planned_without_a_pair(
    maker: BidsMaker, planned: Planned
) -> None:
    remove_pair(maker)
    plan = planned(superres=SuperRes(method=("all",), factor=2.0))
    assert plan.problems == ()
    assert not {"inject", "ratio"} & set(plan.series)
    assert plan.series[:2] == ("acquired", "bspline")


def test_series_of_a_run_without_a_pair(planned: Planned) -> None:
    plan = planned()
    run = dataclasses.replace(plan.subjects[0].runs[0], pair=None)
    assert series_of_run(run, SuperRes()) == ("acquired", "bspline", "zerofill", "sbl")
    requested = SuperRes(method=("srgan", "sbl"))
    assert series_of_run(run, requested) == ("acquired", "bspline", "zerofill", "srgan", "sbl")


def test_baselines_from_the_pair_require_a_reference_or_a_request(planned: Planned) -> None:
    run = planned().subjects[0].runs[0]
    with_reference = dataclasses.replace(run, truth=HighresReference())

    def pair_baselines(candidate: BoldRun, superres: SuperRes) -> set[str]:
        return {"inject", "ratio"} & set(series_of_run(candidate, superres))

    assert pair_baselines(run, SuperRes()) == set()
    assert pair_baselines(with_reference, SuperRes()) == {"inject", "ratio"}
    assert pair_baselines(run, SuperRes(method=("auto", "inject"))) == {"inject"}
    assert pair_baselines(run, SuperRes(method=("auto", "all"))) == {"inject", "ratio"}
    assert pair_baselines(dataclasses.replace(with_reference, pair=None), SuperRes()) == set()


class TestEvents:
    """Events are checked against the run."""

    def test_events_before_the_run_are_accepted(self, maker: BidsMaker, planned: Planned) -> None:
        maker.events(rows=((-27.9, 0.9, "thumb"), (-3.0, 1.0, "little"), *EVENTS))
        plan = planned()
        assert plan.problems == ()
        assert plan.warnings == ()

    def test_events_after_the_end_are_skipped(self, maker: BidsMaker, planned: Planned) -> None:
        maker.events(rows=(*EVENTS, (90.0, 1.0, "thumb"), (95.0, 1.0, "late")))
        plan = planned()
        assert plan.problems == ()
        texts = " ".join(notice.why for notice in plan.warnings)
        assert "events that begin after the end" in texts
        assert "its events are after the end" in texts
        assert [set(weights) for weights in plan.contrasts.values()] == [
            {"thumb", "little", "all", "littleMinusThumb"}
        ]

    def test_events_without_onset_or_duration_are_skipped(
        self, maker: BidsMaker, planned: Planned
    ) -> None:
        maker.events(rows=(*EVENTS, (3.0, "n/a", "thumb"), ("n/a", 1.0, "little")))
        plan = planned()
        assert plan.problems == ()
        assert (
            "2 of 6 events are not modeled because their onset or duration is n/a (first event:"
            " line 6)" in plan.warnings[0].why
        )

    def test_trial_type_is_optional(self, maker: BidsMaker, planned: Planned) -> None:
        maker.events(
            rows=tuple((onset, duration, 4) for onset, duration, _ in EVENTS),
            header="onset\tduration\tbid",
        )
        plan = planned()
        assert plan.problems == ()
        assert "the optional column trial_type is missing" in plan.warnings[0].why
        assert [dict(weights) for weights in plan.contrasts.values()] == [{"task": {"task": 1.0}}]

    def test_a_type_long_before_the_run_is_not_modeled(
        self, maker: BidsMaker, planned: Planned
    ) -> None:
        maker.events(rows=((-60.0, 1.0, "early"), *EVENTS))
        plan = planned()
        assert plan.problems == ()
        assert "its events are more than 24 s before the start" in plan.warnings[0].why
        (contrasts,) = plan.contrasts.values()
        assert "early" not in contrasts["all"]

    def test_a_block_that_ends_shortly_before_the_run_is_modeled(
        self, maker: BidsMaker, planned: Planned
    ) -> None:
        maker.events(rows=((-30.0, 20.0, "early"), *EVENTS))
        (contrasts,) = planned(activation=Activation(contrasts=("early",))).contrasts.values()
        assert contrasts == {"early": {"early": 1.0}}
        (contrasts,) = planned().contrasts.values()
        assert "early" not in contrasts["all"], "hardly any of its response is in the run"

    @pytest.mark.parametrize(
        ("n_volumes", "tr", "message"),
        [
            (16, 1.0, ("at least")),
            (17, 1.0, ""),
            (20, 0.4, "must last at least 10 s"),
            (26, 0.4, ""),
        ],
    )
    def test_a_run_without_events_needs_enough_volumes_for_its_seeds(
        self, maker: BidsMaker, planned: Planned, n_volumes: int, tr: float, message: str
    ) -> None:
        """Even correlations require three seeds, twelve motion regressors and the mean."""
        maker.bold("sub-01_task-rest", n_volumes=n_volumes, tr=tr)
        plan = planned(activation=Activation(kinds=("cc",)))
        assert plan.problems == ()
        reasons = [problem.why for problems in plan.skipped.values() for problem in problems]
        assert [message in reason for reason in reasons] == [True] * bool(message)

    def test_too_few_volumes_for_the_linear_model_are_reported(
        self, maker: BidsMaker, planned: Planned
    ) -> None:
        """Two trial types, twelve motion regressors and the mean require 16 volumes."""
        sufficient = planned(preprocessing=Preprocessing(dummy_scans=14))
        assert sufficient.problems == ()
        (problem,) = planned(preprocessing=Preprocessing(dummy_scans=15)).problems
        assert "the run has 30 volumes minus 15 dummy volumes" in problem.why
        assert "--dummy-scans" in problem.remedy

    def test_a_pass_band_that_leaves_too_few_degrees_of_freedom_is_rejected(
        self, maker: BidsMaker, planned: Planned
    ) -> None:
        (problem,) = planned(activation=Activation(band_pass=(0.01, 0.02))).problems
        assert "steady-state volumes. The linear model has" in problem.why
        assert problem.remedy.startswith("Use a wider --band-pass, or exclude the run")

    def test_few_drift_polynomials_are_accepted(self, maker: BidsMaker, planned: Planned) -> None:
        assert not planned(activation=Activation(drift="legendre:4")).problems

    def test_durations_beyond_the_end_of_the_run_are_reported(
        self, maker: BidsMaker, planned: Planned
    ) -> None:
        maker.events(rows=(*EVENTS, (28.0, 5.0, "thumb")))
        plan = planned()
        assert plan.problems == ()
        assert "durations that extend beyond the end of the run (" in plan.warnings[0].why

    def test_rest_events_after_the_end_are_ignored(
        self, maker: BidsMaker, planned: Planned
    ) -> None:
        maker.events(rows=(*EVENTS, (31.0, 5.0, "rest"), ("n/a", "n/a", "baseline")))
        plan = planned()
        assert plan.problems == ()
        assert next(iter(plan.contrasts.values()))["all"] == {"thumb": 0.5, "little": 0.5}

    @pytest.mark.parametrize(
        ("rows", "reason"),
        [
            (((1.0, -1.0, "thumb"),), "must be times in seconds"),
            (((1.0, "n/a", "thumb"),), "or lack an onset or duration"),
            ((("inf", 1.0, "thumb"),), "must be times in seconds"),
            (((-90.0, 1.0, "thumb"),), "all events are more than 24 s before"),
            ((), "the events table has no rows"),
        ],
    )
    def test_invalid_rows_of_an_events_table_are_rejected(
        self, maker: BidsMaker, planned: Planned, rows: tuple[tuple[object, ...], ...], reason: str
    ) -> None:
        maker.events(rows=rows)
        (problem,) = planned().problems
        assert reason in problem.why

    def test_an_events_table_in_another_encoding_is_rejected(
        self, maker: BidsMaker, planned: Planned
    ) -> None:
        maker.events().write_bytes(
            "onset\tduration\ttrial_type\n1\t1\tDäumling\n".encode("latin-1")
        )
        (problem,) = planned().problems
        assert "cannot be read as a table" in problem.why

    def test_the_number_of_messages_about_invalid_rows_is_limited(
        self, maker: BidsMaker, planned: Planned
    ) -> None:
        maker.events(rows=[("soon", 1, "thumb")] * 50)
        assert len(planned().problems) == 3


def types_of_runs(types: Mapping[Path, tuple[str, ...]]) -> dict[Path, TypesOfRun]:
    return {path: TypesOfRun.all_described(names) for path, names in types.items()}


class TestContrasts:
    """A contrast must fit a run; runs of other tasks are processed without it."""

    def test_contrasts_are_assigned_to_runs_with_their_trial_types(self) -> None:
        tap, look = Path("tap"), Path("look")
        types = types_of_runs({tap: ("thumb", "little"), look: ("face", "thumb")})
        findings = Findings()
        contrasts = resolve_run_contrasts(types, ["thumb-little", "thumb", "face"], {}, findings)
        assert findings.problems == []
        assert list(contrasts[tap]) == ["thumbMinusLittle", "thumb"]
        assert list(contrasts[look]) == ["thumb", "face"]
        assert all("is computed for 1 of 2 runs" in n.why for n in findings.notices)
        assert len(findings.notices) == 2

    def test_a_contrast_of_trial_types_of_different_runs_is_rejected(self) -> None:
        problems = problems_of(
            resolve_run_contrasts,
            types_of_runs({Path("a"): ("thumb",), Path("b"): ("face",)}),
            ["thumb-face"],
            {},
        )
        assert "no run contains all trial types of the contrast (thumb, face)" in problems[0].why

    def test_a_run_without_any_contrast_is_reported(self) -> None:
        problems = problems_of(
            resolve_run_contrasts,
            types_of_runs({Path("a"): ("thumb",), Path("b"): ("face",)}),
            ["thumb"],
            {},
        )
        assert [p.what for p in problems] == ["b"]

    def test_requested_contrasts_are_planned(self, planned: Planned) -> None:
        plan = planned(activation=Activation(contrasts=("d=0.5*thumb-0.5*little",)))
        assert list(plan.contrasts.values()) == [{"d": {"thumb": 0.5, "little": -0.5}}]


class TestDirectories:
    """Directories, templates and disk space."""

    def test_output_may_exist_or_not(self, maker: BidsMaker) -> None:
        settings = settings_for(maker)
        assert problems_of(directories.check_directories, settings) == []
        settings.paths.output_dir.mkdir()
        assert problems_of(directories.check_directories, settings) == []

    def test_output_may_be_in_a_subfolder_of_derivatives(self, maker: BidsMaker) -> None:
        for subfolder, allowed in (
            ("derivatives/bids-sr", True),
            ("derivatives/a/b", True),
            ("derivatives", False),
        ):
            problems = problems_of(
                directories.check_directories,
                settings_for(
                    maker, paths=Paths(bids_dir=maker.root, output_dir=maker.root / subfolder)
                ),
            )
            assert (problems == []) is allowed, subfolder

    def test_a_link_into_the_dataset_is_followed(self, maker: BidsMaker) -> None:
        (maker.root.parent / "out").symlink_to(maker.root / "sub-01")
        (problem,) = problems_of(directories.check_directories, settings_for(maker))
        assert "inside the dataset" in problem.why

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
    def test_an_output_directory_without_permission_is_rejected(self, maker: BidsMaker) -> None:
        out = maker.root.parent / "out"
        out.mkdir()
        out.chmod(stat.S_IRUSR | stat.S_IXUSR)
        (problem,) = problems_of(directories.check_directories, settings_for(maker))
        assert "is not writable" in problem.why

    @pytest.mark.parametrize("name", ["logs", "sub-01"])
    def test_folders_of_another_user_in_the_output_are_rejected(
        self, maker: BidsMaker, monkeypatch: pytest.MonkeyPatch, name: str
    ) -> None:
        out = maker.root.parent / "out"
        for folder in (out / "logs", out / "sub-01"):
            folder.mkdir(parents=True)
        (out / "logs" / "earlier").mkdir()
        (out / "logs" / "earlier" / "settings.toml").touch()
        assert problems_of(directories.check_directories, settings_for(maker)) == []
        monkeypatch.setattr(directories.os, "access", lambda path, mode: path != out / name)
        (problem,) = problems_of(directories.check_directories, settings_for(maker))
        assert problem.what == str(out / name)
        assert "is not writable" in problem.why

    def test_existing_files_reduce_the_required_disk_space(
        self, maker: BidsMaker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Finished runs can be repeated on a disk that they filled."""
        settings = settings_for(maker)
        cost = dataclasses.replace(check(settings).estimate, output_gb=0.0, work_gb=1e-5)
        monkeypatch.setattr(directories, "_RESERVE_GB", 0.0)
        monkeypatch.setattr(
            directories.shutil, "disk_usage", lambda path: type("U", (), {"free": 0})
        )
        assert len(problems_of(directories.check_disk_space, settings, cost)) == 1
        folder = maker.root.parent / "work"
        folder.mkdir()
        (folder / "image.nii").write_bytes(b"0" * 20_000)
        assert problems_of(directories.check_disk_space, settings, cost) == []

    def test_missing_model_files_are_reported(self, maker: BidsMaker) -> None:
        settings = settings_for(
            maker, superres=SuperRes(pretrained=(Path("/nowhere/model.safetensors"),), factor=2.0)
        )
        assert [p.what for p in problems_of(directories.check_directories, settings)] == [
            "/nowhere/model.safetensors"
        ]


class TestEstimate:
    def test_disk_space_of_outputs_depends_on_the_level(self, maker: BidsMaker) -> None:
        levels = ("minimal", "standard", "full")
        estimates = [check(settings_for(maker, run=Run(level=level))).estimate for level in levels]
        minimal, standard, full = (estimate.output_gb for estimate in estimates)
        assert minimal < standard < full
        assert full - standard > standard - minimal, "series of all baselines, and their maps"
        assert len({(estimate.work_gb, estimate.memory_gb) for estimate in estimates}) == 1

    def test_estimates_grow_linearly_with_the_number_of_volumes(self, maker: BidsMaker) -> None:
        """Stages that depend on the data grow in proportion; memory does not grow."""
        settings = settings_for(maker)
        plan_30 = check(settings)
        maker.bold(n_volumes=60)
        plan_60 = check(settings)
        maker.bold(n_volumes=90)
        plan_90 = check(settings)
        added = [
            {
                row.stage: row.minutes - before.minutes
                for row, before in zip(
                    estimate_with_time(later, settings).rows,
                    estimate_with_time(plan, settings).rows,
                    strict=True,
                )
            }
            for plan, later in ((plan_30, plan_60), (plan_60, plan_90))
        ]
        growing_stages = {stage for stage, minutes in added[0].items() if minutes > 0}
        assert growing_stages >= {
            "head-motion and slice-timing correction",
            "super-resolution and baseline methods",
            "activation maps",
            "storing the outputs",
        }
        assert growing_stages.isdisjoint({"training", "registration"})
        assert added[1] == pytest.approx(added[0])
        disk = [estimated_plan.estimate.work_gb for estimated_plan in (plan_30, plan_60, plan_90)]
        assert disk[2] - disk[1] == pytest.approx(disk[1] - disk[0])
        assert plan_60.estimate.memory_gb == pytest.approx(plan_30.estimate.memory_gb), (
            "nodes stream"
        )

    def test_disk_space_grows_by_the_size_of_each_series(self, planned: Planned) -> None:
        default_plan, full_plan = (
            planned(superres=SuperRes(method=methods)) for methods in (("auto",), ("auto", "all"))
        )
        series_gb, effects, maps = 16 * 16 * 6 * 30 * 4 / 1e9, 0.06, 5.5 * 2 * 4 / 30
        added = (
            (len(full_plan.series) - len(default_plan.series)) * series_gb * (1 + effects + maps)
        )
        assert full_plan.estimate.work_gb - default_plan.estimate.work_gb == pytest.approx(added)

    def test_the_time_of_a_stage_is_the_sum_of_its_steps(
        self, maker: BidsMaker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        settings = settings_for(maker)
        before = stage_minutes(settings)
        long_cost = RunTime(always=6000.0)
        monkeypatch.setattr(bold_reference.average_volumes, "cost", long_cost)
        after = stage_minutes(settings)
        stage = "head-motion and slice-timing correction"
        assert after.pop(stage) == pytest.approx(before.pop(stage) + 100, abs=0.1)
        assert after == before

    def test_time_grows_with_the_number_of_participants(self, maker: BidsMaker) -> None:
        one_participant = sum(stage_minutes(settings_for(maker)).values())
        maker.subject("02")
        two_participants = sum(stage_minutes(settings_for(maker)).values())
        start = stage_minutes(settings_for(maker))["starting the program and writing the reports"]
        assert two_participants - start == pytest.approx(2 * (one_participant - start))

    def test_more_processes_are_faster_and_need_more_memory(self, maker: BidsMaker) -> None:
        requests = [settings_for(maker, resources=Resources(nprocs=n)) for n in (1, 2, 64)]
        single, double, parallel = (
            estimate_with_time(check(request), request) for request in requests
        )
        assert double.minutes < single.minutes / 1.5
        assert parallel.minutes > single.minutes / 8, "one run cannot keep 64 processors busy"
        assert single.memory_gb < double.memory_gb < parallel.memory_gb
        assert parallel.memory_gb < single.memory_gb + 64 * 0.3

    def test_training_time_can_be_limited_or_skipped(self, maker: BidsMaker) -> None:
        def minutes(**options: Any) -> float:
            superres = SuperRes(recipe="paper", method=("srgan",), **options)
            return stage_minutes(settings_for(maker, superres=superres))["training"]

        bounded = minutes(max_train_minutes=1.0)
        assert 1 <= bounded < 1.1
        cost = get_method("srgan").cost("paper")
        assert minutes() - bounded == pytest.approx(cost.always / 60, rel=0.01)
        assert minutes(model_source="reuse", model_dir=maker.root) < 0.1


def test_the_dry_run_prints_the_plan(maker: BidsMaker, planned: Planned) -> None:
    settings = settings_for(maker)
    plan = planned()
    text = dry_run_text(
        dataclasses.replace(plan, estimate=estimate_with_time(plan, settings)), settings
    )
    for part in (
        "sub-01_task-tap: 8×8×6 voxels of 6×6×4 mm, 30 volumes, TR 1 s",
        "pair: sub-01_acq-highres_T2starw.nii.gz and sub-01_acq-lowres_T2starw.nii.gz",
        "super-resolution: srgan, sbl by 2×2×1 (factor from the T2*w pair)",
        "littleMinusThumb = little-thumb",
        "all = mean of little, thumb",
        "consider acquiring a high-resolution calibration run of at least 20 volumes",
        (
            "without a high-resolution reference, only the self-test at half the resolution can"
            " be performed. To measure accuracy, use --retro"
        ),
        "series: acquired bspline zerofill srgan sbl",
        "smoothing (FWHM): 0 mm, 5 mm",
        "GB of disk space for intermediate files and",
    ):
        assert part in text


@pytest.mark.parametrize(
    ("name", "with_t1w", "line"),
    [
        ("v1.nii.gz", True, "v1.nii.gz, boldref space, 27 voxels"),
        ("v1.nii.gz", False, "v1.nii.gz, boldref space, 27 voxels"),
        ("space-T1w_mask.nii.gz", True, "space-T1w_mask.nii.gz, T1w space, 27 voxels"),
        (
            f"space-{DEFAULT_SPACE}_mask.nii.gz",
            True,
            f"space-{DEFAULT_SPACE}_mask.nii.gz, template space, 27 voxels",
        ),
        (
            f"tpl-{DEFAULT_SPACE}_mask.nii.gz",
            True,
            f"tpl-{DEFAULT_SPACE}_mask.nii.gz, template space, 27 voxels",
        ),
        ("space-T1w_mask.nii.gz", False, "whole brain"),
    ],
)
def test_the_dry_run_names_the_space_and_the_voxels_of_a_mask(
    maker: BidsMaker, name: str, with_t1w: bool, line: str
) -> None:
    if not with_t1w:
        maker.path("sub-01_T1w.nii.gz", "anat").unlink()
    run: Any = nb.load(maker.path("sub-01_task-tap_bold.nii.gz", "func"))  # type: ignore[attr-defined]
    data = np.zeros(run.shape[:3], np.uint8)
    data[2:5, 3:6, 1:4] = 1
    nb.save(nb.Nifti1Image(data, run.affine), maker.root.parent / name)
    settings = settings_for(maker, activation=Activation(roi=str(maker.root.parent / name)))
    plan = check(settings)
    assert not plan.problems
    assert f"  region of interest: {line}" in dry_run_text(plan, settings).splitlines()


@pytest.mark.parametrize("space", ["T1w", "boldref", "boldref at high resolution", "template"])
def test_a_mask_without_a_space_in_its_name_has_the_space_of_an_equal_grid(
    maker: BidsMaker, space: str
) -> None:
    t1w: Any = nb.load(maker.path("sub-01_T1w.nii.gz", "anat"))  # type: ignore[attr-defined]
    run: Any = nb.load(maker.path("sub-01_task-tap_bold.nii.gz", "func"))  # type: ignore[attr-defined]
    template_grid = load_grid(DEFAULT_SPACE, "2") or load_grid(DEFAULT_SPACE, "1")
    assert template_grid is not None
    shape, affine = {
        "T1w": (t1w.shape, t1w.affine),
        "boldref": (run.shape[:3], run.affine),
        "boldref at high resolution": hr_grid(run.shape, run.affine, (2, 2, 1)),
        "template": template_grid,
    }[space]
    data = np.zeros(shape, np.uint8)
    data[2:5, 2:5, 1:4] = 1
    path = maker.root.parent / "mask.nii.gz"
    nb.save(nb.Nifti1Image(data, affine), path)
    settings = settings_for(maker, activation=Activation(roi=str(path)))
    plan = check(settings)
    assert not plan.problems
    assert plan.find_region_space("01") == space.partition(" ")[0]
    nb.save(nb.Nifti1Image(data, affine + np.diag([0, 0, 0.5, 0])), path)
    assert [problem.what for problem in check(settings).problems] == [f"--roi {path}"]


def test_the_dry_run_names_atlas_labels(maker: BidsMaker) -> None:
    settings = settings_for(maker, activation=Activation(roi="Calcarine_L"))
    lines = dry_run_text(check(settings), settings).splitlines()
    labels = find_atlas().labels
    image: Any = nb.load(find_atlas().image)  # type: ignore[attr-defined]
    n_voxels = np.count_nonzero(np.asanyarray(image.dataobj) == labels["Calcarine_L"])
    assert n_voxels > 1000
    assert (
        f"  region of interest: Calcarine_L, labels of AAL2, {n_voxels:,} voxels of the atlas"
        in lines
    )


def test_rows_of_the_dry_run_sum_to_its_total(maker: BidsMaker, planned: Planned) -> None:
    """Times are wall-clock minutes with the processes of the call on this machine."""
    cost = estimate_with_time(planned(), settings_for(maker))
    for slower in (1.0, 7.3):
        table = [line.split() for line in _format_cost_table(cost, slower)]
        assert table[0] == ["wall-clock", "min", "GB", "memory"]
        *stages, (minutes, memory) = [[float(cell) for cell in row[-2:]] for row in table[1:-1]]
        assert len(stages) == len(cost.rows) > 5
        assert sum(row[0] for row in stages) == pytest.approx(minutes)
        assert minutes == pytest.approx(cost.minutes * slower, abs=0.051)
        assert memory == pytest.approx(cost.memory_gb, abs=0.051)
        assert all(0 < row[1] <= memory for row in stages)


def test_a_busy_machine_is_reported(
    planned: Planned, maker: BidsMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = planned()
    monkeypatch.setattr(
        "bids_sr.preflight.plan_text.measure_slowdown", lambda processors: (4.0, 4.0)
    )
    long = dataclasses.replace(plan, estimate=dataclasses.replace(plan.estimate, minutes=10.0))
    assert cost_text(long, settings_for(maker)).startswith("about 40 min of wall-clock time with ")
    assert "(machine busy: 4.0 times slower)" in cost_text(long, settings_for(maker))
    monkeypatch.setattr(
        "bids_sr.preflight.plan_text.measure_slowdown", lambda processors: (2.2, 1.1)
    )
    assert "busy" not in cost_text(long, settings_for(maker))


def test_the_dry_run_reports_that_a_low_resolution_image_is_simulated(
    maker: BidsMaker, planned: Planned
) -> None:
    maker.path("sub-01_acq-lowres_T2starw.nii.gz", "anat").unlink()
    text = dry_run_text(planned(), settings_for(maker))
    assert "sub-01_acq-highres_T2starw.nii.gz and its k-space-truncated copy" in text
    assert "\nnote: " in text


def test_problems_are_formatted_with_reason_and_fix() -> None:
    text = format_problems(
        [
            Notice(what="a.nii", why="broken", remedy="mend it"),
            Notice(what="b", why="c", remedy="d"),
        ]
    )
    assert text.splitlines()[1:4] == ["a.nii", "  why: broken", "  fix: mend it"]
    assert "2 problems" in text


class TestVoxels:
    """Voxel values are read once, one volume at a time."""

    def test_memory_does_not_grow_with_volumes(self, maker: BidsMaker) -> None:
        peaks = []
        for n_volumes in (50, 400):
            rng = np.random.default_rng(0)
            data = rng.integers(0, 900, (16, 16, 16, n_volumes), dtype="int16")
            path = maker.bold(data=data, n_volumes=n_volumes)
            tracemalloc.start()
            assert problems_of(voxels._check_image, path) == []
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
        assert peaks[1] < 1.2 * peaks[0] + 50_000

    @pytest.mark.parametrize("dtype", ["uint8", ">i2", "int32", "float32", ">f4", "float64"])
    @pytest.mark.parametrize("name", ["x_bold.nii", "x_bold.nii.gz"])
    def test_all_data_types_are_checked(self, tmp_path: Path, dtype: str, name: str) -> None:
        import nibabel as nb

        data = np.random.default_rng(1).integers(1, 200, (4, 5, 6, 3)).astype(dtype)
        header = nb.Nifti1Header(endianness=">" if dtype.startswith(">") else "<")
        header.set_data_dtype(dtype)
        nb.save(nb.Nifti1Image(data, np.eye(4), header), tmp_path / name)
        assert problems_of(voxels._check_image, tmp_path / name) == []
        data[..., 1] = 3
        nb.save(nb.Nifti1Image(data, np.eye(4), header), tmp_path / name)
        (problem,) = problems_of(voxels._check_image, tmp_path / name)
        assert "constant volumes were found (1 of 3 volumes, counted from 0: 1" in problem.why

    def test_a_few_constant_volumes_are_only_rejected_if_they_are_not_excluded(
        self, tmp_path: Path
    ) -> None:
        data = np.random.default_rng(1).integers(1, 200, (4, 5, 6, 30)).astype("i2")
        data[..., -2:] = 0
        save_image(data, np.eye(4), tmp_path / "x_bold.nii", dtype="i2")
        findings = Findings()
        voxels._check_image(tmp_path / "x_bold.nii", findings, may_exclude=True)
        (warning,) = findings.notices
        assert warning.level == "warning"
        assert "constant volumes were found (2 of 30 volumes" in warning.why
        (problem,) = problems_of(voxels._check_image, tmp_path / "x_bold.nii")
        assert "2 of 30" in problem.why

    def test_a_damaged_checksum_is_detected(self, maker: BidsMaker) -> None:
        """Voxels may be readable but wrong if the checksum at the end of the file is wrong."""
        path = maker.path("sub-01_task-tap_bold.nii.gz", "func")
        content = bytearray(path.read_bytes())
        content[-6] ^= 0xFF
        path.write_bytes(bytes(content))
        (problem,) = problems_of(voxels._check_image, path)
        assert "truncated or corrupt" in problem.why

    def test_images_are_read_once(
        self, maker: BidsMaker, planned: Planned, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        maker.bold("sub-01_task-tap_run-2")
        maker.events("sub-01_task-tap_run-2")
        paths: list[Path] = []
        monkeypatch.setattr(
            voxels, "_check_image", lambda path, *arguments, **keywords: paths.append(path)
        )
        assert check_data(planned()) == ()
        assert len(paths) == len(set(paths)) == 5


class TestValidator:
    """Problems from the report of the BIDS validator."""

    RUNS = MappingProxyType(
        {
            "sub-01_task-tap_run-1": (
                Path("/d/sub-01/func/sub-01_task-tap_run-1_bold.nii"),
                None,
            )
        }
    )

    @pytest.fixture
    def problems(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> Callable[..., list[Notice]]:
        """Return a function that lists the problems for the issues of a stand-in validator.

        All files with issues are read by the call.
        """
        program, report = tmp_path / "validator", tmp_path / "report.json"
        program.write_text(f"#!/bin/sh\ncat {report}\n")
        program.chmod(0o755)
        monkeypatch.setattr(validator, "_find_validator", lambda: program)

        def validate(
            *issues: dict[str, str], reported_paths: tuple[Path, ...] = ()
        ) -> list[Notice]:
            errors = [{"severity": "error", **issue} for issue in issues]
            messages = {"NOT_INCLUDED": "Not part of BIDS. Rename it."}
            report.write_text(json.dumps({"issues": {"issues": errors, "codeMessages": messages}}))
            previous = [Notice(what=str(path)) for path in reported_paths]
            findings = Findings(problems=[*previous])
            files = {Path("/d" + issue["location"]) for issue in issues}
            validator.validate(Path("/d"), ["01"], self.RUNS, files, findings)
            return findings.problems[len(previous) :]

        return validate

    def test_issues_of_the_same_code_are_one_problem(
        self, problems: Callable[..., list[Notice]]
    ) -> None:
        issues = [{"code": "NOT_INCLUDED", "location": f"/sub-01/x{i}.nii"} for i in range(5)]
        (problem,) = problems(*issues)
        assert problem.what == "/d/sub-01/x0.nii, /d/sub-01/x1.nii, /d/sub-01/x2.nii and 2 more"
        assert problem.why == "BIDS validator: Not part of BIDS. Rename it. [NOT_INCLUDED]"
        assert "--skip-bids-validation" in problem.remedy

    def test_warnings_and_other_participants_are_ignored(
        self, problems: Callable[..., list[Notice]]
    ) -> None:
        assert problems({"code": "X", "location": "/sub-01/a", "severity": "warning"}) == []
        assert problems({"code": "X", "location": "/sub-02/func/a.nii"}) == []
        assert problems({"code": "X", "location": "/task-rest_bold.json"}) == []

    @pytest.mark.parametrize(
        ("location", "subject", "run"),
        [
            ("/task-tap_bold.json", "01", "sub-01_task-tap_run-1"),
            (
                "/sub-01/func/sub-01_task-tap_run-01_recording-cardiac_physio.tsv.gz",
                "01",
                "sub-01_task-tap_run-1",
            ),
            ("/sub-01/sub-01_scans.tsv", "01", ""),
            ("/sub-01/func/sub-01_task-tap_acq-mb_run-1_bold.nii", None, ""),  # another run
            ("/dataset_description.json", "", ""),
            ("/participants.tsv", "", ""),  # unknown participant: the table does not exist
        ],
    )
    def test_an_error_is_assigned_to_participant_and_run(
        self,
        problems: Callable[..., list[Notice]],
        location: str,
        subject: str | None,
        run: str,
    ) -> None:
        owners = [
            (problem.subject, problem.run)
            for problem in problems({"code": "X", "location": location})
        ]
        assert owners == ([] if subject is None else [(subject, run)])

    def test_errors_reported_before_are_not_repeated(
        self, problems: Callable[..., list[Notice]]
    ) -> None:
        issue = {
            "code": "SIDECAR_KEY_REQUIRED",
            "subCode": "RepetitionTime",
            "location": "/sub-01/b.nii",
        }
        assert problems(issue, reported_paths=(Path("/d/sub-01/b.nii"),)) == []
        assert len(problems(issue)) == 1

    def test_a_missing_validator_is_a_warning(
        self, monkeypatch: pytest.MonkeyPatch, maker: BidsMaker
    ) -> None:
        monkeypatch.setattr(validator, "_find_validator", lambda: None)
        plan = check(settings_for(maker, selection=Selection()))
        assert plan.problems == ()
        assert "not validated" in plan.warnings[0].why

    @pytest.mark.parametrize(
        ("body", "text"),
        [
            ("sleep 20", "did not finish"),
            ("echo oops >&2; exit 1", "oops"),
            ("echo '{\"a\": 1}'", "does not have the expected format"),
        ],
    )
    def test_a_failing_validator_is_a_notice(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, text: str
    ) -> None:
        program = tmp_path / "validator"
        program.write_text(f"#!/bin/sh\nexec 2>&1\n{body}\n")
        program.chmod(0o755)
        monkeypatch.setattr(validator, "_find_validator", lambda: program)
        findings = found_by(validator.validate, tmp_path, ["01"], {}, (), timeout_s=1.0)
        assert findings.problems == []
        assert [text in notice.why for notice in findings.notices] == [True]

    @pytest.mark.skipif(
        validator._find_validator() is None, reason="bids-validator-deno is not installed"
    )
    def test_the_installed_validator_reports_no_problem(
        self, maker: BidsMaker, tmp_path: Path
    ) -> None:
        before = sorted(tmp_path.rglob("*"))
        assert found_by(validator.validate, maker.root, ["01"], {}, ()) == Findings()
        assert sorted(tmp_path.rglob("*")) == before


def test_training_time_of_2d_methods_does_not_depend_on_large_volumes() -> None:
    tv, unet = get_method("tv").cost("fast"), get_method("unet").cost("fast")
    assert tv.seconds(high=0.2) > 1.9 * tv.seconds(high=0.1)
    assert tv.seconds(high=3.0) == tv.seconds(high=0.6)
    assert unet.seconds(high=3.0) == pytest.approx(5 * unet.seconds(high=0.6))


class TestMissingEvents:
    """A task run without events is processed as rest; the first message says so, with a fix."""

    def test_a_task_without_events_table_is_the_first_warning(self, maker: BidsMaker) -> None:
        maker.path("sub-01_task-tap_events.tsv", "func").unlink()
        maker.path("sub-01_T1w.nii.gz", "anat").unlink()  # other notes
        settings = settings_for(maker)
        plan = check(settings)
        first, *further_notes = notes(plan, settings)
        text = str(first)
        assert first.level == "warning"
        assert text.startswith(
            "sub-01/func/sub-01_task-tap_bold.nii.gz: sub-01_task-tap_events.tsv was not found"
        )
        assert "--ignore events" in text
        assert {note.level for note in further_notes} == {"note"}
        assert next(str(note) for note in plan.warnings if note.level == "warning").endswith(text)
        printed_plan = dry_run_text(plan, settings)
        assert (
            printed_plan.index("warning: ")
            < printed_plan.index("series: ")
            < printed_plan.index("note: ")
        )
        first, second, *_ = make_start_lines(plan, settings)
        assert first.startswith("  warning ")
        assert second.startswith("  dataset ")

    @pytest.mark.parametrize("kind", ["rest", "ignored"])
    def test_rest_and_ignored_events_cause_no_warning(self, maker: BidsMaker, kind: str) -> None:
        table = maker.path("sub-01_task-tap_events.tsv", "func")
        if kind == "rest":
            for path in table.parent.glob("*task-tap*"):
                path.rename(path.with_name(path.name.replace("task-tap", "task-RestEyes")))
            (table.parent / "sub-01_task-RestEyes_events.tsv").unlink()
        plan = check(
            settings_for(
                maker, preprocessing=Preprocessing(ignore=("events",) if kind == "ignored" else ())
            )
        )
        assert not [notice for notice in plan.warnings if notice.level == "warning"]

    @pytest.mark.parametrize("text", ["", "onset\tduration\ttrial_type\n"])
    def test_error_of_an_empty_table_names_the_option(self, maker: BidsMaker, text: str) -> None:
        maker.path("sub-01_task-tap_events.tsv", "func").write_text(text)
        (problem,) = check(settings_for(maker)).problems
        assert "--ignore events" in problem.remedy

    def test_zero_durations_are_reported(self, maker: BidsMaker) -> None:
        maker.events(
            rows=(
                (2.0, 0.0, "thumb"),
                (8.0, 4.0, "little"),
                (14.0, 0, "thumb"),
                (19.0, 4.0, "little"),
            )
        )
        assert any(
            "2 of 4 events have zero duration" in notice.why
            for notice in check(settings_for(maker)).warnings
        )


def test_an_output_inside_the_dataset_is_rejected_before_indexing(
    maker: BidsMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "bids_sr.preflight.checks.survey", lambda settings: pytest.fail("the data set was indexed")
    )
    settings = settings_for(
        maker,
        paths=Paths(bids_dir=maker.root, output_dir=maker.root, work_dir=maker.root.parent / "w"),
    )
    (problem,) = check(settings).problems
    assert "must not be inside the dataset" in problem.why
