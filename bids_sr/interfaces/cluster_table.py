"""Table of the largest clusters of each map, with coordinates and labels of an atlas."""

from pathlib import Path
from typing import Any

from nipype.interfaces.base import File, InputMultiObject, TraitedSpec, traits

from bids_sr.interfaces.steps import AntsInputSpec, Step, saved_json


class ClusterTable(Step):
    """The largest clusters of active voxels of each series, contrast and smoothing.

    Active is what the false discovery rate leaves, else a threshold of z, else the quarter of the paper, whichever of
    them was asked for. With a T1w image peaks are in MNI coordinates and have labels of AAL2.
    """

    class input_spec(AntsInputSpec):
        in_files = InputMultiObject(File(exists=True), mandatory=True, desc="maps and regions of all series")
        in_entities = traits.List(traits.Dict, mandatory=True, desc="entities of each, as ActivationMaps gives them")
        series = traits.List(traits.Str, mandatory=True, desc="those that are looked at, in the order of the table")
        boldref2t1w_xfm = File(exists=True, desc="takes a T1w point to its boldref point")
        std2t1w_xfm = File(exists=True, desc="takes a T1w point to its template point")

    class output_spec(TraitedSpec):
        out_file = File(exists=True, desc="a row a cluster")
        out_json = File(exists=True, desc="what its columns are")

    def results(self, inputs: Any, here: Path) -> dict[str, Any]:
        from bids_sr.stats.regions.clusters import COLUMNS, clusters_text

        (here / "clusters.tsv").write_text(clusters_text(_rows(inputs, here)), encoding="utf-8")
        return {
            "out_file": str(here / "clusters.tsv"),
            "out_json": saved_json(here / "clusters.json", COLUMNS),
        }


def _rows(inputs: Any, cwd: Path) -> list[dict[str, str]]:
    """Rows of the table, all peaks placed by one call."""
    import numpy as np

    from bids_sr.io.nifti import load_image
    from bids_sr.region_names import atlas_labels
    from bids_sr.registration.ants import apply_to_points
    from bids_sr.stats.regions.clusters import cluster_rows, largest_clusters, placed

    chain = to_template(inputs, cwd)
    names = {number: name for name, number in atlas_labels().items()}
    atlases: dict[tuple[Any, ...], Any] = {}
    rows, points = [], []
    for where, map_file, region_file in _thresholded(inputs):
        values, affine = load_image(map_file)
        region = load_image(region_file)[0] > 0.5
        grid = (*values.shape, *affine.ravel())
        if grid not in atlases:
            atlases[grid] = _atlas_on(values, affine, chain, inputs.seed) if chain else None
        clusters = largest_clusters(values, region)
        rows += cluster_rows(clusters, where, affine=affine, atlas=atlases[grid], names=names)
        points += [affine[:3, :3] @ np.array(each.peak) + affine[:3, 3] for each in clusters]
    at = apply_to_points(points, chain, seed=inputs.seed) if chain and points else np.array(points).reshape(-1, 3)
    return placed(rows, at, "MNI" if chain else "scanner")


def to_template(inputs: Any, cwd: Path) -> list[str]:
    """Transforms that take a boldref point to its template point; none without a T1w image."""
    from bids_sr.spatial.transforms import invert, read_itk, write_itk

    if inputs.boldref2t1w_xfm is None:
        return []
    write_itk(cwd / "t1w2boldref.txt", invert(read_itk(inputs.boldref2t1w_xfm)[0]))
    return [inputs.std2t1w_xfm, str(cwd / "t1w2boldref.txt")]


def _atlas_on(values: Any, affine: Any, chain: list[str], seed: int) -> Any:
    """Labels of the atlas on the grid of a map."""
    from bids_sr.registration.ants import Image, apply, load
    from bids_sr.registration.templates import atlas_file

    grid = Image(data=values, affine=affine)
    return apply(load(atlas_file()), grid, chain, seed=seed, interpolator="nearestNeighbor").round().astype(int)


def _thresholded(inputs: Any) -> list[tuple[dict[str, str], str, str]]:
    """What a map is of, the map and its region, in the order of contrasts, smoothing and series."""
    from bids_sr.interfaces.reporting.figure_data import sort_maps

    found = sort_maps(inputs.in_files, inputs.in_entities)
    kinds = list(dict.fromkeys(kind for _, kind, _ in found.regions))
    kind = next((each for each in kinds if each == "Fdr"), next((each for each in kinds if each != "Quarter"), ""))
    stat, kind = ("z", kind) if kind else ("cc", "Quarter")
    out = []
    for (contrast, each, fwhm), regions in found.regions.items():
        maps = found.stats.get((contrast, stat, fwhm), {}) if each == kind else {}
        for series in (name for name in inputs.series if name in regions and name in maps):
            where = {"series": series, "fwhm_mm": f"{fwhm / 10:g}", "contrast": contrast, "threshold": kind}
            out.append(({**where, "statistic": stat}, maps[series], regions[series]))
    return out
