"""Test maps on surfaces: hemispheres, fsaverage through spheres and MNI152, and files for
nilearn.
"""

import json
from pathlib import Path

import nibabel as nb
import numpy as np
import pytest
from nibabel.affines import apply_affine
from nilearn.datasets import fetch_surf_fsaverage
from nilearn.surface import load_surf_data, load_surf_mesh
from nilearn.surface.surface import mesh_to_gifti

from bids_sr.engine.artifacts import Derivative
from bids_sr.engine.store import store
from bids_sr.glm.steps.surfaces import maps_to_surfaces, transform_fsaverage
from bids_sr.io.volume import Volume
from bids_sr.report.figure_steps.maps import draw_surfaces
from bids_sr.spatial.itk_files import write_itk
from bids_sr.spatial.transforms import rigid_matrix

FSAVERAGE = fetch_surf_fsaverage("fsaverage5")
RIBBON = ("white_left", "white_right", "pial_left", "pial_right")
ENTITIES = {"space": "fsaverage", "den": "10k"}
TO_BOLD = rigid_matrix([4, -3, 2, 0.05, 0, -0.08], [0, 0, 0])
"""Map a T1w point to its boldref point."""


def value_at(points: np.ndarray) -> np.ndarray:
    """Return the value at T1w points, which differs between hemispheres."""
    x, y, z = points.T
    return 200 + x + 30 * np.sin(y / 15) + 0.5 * z


@pytest.fixture(scope="module")
def maps() -> tuple[list[Derivative], Volume]:
    """Return t and cc maps and a region on a grid of the boldref, and its brain mask."""
    affine = np.diag([2.0, 2, 2, 1])
    affine[:3, 3] = -100, -130, -80
    shape = (100, 116, 90)
    points = apply_affine(np.linalg.inv(TO_BOLD) @ affine, np.argwhere(np.ones(shape)))
    values = value_at(points).reshape(shape).astype(np.float32)
    sidecar = {"SourceSeries": "sbl", "SmoothingFWHM": 0.0}
    derivatives = [
        Derivative(
            Volume(values, affine),
            {"res": "hr", "contrast": "thumb", "stat": stat, "desc": "sbl", "suffix": "statmap"},
            sidecar,
        )
        for stat in ("t", "cc")
    ]
    region = {"res": "hr", "label": "thumb", "desc": "sblQuarter", "suffix": "mask"}
    derivatives.append(Derivative(Volume(values > 200, affine), region, sidecar))
    return derivatives, Volume(np.ones(shape, bool), affine)


@pytest.fixture(scope="module")
def surfaces(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Write white and pial surfaces in the space of a T1w image, as fMRIPrep does."""
    folder, paths = tmp_path_factory.mktemp("surfaces"), []
    for name in RIBBON:
        mesh_to_gifti(*load_surf_mesh(FSAVERAGE[name]), folder / f"{name}.surf.gii")
        paths.append(folder / f"{name}.surf.gii")
    return paths


@pytest.fixture(scope="module")
def surface_maps(maps, surfaces, tmp_path_factory) -> list[Derivative]:
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


def test_values_are_sampled_at_the_right_position_on_both_hemispheres(surface_maps, surfaces):
    assert [surface_map.entities["stat"] for surface_map in surface_maps] == ["t", "cc"] * 2, (
        "regions stay behind"
    )
    for k, name in enumerate(("left", "right")):
        whites, pials = (load_surf_mesh(surfaces[k + offset]).coordinates for offset in (0, 2))
        expected = value_at((whites + pials) / 2)
        values = load_surf_data(str(surface_maps[2 * k].content))
        assert np.abs(values / expected - 1).max() < 0.02, name
    left, right = (load_surf_data(str(surface_maps[k].content)).mean() for k in (0, 2))
    assert right - left > 50


def test_freesurfer_surfaces_are_shifted_by_the_center_of_their_volume(
    maps, surface_maps, surfaces, tmp_path
):
    center, shifted_surfaces = np.array([3.0, -17.0, 12.0]), []
    for file in surfaces:
        image = nb.load(file)
        points = image.get_arrays_from_intent("NIFTI_INTENT_POINTSET")[0]
        points.data = (points.data - center).astype(np.float32)
        for axis, coordinate in zip("RAS", center, strict=True):
            points.meta[f"VolGeomC_{axis}"] = f"{coordinate:.6f}"
        image.to_filename(tmp_path / file.name)
        shifted_surfaces.append(tmp_path / file.name)
    shifted_maps = maps_to_surfaces(
        maps[0][:1],
        maps[1],
        shifted_surfaces,
        TO_BOLD[None],
        here=tmp_path,
        space_entities=ENTITIES,
        surface_uris=["bids::left", "bids::right"],
    )
    before, after = (
        load_surf_data(str(maps_on_surface[0].content))
        for maps_on_surface in (surface_maps, shifted_maps)
    )
    assert np.abs(after - before).max() < 1e-3


def test_surface_maps_are_stored_with_their_entities_and_sidecars(maps, surfaces, tmp_path):
    """Run both steps on files, as a workflow does; file names contain the entities."""
    images, mask = maps
    port = maps_to_surfaces.inputs["maps"]
    inputs = {
        "maps": port.save(images, tmp_path / "maps"),
        "mask": maps_to_surfaces.inputs["mask"].save(mask, tmp_path / "mask"),
        "surfaces": surfaces,
        "boldref2t1w_xfm": TO_BOLD[None],
        "space_entities": ENTITIES,
        "surface_uris": ["bids::left", "bids::right"],
    }
    listing = maps_to_surfaces.run_on_files(inputs, tmp_path)["surface_maps"]
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
    stem = "sub-01_task-tap_hemi-{}_space-fsaverage_den-10k"
    assert sorted(path.name for path in tmp_path.glob("out/sub-01/func/*")) == sorted(
        f"{stem.format(side)}_{ending}"
        for side in "LR"
        for ending in ("contrast-thumb_stat-t_desc-sbl_statmap.func.gii", "desc-sbl_statmap.json")
    )
    sidecar = json.loads(next(tmp_path.glob("out/sub-01/func/*hemi-R*.json")).read_text())
    assert sidecar["SpatialReference"] == "bids::right"
    assert sidecar["Sources"] == ["bids::map"]
    assert (sidecar["Density"], sidecar["SourceSeries"]) == ("10242 vertices", "sbl")
    image = nb.load(next(tmp_path.glob("out/sub-01/func/*hemi-L*.gii")))
    assert image.meta["AnatomicalStructurePrimary"] == "CortexLeft"


def test_the_report_shows_both_hemispheres(surface_maps, surfaces):
    [drawing] = draw_surfaces(surface_maps, surfaces, series_name="sbl", space_entities=ENTITIES)
    assert drawing.entities == {
        "contrast": "thumb",
        "desc": "surfaceFsaverage",
        "suffix": "bold",
    }
    assert "fsaverage" in drawing.sidecar["alt"]
    assert len(drawing.content.axes) == 5, "four views and a scale"


def test_fsaverage_placed_through_mni152_is_in_gray_matter(tmp_path):
    """Using the affine transform between both spaces gives more gray matter."""
    from bids_sr.preproc.templates import load_template

    write_itk(tmp_path / "t1w2std.txt", TO_BOLD)
    surface_files = transform_fsaverage(tmp_path / "t1w2std.txt", here=tmp_path)
    gray = load_template("MNI152NLin2009aSym").tissues[0]

    def share(points: list[np.ndarray]) -> float:
        voxels = np.rint(apply_affine(np.linalg.inv(gray.affine), np.concatenate(points))).astype(
            int
        )
        return float(gray.data[tuple(voxels.T)].mean())

    def midthickness(files: list[Path]) -> list[np.ndarray]:
        points = [load_surf_mesh(file).coordinates for file in files]
        return [(points[k] + points[k + 2]) / 2 for k in range(2)]

    in_mni = [
        apply_affine(np.linalg.inv(TO_BOLD), points) for points in midthickness(surface_files)
    ]
    untransformed = midthickness([FSAVERAGE[name] for name in RIBBON])
    assert share(in_mni) > max(0.64, share(untransformed))
    assert (
        load_surf_mesh(surface_files[0]).faces.tolist()
        == load_surf_mesh(FSAVERAGE["white_left"]).faces.tolist()
    )


def test_vertices_are_placed_by_spherical_registration(tmp_path):
    """Use a participant with other vertices, whose surfaces are known functions of direction."""
    from scipy.spatial import ConvexHull

    k = np.arange(20_000) + 0.5
    z, turn = 1 - 2 * k / len(k), np.pi * (1 + 5**0.5) * k
    ring = np.sqrt(1 - z**2)
    unit = np.stack([ring * np.cos(turn), ring * np.sin(turn), z], axis=1)
    faces = ConvexHull(unit).simplices

    def bumpy_surface(directions: np.ndarray, side: int, mm: float) -> np.ndarray:
        """Return a bumpy surface around the center of a hemisphere."""
        bump = 1 + 0.1 * np.sin(8 * directions[:, :1]) * np.cos(6 * directions[:, 2:])
        return directions * bump * mm * [0.6, 1, 0.8] + [30 * side, 0, 0]

    def write_surface(points: np.ndarray, name: str) -> Path:
        mesh_to_gifti(points.astype(np.float32), faces.astype(np.int32), tmp_path / name)
        return tmp_path / name

    surface_parameters = [(side, mm) for mm in (60.0, 63.0) for side in (-1, 1)]
    surface_files = [
        write_surface(bumpy_surface(unit, *parameters), f"{n}.surf.gii")
        for n, parameters in enumerate(surface_parameters)
    ]
    # Registration rotated the right sphere.
    turns = [np.eye(3), TO_BOLD[:3, :3]]
    spheres = [write_surface(100 * unit @ turns[n].T, f"s{n}.surf.gii") for n in range(2)]
    (here := tmp_path / "here").mkdir()
    placed_files = transform_fsaverage(tmp_path / "none", surface_files, spheres, here=here)
    for file, parameters, name in zip(placed_files, surface_parameters, RIBBON, strict=True):
        target = load_surf_mesh(FSAVERAGE[f"sphere_{name.partition('_')[2]}"]).coordinates
        target = target / np.linalg.norm(target, axis=1, keepdims=True) @ turns[parameters[0] > 0]
        error = np.linalg.norm(
            load_surf_mesh(file).coordinates - bumpy_surface(target, *parameters), axis=1
        )
        assert error.max() < 0.3, name
