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


def test_truncation_in_k_space_samples_between_two_measured_voxels() -> None:
    def wave(x: np.ndarray) -> np.ndarray:
        return 1000 + 500 * np.cos(2 * np.pi * 3 * x / 80)

    image = wave(np.arange(80.0))[:, None, None] * np.ones((80, 80, 2))
    low = maker.truncated(image)
    expected = wave(2 * np.arange(40) + 0.5)[:, None, None] * np.ones((40, 40, 2))
    np.testing.assert_allclose(low, expected, atol=0.5001)


def write(path: Path, data: np.ndarray, affine: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nb.Nifti1Image(data.astype(np.int16), affine).to_filename(path)


def test_cropped_images_keep_positions_and_values_within_the_quantization_step(
    tmp_path: Path,
) -> None:
    """Use a ball of noise at 3 mm as measured run."""
    rng = np.random.default_rng(0)
    grid = np.stack(np.meshgrid(*[np.arange(n) for n in (80, 80, 35)], indexing="ij"), -1)
    ball = np.linalg.norm((grid - (40, 36, 16)) * (1, 1, 2), axis=-1) < 20
    fine = np.where(
        ball[..., None],
        2000 + 50 * rng.standard_normal((80, 80, 35, 9)),
        rng.uniform(0, 40, (80, 80, 35, 9)),
    ).astype(np.int16)
    affine = np.diag([3.0, 3.0, 3.3, 1.0])
    low_affine = affine @ np.array([[2, 0, 0, 0.5], [0, 2, 0, 0.5], [0, 0, 1, 0], [0, 0, 0, 1]])
    source, out = tmp_path / "source", tmp_path / "out"
    write(source / f"{maker.STEM}_bold.nii.gz", fine, affine)
    write(source / "sub-01/anat/sub-01_T1w.nii.gz", fine[..., 0], affine)
    maker.write_json(source / "sub-01/anat/sub-01_T1w.json", {})
    maker.write_json(
        source / f"{maker.STEM}_bold.json", {"RepetitionTime": 2.0, "SliceTiming": list(range(35))}
    )
    maker.write_json(source / f"{maker.STEM}_events.json", {})
    events = source / f"{maker.STEM}_events.tsv"
    events.write_text("onset\tduration\ttrial_type\n12.028\t0.883\tface\n")
    maker.write_json(source / "dataset_description.json", {"License": "PDDL"})
    maker.make(source, out)
    assert (out / f"{maker.STEM}_events.tsv").read_text().endswith("\n0.028\t0.883\tface\n")
    assert (out / "task-localizer_events.json").exists()
    assert maker.read_json(out / f"{maker.STEM}_bold.json")["Description"] == maker.ACQUIRED
    acquired, reference = (
        nb.load(root / f"{maker.STEM}_bold.nii.gz") for root in (out, out / maker.PLACE)
    )
    run = fine[..., maker.N_PAIR :]
    assert acquired.shape[3] == reference.shape[3] == run.shape[3] == 3
    low = nb.Nifti1Image(maker.truncated(run), low_affine)
    for cropped, original, step in (
        (acquired, low, maker.STEP_ACQUIRED),
        (reference, nb.Nifti1Image(run, affine), maker.STEP_MEASURED),
    ):
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
