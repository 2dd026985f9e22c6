"""Projection of maps to the cortical surface, at fsaverage vertices in participant space."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from nibabel.affines import apply_affine

from bids_sr.config.memory import Need
from bids_sr.io.arrays import Array
from bids_sr.pipeline.artifacts import Derivative, File, Map, Mask, Transforms
from bids_sr.pipeline.step import HERE, step
from bids_sr.registration.ants import map_points_with_ants
from bids_sr.run_time import RunTime
from bids_sr.spatial.surfaces import ribbon_means
from bids_sr.spatial.transforms import invert

_SIDES = ("left", "right")
_RIBBON = ("white_left", "white_right", "pial_left", "pial_right")
_NEAR = 12  # number of nearest sphere vertices used to interpolate a point
_SURFACES = Need(always=0.3, high=0.05)
_MNI305_TO_152 = (
    (0.9975, -0.0073, 0.0176, -0.0429),
    (0.0146, 1.0009, -0.0024, 1.5496),
    (-0.0130, -0.0093, 0.9971, 1.1840),
    (0, 0, 0, 1),
)
"""Transform of fsaverage (MNI305) points to MNI152 points (RAS mm).

The matrix is from FreeSurfer's documentation of coordinate systems.
"""


FSAVERAGE_TEXT = (
    "The fsaverage surface that is included in nilearn [@nilearn] has 10,242 vertices per"
    " hemisphere. These vertices were mapped to the surfaces of the participant with the"
    " spherical registration, if available. Otherwise, they were transformed to the T1w image"
    " via MNI152 space.\n"
)
"""Methods text of the fsaverage surface."""


@step(
    makes="surfaces",
    memory=_SURFACES,
    cost=RunTime(always=3.0),
)
def transform_fsaverage(
    t1w2std_xfm: File,
    given_surfaces: list[File] | None = None,
    given_spheres: list[File] | None = None,
    *,
    here: Path = HERE,
    random_seed: int,
) -> list[File]:
    """Place the vertices of fsaverage in a participant, with registered spheres if available.

    Parameters
    ----------
    t1w2std_xfm : File
        Transform of points of an MNI152 template to T1w points; it is only used without spheres.
    given_surfaces : list[File] | None
        White and pial surfaces of the participant, each left and right.
    given_spheres : list[File] | None
        Registered spheres of the participant, left and right.

    Returns
    -------
    list[File]
        White and pial surfaces with the vertices of fsaverage, each left and right, in the frame
        of the T1w image.
    """
    from nilearn.datasets import fetch_surf_fsaverage
    from nilearn.surface import load_surf_mesh
    from nilearn.surface.surface import mesh_to_gifti
    from scipy.interpolate import RBFInterpolator

    fsaverage, surface_files = fetch_surf_fsaverage("fsaverage5"), []
    for k, name in enumerate(_RIBBON):
        points, faces = load_surf_mesh(fsaverage[name])
        if given_surfaces and given_spheres:
            # All spheres have the same radius.
            target, _ = load_surf_mesh(fsaverage[f"sphere_{_SIDES[k % 2]}"])
            (surface_points, _), (sphere, _) = (
                _mesh(given_surfaces[k]),
                load_surf_mesh(given_spheres[k % 2]),
            )
            points = RBFInterpolator(sphere, surface_points, neighbors=_NEAR, kernel="linear")(
                target
            )
        else:
            in_mni = apply_affine(_MNI305_TO_152, points)
            points = map_points_with_ants(in_mni, [t1w2std_xfm], seed=random_seed)
        mesh_to_gifti(points.astype("float32"), faces, here / f"{name}.surf.gii")
        surface_files.append(here / f"{name}.surf.gii")
    return surface_files


def describe_surface_maps(surface: str) -> str:
    """Return methods text of the maps on a surface; `surface` is the name of its space."""
    return (
        f"Maps were also projected to the {surface} surface with"
        " nilearn [@nilearn], by averaging samples at ten depths between the white and the pial"
        " surface, each obtained with one linear interpolation.\n"
    )


@step(makes="surface_maps", memory=_SURFACES, cost=RunTime(always=20.0))
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

    Parameters
    ----------
    maps : list[Map]
        Maps on one grid in the frame of the boldref.
    mask : Mask
        Brain on this grid; values outside are 0.
    surfaces : Sequence[File]
        White and pial surfaces, each left and right, in the frame of the T1w image.
    boldref2t1w_xfm : Transforms
        Transform of T1w points to boldref points (1, 4, 4; RAS mm).

    Returns
    -------
    list[Map]
        Files of values at the vertices (GIFTI), left hemisphere first.
    """
    from nibabel.gifti import GiftiDataArray, GiftiImage, GiftiMetaData

    statmaps = [statmap for statmap in maps if statmap.entities["suffix"] == "statmap"]
    affine, surface_maps = invert(boldref2t1w_xfm[0]) @ mask.affine, []
    for side, uri, *files in zip(_SIDES, surface_uris, surfaces, surfaces[2:], strict=False):
        white, pial = map(_mesh, files)
        metadata = {
            "SpatialReference": uri,
            "Resolution": "map averaged across the cortical ribbon, with a single linear"
            " interpolation",
            "Density": f"{len(white[0])} vertices",
        }
        meta = GiftiMetaData({"AnatomicalStructurePrimary": f"Cortex{side.title()}"})
        images = (statmap.volume.data for statmap in statmaps)
        values = ribbon_means(images, mask.data, affine, white, pial)
        for statmap, data in zip(statmaps, values, strict=True):
            entities_in_volume = {
                key: label for key, label in statmap.entities.items() if key != "res"
            }
            entities = {"hemi": side[0].upper(), **space_entities, **entities_in_volume}
            derivative = Derivative(None, entities, {**statmap.sidecar, **metadata})
            array = GiftiDataArray(data, datatype="float32")
            GiftiImage(darrays=[array], meta=meta).to_filename(
                path := here / f"{derivative.name}.func.gii"
            )
            surface_maps.append(Derivative(path, derivative.entities, derivative.sidecar))
    return surface_maps


def _mesh(file: File) -> tuple[Array, Array]:
    """Return vertices (N, 3; scanner RAS mm) and triangles (F, 3) of a GIFTI file.

    Coordinates in FreeSurfer surfaces are relative to the center of the volume (``VolGeomC_*``).
    In surfaces from fMRIPrep, the center is already added, and the metadata is 0 or missing.
    """
    from nibabel.gifti import GiftiImage

    image = GiftiImage.from_filename(file)
    points = image.get_arrays_from_intent("NIFTI_INTENT_POINTSET")[0]
    center = [float(points.meta.get(f"VolGeomC_{axis}", 0)) for axis in "RAS"]
    return points.data + center, image.get_arrays_from_intent("NIFTI_INTENT_TRIANGLE")[0].data
