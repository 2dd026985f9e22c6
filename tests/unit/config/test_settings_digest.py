"""Settings that affect results change the digest; paths, selection and machine settings do not."""

from pathlib import Path
from typing import Any

import pytest

from bids_sr.config import Settings
from bids_sr.config.settings import analysis_digest, differing_settings


def settings(**groups: dict[str, Any]) -> Settings:
    return Settings.from_mapping({"paths": {"bids_dir": "in", "output_dir": "out"}, **groups})


@pytest.mark.parametrize(
    ("group", "values"),
    [
        ("superres", {"method": ("srgan",)}),
        ("superres", {"recipe": "paper"}),
        ("superres", {"recipe_changes": ("srgan.batch=3",)}),
        ("preprocessing", {"dummy_scans": 3}),
        ("activation", {"smoothing": (0.0, 6.0)}),
        ("activation", {"roi": "brain"}),
        ("evaluation", {"roi_grow": True}),
        ("evaluation", {"retrospective": "clean"}),
        ("resources", {"random_seed": 1}),
        ("run", {"sloppy": True}),
    ],
)
def test_settings_that_affect_results_change_the_digest(
    group: str, values: dict[str, Any]
) -> None:
    changed = settings(**{group: values})
    assert analysis_digest(changed) != analysis_digest(settings())
    (name,) = values
    assert [*differing_settings(settings(), changed)] == [f"{group}.{name}"]


@pytest.mark.parametrize(
    ("group", "values"),
    [
        ("paths", {"bids_dir": "elsewhere", "output_dir": "out", "work_dir": "w"}),
        ("selection", {"participant_label": ("01",), "analysis_level": "group"}),
        ("superres", {"model_dir": "models", "force": True}),
        ("resources", {"nprocs": 7, "mem_gb": 3.0}),
        ("evaluation", {"margin": 0.1, "group_permutations": 99}),
        ("run", {"verbose": 2, "level": "full"}),
    ],
)
def test_settings_that_do_not_affect_results_keep_the_digest(
    group: str, values: dict[str, Any]
) -> None:
    assert analysis_digest(settings(**{group: values})) == analysis_digest(settings())


def test_the_digest_depends_on_the_content_of_files(tmp_path: Path) -> None:
    original, copy = tmp_path / "a.nii", tmp_path / "b.nii"
    original.write_bytes(b"1")
    copy.write_bytes(b"1")
    digests = [
        analysis_digest(settings(activation={"roi": str(path)})) for path in (original, copy)
    ]
    assert digests[0] == digests[1] != analysis_digest(settings())
    copy.write_bytes(b"2")
    assert analysis_digest(settings(activation={"roi": str(copy)})) != digests[0]
    models = [settings(superres={"pretrained": (str(path),)}) for path in (original, copy)]
    assert len({analysis_digest(variant) for variant in (*models, settings())}) == 3


def test_only_seed_and_sloppy_of_the_execution_settings_affect_results() -> None:
    changed = settings(
        paths={"bids_dir": "other", "output_dir": "other"},
        selection={
            "participant_label": ("01",),
            "task_id": ("tap",),
            "skip_bids_validation": True,
        },
        resources={"random_seed": 1, "nprocs": 7, "omp_nthreads": 2, "device": "cpu"},
        run={"sloppy": True, "dry_run": True, "run_uuid": "x", "strict": True},
    )
    assert [*differing_settings(settings(), changed)] == ["resources.random_seed", "run.sloppy"]
