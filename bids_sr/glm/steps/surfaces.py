"""Projection of maps to the cortical surface, at fsaverage vertices in participant space."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path

from nibabel.affines import apply_affine

from bids_sr.engine.artifacts import Derivative, File, Map, Mask
from bids_sr.engine.memory import Need
from bids_sr.engine.step import HERE, Stage, step
from bids_sr.io.arrays import Array
from bids_sr.preproc.ants import apply_to_points
from bids_sr.spatial.itk_files import Transforms
from bids_sr.spatial.surfaces import ribbon_means
from bids_sr.spatial.transforms import invert

_SIDES = ("left", "right")
_N_NEAREST = 12  # number of nearest sphere vertices used to interpolate a point
_SURFACE_NEED = Need(always=0.3, high=0.05)
# Transform of fsaverage (MNI305) points to MNI152 points (RAS mm). The matrix is from FreeSurfer's
# documentation of coordinate systems.
_MNI305_TO_152 = (
    (0.9975, -0.0073, 0.0176, -0.0429),
    (0.0146, 1.0009, -0.0024, 1.5496),
    (-0.0130, -0.0093, 0.9971, 1.1840),
    (0, 0, 0, 1),
)

FSAVERAGE_TEXT = (
    "The fsaverage surface that is included in nilearn [@nilearn] has 10,242 vertices per"
    " hemisphere. These vertices were mapped to the surfaces of the participant with the"
    " spherical registration, if available. Otherwise, they were transformed to the T1w image"
    " via MNI152 space.\n"
)
"""Methods text of the fsaverage surface."""


@step(Stage.REGISTRATION, makes="surfaces", memory=_SURFACE_NEED)
def transform_fsaverage(
    t1w2std_xfm: File,
    given_surfaces: list[File] | None = None,
    given_spheres: list[File] | None = None,
    *,
    here: Path = HERE,
) -> list[File]:
    """Place the vertices of fsaverage in a participant, with registered spheres if available.

    `t1w2std_xfm` is the transform of points of an MNI152 template to T1w points; it is only used
    without spheres. `given_surfaces` are white and pial surfaces of the participant, each left and
    right, and `given_spheres` registered spheres, left and right.

    Returns white and pial surfaces with the vertices of fsaverage, each left and right, in the
    frame of the T1w image.
    """
    from nilearn.datasets import fetch_surf_fsaverage
    from nilearn.surface import load_surf_mesh
    from nilearn.surface.surface import mesh_to_gifti

    fsaverage = fetch_surf_fsaverage("fsaverage5")
    surface_files = []
    for surface_number, (depth, side) in enumerate(product(("white", "pial"), _SIDES)):
        name = f"{depth}_{side}"
        fsaverage_points, faces = load_surf_mesh(fsaverage[name])
        if given_surfaces and given_spheres:
            sphere_points, _ = load_surf_mesh(fsaverage[f"sphere_{side}"])
            points = _interpolate_surface(
                sphere_points, given_surfaces[surface_number], given_spheres[_SIDES.index(side)]
            )
        else:
            mni_points = apply_affine(_MNI305_TO_152, fsaverage_points)
            points = apply_to_points(mni_points, [t1w2std_xfm])
        surface_file = here / f"{name}.surf.gii"
        mesh_to_gifti(points.astype("float32"), faces, surface_file)
        surface_files.append(surface_file)
    return surface_files


def _interpolate_surface(sphere_points: Array, surface_file: File, sphere_file: File) -> Array:
    """Return points of a participant's surface at points of the registered sphere.

    `sphere_points` are vertices of the sphere of fsaverage (N, 3), which has the same radius as
    all spheres. `sphere_file` has the vertices of the surface on the registered sphere (both
    GIFTI).
    """
    from nilearn.surface import load_surf_mesh
    from scipy.interpolate import RBFInterpolator

    surface_points, _ = _load_mesh(surface_file)
    registered_points, _ = load_surf_mesh(sphere_file)
    interpolator = RBFInterpolator(
        registered_points, surface_points, neighbors=_N_NEAREST, kernel="linear"
    )
    return interpolator(sphere_points)


def describe_surface_maps(surface: str) -> str:
    """Return methods text of the maps on a surface; `surface` is the name of its space."""
    return (
        f"Maps were also projected to the {surface} surface with"
        " nilearn [@nilearn], by averaging samples at ten depths between the white and the pial"
        " surface, each obtained with one linear interpolation.\n"
    )


@step(Stage.REGISTRATION, makes="surface_maps", memory=_SURFACE_NEED)
def maps_to_surfaces(
    maps: list[Map],
    mask: Mask,
    surfaces: Sequence[File],
    boldref2t1w_xfm: Transforms,
    *,
    here: Path = HERE,
    space_entities: Mapping[str, str],
    surface_uris: Sequence[str],
) -> list[Map]:
    """Average statistical maps across the cortical ribbon, with a single linear interpolation.

    `maps` are on one grid in the frame of the boldref, and `mask` is the brain on this grid;
    values outside are 0. `surfaces` are white and pial surfaces, each left and right, in the frame
    of the T1w image. `boldref2t1w_xfm` is the transform of T1w points to boldref points (1, 4, 4;
    RAS mm). `surface_uris` are locations of the surfaces for sidecars, left and right.

    Returns files of values at the vertices (GIFTI), left hemisphere first.
    """
    statmaps = [statmap for statmap in maps if statmap.entities["suffix"] == "statmap"]
    affine = invert(boldref2t1w_xfm[0]) @ mask.affine
    surface_maps = []
    for side, uri, white_file, pial_file in zip(
        _SIDES, surface_uris, surfaces[:2], surfaces[2:], strict=True
    ):
        white, pial = _load_mesh(white_file), _load_mesh(pial_file)
        metadata = {
            "SpatialReference": uri,
            "Resolution": "map averaged across the cortical ribbon, with a single linear"
            " interpolation",
            "Density": f"{len(white[0])} vertices",
        }
        images = (statmap.volume.data for statmap in statmaps)
        surface_means = ribbon_means(images, mask.data, affine, white, pial)
        for statmap, vertex_values in zip(statmaps, surface_means, strict=True):
            # These entities describe the grid of the run and do not apply to the surface.
            map_entities = {
                key: label
                for key, label in statmap.entities.items()
                if key not in ("space", "res")
            }
            entities = {"hemi": side[0].upper(), **space_entities, **map_entities}
            derivative = Derivative(None, entities, {**statmap.sidecar, **metadata})
            path = here / f"{derivative.name}.func.gii"
            _save_vertex_values(vertex_values, side, path)
            surface_maps.append(replace(derivative, content=path))
    return surface_maps


def _load_mesh(file: File) -> tuple[Array, Array]:
    """Return vertices (N, 3; scanner RAS mm) and triangles (F, 3) of a GIFTI file.

    Coordinates in FreeSurfer surfaces are relative to the center of the volume (``VolGeomC_*``).
    In surfaces from fMRIPrep, the center is already added, and the metadata is 0 or missing.
    """
    from nibabel.gifti import GiftiImage

    image = GiftiImage.from_filename(file)
    points = image.get_arrays_from_intent("NIFTI_INTENT_POINTSET")[0]
    center = [float(points.meta.get(f"VolGeomC_{axis}", 0)) for axis in "RAS"]
    return points.data + center, image.get_arrays_from_intent("NIFTI_INTENT_TRIANGLE")[0].data


def _save_vertex_values(vertex_values: Array, side: str, path: Path) -> None:
    """Write the values at the vertices (N,) of one hemisphere, left or right, as GIFTI."""
    from nibabel.gifti import GiftiDataArray, GiftiImage, GiftiMetaData

    array = GiftiDataArray(vertex_values, datatype="float32")
    metadata = GiftiMetaData({"AnatomicalStructurePrimary": f"Cortex{side.title()}"})
    GiftiImage(darrays=[array], meta=metadata).to_filename(path)
