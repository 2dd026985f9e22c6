"""Maps on surfaces: right is right, fsaverage by spheres and through MNI152, files that nilearn
reads and plots.
"""

import json
from pathlib import Path

import matplotlib.pyplot as plt
import nibabel as nb
import numpy as np
import pytest
from nibabel.affines import apply_affine
from nilearn.datasets import fetch_surf_fsaverage
from nilearn.plotting import plot_surf_stat_map
from nilearn.surface import SurfaceImage, load_surf_data, load_surf_mesh
from nilearn.surface.surface import mesh_to_gifti

from bids_sr.io.volume import Volume
from bids_sr.pipeline.artifacts import Derivative
from bids_sr.pipeline.store import store
from bids_sr.spatial.itk_files import write_itk
from bids_sr.spatial.transforms import rigid_matrix
from bids_sr.steps.figures.maps import draw_surfaces
from bids_sr.steps.surfaces import maps_to_surfaces, place_fsaverage

FSAVERAGE = fetch_surf_fsaverage("fsaverage5")
RIBBON = ("white_left", "white_right", "pial_left", "pial_right")
ENTITIES = {"space": "fsaverage", "den": "10k"}
TO_BOLD = rigid_matrix([4, -3, 2, 0.05, 0, -0.08], [0, 0, 0])
"""Takes a T1w point to its boldref point."""


def known(at: np.ndarray) -> np.ndarray:
    """Value at a T1w point, different on both sides."""
    x, y, z = at.T
    return 200 + x + 30 * np.sin(y / 15) + 0.5 * z


@pytest.fixture(scope="module")
def maps() -> tuple[list[Derivative], Volume]:
    """Maps of t at two widths, one of cc, and a region, on a grid of the boldref; its brain."""
    affine = np.diag([2.0, 2, 2, 1])
    affine[:3, 3] = -100, -130, -80
    shape = (100, 116, 90)
    at = apply_affine(np.linalg.inv(TO_BOLD) @ affine, np.argwhere(np.ones(shape)))
    values = known(at).reshape(shape).astype(np.float32)
    sidecar = {"SourceSeries": "sbl", "SmoothingFWHM": 0.0}
    found = [
        Derivative(
            Volume(values, affine),
            {"res": "hr", "contrast": "thumb", "stat": stat, "desc": "sbl", "suffix": "statmap"},
            sidecar,
        )
        for stat in ("t", "cc")
    ]
    region = {"res": "hr", "label": "thumb", "desc": "sblQuarter", "suffix": "mask"}
    found.append(Derivative(Volume(values > 200, affine), region, sidecar))
    return found, Volume(np.ones(shape, bool), affine)


@pytest.fixture(scope="module")
def surfaces(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """White and pial surfaces in the frame of a T1w image, as fMRIPrep writes them."""
    folder, found = tmp_path_factory.mktemp("surfaces"), []
    for name in RIBBON:
        mesh_to_gifti(*load_surf_mesh(FSAVERAGE[name]), folder / f"{name}.surf.gii")
        found.append(folder / f"{name}.surf.gii")
    return found


@pytest.fixture(scope="module")
def made(maps, surfaces, tmp_path_factory) -> list[Derivative]:
    images, mask = maps
    return maps_to_surfaces(
        images,
        mask,
        surfaces,
        TO_BOLD[None],
        here=tmp_path_factory.mktemp("made"),
        space_entities=ENTITIES,
        surface_uris=["bids::left", "bids::right"],
    )


def test_values_are_those_of_the_place_on_both_hemispheres(made, surfaces):
    assert [each.entities["stat"] for each in made] == ["t", "cc"] * 2, "regions stay behind"
    for k, name in enumerate(("left", "right")):
        whites, pials = (load_surf_mesh(surfaces[k + of]).coordinates for of in (0, 2))
        expected = known((whites + pials) / 2)
        found = load_surf_data(str(made[2 * k].content))
        assert np.abs(found / expected - 1).max() < 0.02, name
    left, right = (load_surf_data(str(made[k].content)).mean() for k in (0, 2))
    assert right - left > 50


def test_surfaces_of_freesurfer_are_moved_by_the_center_of_its_volume(
    maps, made, surfaces, tmp_path
):
    center, moved = np.array([3.0, -17.0, 12.0]), []
    for file in surfaces:
        image = nb.load(file)
        points = image.get_arrays_from_intent("NIFTI_INTENT_POINTSET")[0]
        points.data = (points.data - center).astype(np.float32)
        for axis, at in zip("RAS", center, strict=True):
            points.meta[f"VolGeomC_{axis}"] = f"{at:.6f}"
        image.to_filename(tmp_path / file.name)
        moved.append(tmp_path / file.name)
    found = maps_to_surfaces(
        maps[0][:1],
        maps[1],
        moved,
        TO_BOLD[None],
        here=tmp_path,
        space_entities=ENTITIES,
        surface_uris=["bids::left", "bids::right"],
    )
    before, after = (load_surf_data(str(each[0].content)) for each in (made, found))
    assert np.abs(after - before).max() < 1e-3


def test_files_tell_their_hemisphere_and_what_they_lie_on(made):
    first, last = made[0], made[-1]
    assert Path(first.content).name == (
        "hemi-L_space-fsaverage_den-10k_contrast-thumb_stat-t_desc-sbl_statmap.func.gii"
    )
    assert (first.sidecar["SpatialReference"], last.sidecar["SpatialReference"]) == (
        "bids::left",
        "bids::right",
    )
    assert first.sidecar["Density"] == "10242 vertices"
    assert first.sidecar["SourceSeries"] == "sbl"
    image = nb.load(first.content)
    assert image.meta["AnatomicalStructurePrimary"] == "CortexLeft"
    assert image.darrays[0].data.dtype == np.float32


def test_they_are_stored_under_their_entities_with_a_sidecar_of_their_own(
    maps, surfaces, tmp_path
):
    """As a workflow runs both steps: on files, of which the names tell the entities."""
    images, mask = maps
    port = maps_to_surfaces.inputs["maps"]
    given = {
        "maps": port.save(images, tmp_path / "maps"),
        "mask": maps_to_surfaces.inputs["mask"].save(mask, tmp_path / "mask"),
        "surfaces": surfaces,
        "boldref2t1w_xfm": TO_BOLD[None],
        "space_entities": ENTITIES,
        "surface_uris": ["bids::left", "bids::right"],
    }
    listing = maps_to_surfaces.on_files(given, tmp_path)["surface_maps"]
    files = [Path(line) for line in Path(listing).read_text().splitlines()]
    store(
        tmp_path,
        files,
        output_dir=tmp_path / "out",
        entities={"subject": "01", "task": "tap", "datatype": "func"},
        among=[{"suffix": "statmap", "stat": "t"}],
        sources=["bids::map"],
        references={"": "bids::boldref"},
    )
    stem = "hemi-{}_space-fsaverage_den-10k_contrast-thumb_stat-t_desc-sbl_statmap"
    assert sorted(path.name for path in tmp_path.glob("out/sub-01/func/*")) == sorted(
        f"sub-01_task-tap_{stem.format(side)}.{end}"
        for side in "LR"
        for end in ("func.gii", "json")
    )
    told = json.loads(next(tmp_path.glob("out/sub-01/func/*hemi-R*.json")).read_text())
    assert told["SpatialReference"] == "bids::right"
    assert told["Sources"] == ["bids::map"]


def test_nilearn_plots_them(made, surfaces):
    image = SurfaceImage(
        {"left": surfaces[2], "right": surfaces[3]},
        {"left": Path(made[0].content), "right": Path(made[2].content)},
    )
    assert image.shape[0] == 2 * 10242
    figure = plot_surf_stat_map(stat_map=image, hemi="left")
    assert figure is not None
    plt.close("all")


def test_the_report_shows_both_hemispheres(made, surfaces):
    [drawn] = draw_surfaces(made, surfaces, series_name="sbl", space_entities=ENTITIES)
    assert drawn.entities == {
        "contrast": "thumb",
        "desc": "surfaceFsaverage",
        "suffix": "bold",
    }
    assert "fsaverage" in drawn.sidecar["alt"]
    assert len(drawn.content.axes) == 5, "four views and a scale"


def test_through_mni152_fsaverage_lies_in_gray_matter(tmp_path):
    """With the affine transform between the two frames more than without."""
    from bids_sr.registration.templates import load_template

    write_itk(tmp_path / "t1w2std.txt", TO_BOLD)
    placed = place_fsaverage(tmp_path / "t1w2std.txt", here=tmp_path, random_seed=1)
    gray = load_template("MNI152NLin2009aSym").tissues[0]

    def share(points: list[np.ndarray]) -> float:
        at = np.rint(apply_affine(np.linalg.inv(gray.affine), np.concatenate(points))).astype(int)
        return float(gray.data[tuple(at.T)].mean())

    def middle(files: list[Path]) -> list[np.ndarray]:
        points = [load_surf_mesh(file).coordinates for file in files]
        return [(points[k] + points[k + 2]) / 2 for k in range(2)]

    in_mni = [apply_affine(np.linalg.inv(TO_BOLD), points) for points in middle(placed)]
    plain = middle([FSAVERAGE[name] for name in RIBBON])
    assert share(in_mni) > max(0.64, share(plain))
    assert (
        load_surf_mesh(placed[0]).faces.tolist()
        == load_surf_mesh(FSAVERAGE["white_left"]).faces.tolist()
    )


def test_by_spheres_every_vertex_finds_its_place(tmp_path):
    """On a participant whose vertices are others, and whose surfaces are known by direction."""
    from scipy.spatial import ConvexHull

    k = np.arange(20_000) + 0.5
    z, turn = 1 - 2 * k / len(k), np.pi * (1 + 5**0.5) * k
    ring = np.sqrt(1 - z**2)
    unit = np.stack([ring * np.cos(turn), ring * np.sin(turn), z], axis=1)
    faces = ConvexHull(unit).simplices

    def place(at: np.ndarray, side: int, mm: float) -> np.ndarray:
        """A bumpy surface about the middle of a hemisphere."""
        bump = 1 + 0.1 * np.sin(8 * at[:, :1]) * np.cos(6 * at[:, 2:])
        return at * bump * mm * [0.6, 1, 0.8] + [30 * side, 0, 0]

    def written(points: np.ndarray, name: str) -> Path:
        mesh_to_gifti(points.astype(np.float32), faces.astype(np.int32), tmp_path / name)
        return tmp_path / name

    wanted = [(side, mm) for mm in (60.0, 63.0) for side in (-1, 1)]
    given = [written(place(unit, *each), f"{n}.surf.gii") for n, each in enumerate(wanted)]
    # registration has turned the right sphere
    turns = [np.eye(3), TO_BOLD[:3, :3]]
    spheres = [written(100 * unit @ turns[n].T, f"s{n}.surf.gii") for n in range(2)]
    (here := tmp_path / "here").mkdir()
    placed = place_fsaverage(tmp_path / "none", given, spheres, here=here, random_seed=1)
    for file, each, name in zip(placed, wanted, RIBBON, strict=True):
        target = load_surf_mesh(FSAVERAGE[f"sphere_{name.partition('_')[2]}"]).coordinates
        target = target / np.linalg.norm(target, axis=1, keepdims=True) @ turns[each[0] > 0]
        apart = np.linalg.norm(load_surf_mesh(file).coordinates - place(target, *each), axis=1)
        assert apart.max() < 0.3, name
