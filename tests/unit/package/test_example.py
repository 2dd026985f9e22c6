"""The example run of the quick start: its files, and the reference found without options."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import nibabel as nb
import numpy as np
import pytest
from nibabel.affines import apply_affine

ROOT = Path(__file__).parents[3]
EXAMPLE = ROOT / "examples" / "studyforrest"
MAX_SIZE = 15_000_000  # bytes
sys.path.insert(0, str(ROOT / "examples"))
import make_studyforrest as maker  # noqa: E402

from bids_sr.workflows.report_run import make_run_facts  # noqa: E402
from bids_sr.workflows.run_plan import SeriesCorrection  # noqa: E402


def test_the_example_is_small_and_names_license_and_source() -> None:
    files = [path for path in EXAMPLE.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < MAX_SIZE
    readme = (EXAMPLE / "README").read_text()
    assert "PDDL" in readme
    for page in (
        readme,
        (ROOT / "README.md").read_text(),
        (ROOT / "docs/tutorial.md").read_text(),
    ):
        assert "mean of 20 earlier volumes of the same run" in " ".join(page.split())
    assert "github.com/datalad/example-dicom-functional" in readme
    assert readme.endswith("Made by `examples/make_studyforrest.py`.\n")


def test_the_reference_of_the_example_is_found_without_options(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bids_sr.cli.parser import parse_settings
    from bids_sr.preflight import check, check_data

    monkeypatch.setenv("TEMPLATEFLOW_HOME", str(tmp_path / "templateflow"))
    settings = parse_settings([str(EXAMPLE), str(tmp_path / "out"), "participant"]).resolve(
        run_uuid="x"
    )
    plan = check(settings)
    assert plan.problems == ()
    (run,) = plan.subjects[0].runs
    assert run.pair is not None
    assert run.truth is not None
    assert run.truth.root == EXAMPLE / maker.PLACE
    assert (
        check_data(plan) == ()
    )  # includes the check for equal intensity units, stored with different quantization steps
    facts = make_run_facts(run, SeriesCorrection())
    assert "mean of 20 earlier volumes of the same run" in str(facts["T2* pair"])
    assert facts["Description"] == maker.ACQUIRED == "simulated 6 mm: 3 mm data, k-space cropped"
    assert "Description" not in make_run_facts(replace(run, sidecar={}), SeriesCorrection())


def write(path: Path, data: np.ndarray, affine: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nb.Nifti1Image(data.astype(np.int16), affine).to_filename(path)


def test_cropped_images_keep_positions_and_values_within_the_quantization_step(
    tmp_path: Path,
) -> None:
    """Use a ball of noise at 3 mm as measured run and its block means as acquired run."""
    rng = np.random.default_rng(0)
    grid = np.stack(np.meshgrid(*[np.arange(n) for n in (80, 80, 35)], indexing="ij"), -1)
    ball = np.linalg.norm((grid - (40, 36, 16)) * (1, 1, 2), axis=-1) < 20
    fine = np.where(
        ball[..., None],
        2000 + 50 * rng.standard_normal((80, 80, 35, 3)),
        rng.uniform(0, 40, (80, 80, 35, 3)),
    )
    coarse = fine.reshape(40, 2, 40, 2, 35, 3).mean((1, 3))
    affine = np.diag([3.0, 3.0, 3.3, 1.0])
    low_affine = affine @ np.array([[2, 0, 0, 0.5], [0, 2, 0, 0.5], [0, 0, 1, 0], [0, 0, 0, 1]])
    low, measured, out = tmp_path / "low", tmp_path / "measured", tmp_path / "out"
    write(low / f"{maker.STEM}_bold.nii.gz", coarse, low_affine)
    write(measured / f"{maker.STEM}_bold.nii.gz", fine, affine)
    for name, data, image_affine in (
        ("T1w", fine, affine),
        ("acq-highres_T2starw", fine, affine),
        ("acq-lowres_T2starw", coarse, low_affine),
    ):
        write(low / f"sub-01/anat/sub-01_{name}.nii.gz", data[..., 0], image_affine)
        maker.write_json(low / f"sub-01/anat/sub-01_{name}.json", {})
    maker.write_json(
        low / f"{maker.STEM}_bold.json", {"RepetitionTime": 2.0, "SliceTiming": list(range(35))}
    )
    for end in ("events.tsv", "events.json"):
        (low / f"{maker.STEM}_{end}").write_text("{}")
    maker.write_json(low / "dataset_description.json", {"License": "PDDL"})
    maker.make(low, measured, out)
    assert (out / f"{maker.STEM}_events.tsv").exists()
    assert (out / "task-localizer_events.json").exists()
    assert maker.read_json(out / f"{maker.STEM}_bold.json")["Description"] == maker.ACQUIRED
    acquired, reference = (
        nb.load(root / f"{maker.STEM}_bold.nii.gz") for root in (out, out / maker.PLACE)
    )
    for cropped, source, step in (
        (acquired, low, maker.STEP_ACQUIRED),
        (reference, measured, maker.STEP_MEASURED),
    ):
        original = nb.load(source / f"{maker.STEM}_bold.nii.gz")
        inner = (cropped.shape[0] // 2, cropped.shape[1] // 2, 9)
        voxel = np.rint(
            apply_affine(np.linalg.inv(original.affine) @ cropped.affine, inner)
        ).astype(int)
        assert (
            np.abs(cropped.get_fdata()[inner] - original.get_fdata()[tuple(voxel)]).max()
            <= step / 2
        )
    edges = [
        apply_affine(i.affine, np.array([[-0.5] * 3, np.array(i.shape[:3]) - 0.5]))
        for i in (acquired, reference)
    ]
    np.testing.assert_allclose(*edges, atol=1e-4)
    assert not reference.get_fdata()[0, 0].any()
    assert reference.get_fdata()[ball[maker.BOX]].min() > 1000
