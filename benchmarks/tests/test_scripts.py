"""Scripts of docs/ and examples/ that are run by hand: figures, and the example data set."""

from pathlib import Path

import nibabel as nb
import numpy as np
import pytest
from nibabel.affines import apply_affine
from pages import ROOT, loaded

maker = loaded(ROOT / "examples" / "make_studyforrest.py")


def test_the_figure_of_layers_is_up_to_date() -> None:
    figure = (ROOT / "docs/figures/layers.svg").read_text()
    assert figure == loaded(ROOT / "docs/draw_layers.py").drawn(), "run python docs/draw_layers.py"


@pytest.mark.parametrize("flip", [1, -1])
def test_the_figure_of_the_readme_labels_left_and_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flip: int
) -> None:
    """Left of the participant is on the left for both storage orders."""
    drawing = loaded(ROOT / "docs/make_figures.py")
    x = np.arange(16) if flip > 0 else np.arange(16)[::-1]  # from left to right
    tmap = np.tile(np.where(x < 4, 9.0, 0.0)[:, None, None], (1, 16, 4))  # active at the left
    image = nb.Nifti1Image(tmap, np.diag([3.0 * flip, 3, 3, 1]))
    figures = []
    names = ("acquired", "B-spline", "super-resolved (sbl)", "measured")
    monkeypatch.setattr(drawing, "panels", lambda *_: dict.fromkeys(names, (image, image)))
    monkeypatch.setattr(drawing, "read_verdict", lambda _: {"best": "sbl"})
    monkeypatch.setattr(drawing, "save", lambda figure, _: figures.append(figure))
    drawing.draw_example(tmp_path, tmp_path / "example.png")
    for axis in figures[0].axes[:4]:
        positions = {text.get_text(): text.get_position()[0] for text in axis.texts}
        assert positions["L"] < 0.5 < positions["R"]
        columns = np.ma.filled(axis.images[1].get_array(), 0).sum(0)
        middle = np.average(np.arange(16), weights=columns)
        assert (middle < 8) == (not axis.xaxis_inverted())


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
