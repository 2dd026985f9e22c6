"""Activation maps of a series, maps of several series compared, and their largest clusters."""

from collections.abc import Collection, Iterator, Mapping
from math import prod
from pathlib import Path
from typing import Any

from nipype.interfaces.base import File, InputMultiObject, TraitedSpec, traits

from bids_sr.interfaces.steps import (
    AXIS_ORDER,
    FACTOR,
    AntsInputSpec,
    MapsInputSpec,
    ModelInputSpec,
    Step,
    TableOutputSpec,
    saved,
    saved_json,
    timing,
    write_rows,
)
from bids_sr.io.grids import finer_text as finer_text
from bids_sr.series import map_label, parse_map_label
from bids_sr.stats.glm.noise import FULL_ORDER_DOF as FULL_ORDER_DOF
from bids_sr.stats.glm.noise import noise_words as noise_words
from bids_sr.stats.regions import map_sidecars as statmap_names
from bids_sr.stats.regions.map_sidecars import SLOW as SLOW


class ActivationMaps(Step):
    """Correlation and linear-model maps of one series at one smoothing, the regions in them, and their figures."""

    class input_spec(ModelInputSpec):
        roi = File(exists=True, mandatory=True, desc="region of interest on the grid of the series")
        fwhm_mm = traits.Float(mandatory=True, desc="Gaussian smoothing (mm); 0 is none")
        contrasts = traits.Dict(mandatory=True, desc="name to weights of trial types")
        kinds = traits.List(traits.Enum("cc", "glm"), mandatory=True, desc="maps to make")
        low_pass = traits.Either(None, traits.Float, desc="Hz, correlation only; none if not given")
        thresholds = traits.List(traits.Str, mandatory=True, desc="quarter, fdr or values of z")
        band = traits.Tuple(traits.Float, traits.Float, desc="Hz, amplitude of fluctuations; not mapped if not given")
        factor = FACTOR
        axis_order = AXIS_ORDER

    class output_spec(TraitedSpec):
        out_files = traits.List(File(exists=True), desc="maps and regions")
        out_entities = traits.List(traits.Dict, desc="BIDS entities of each")
        out_sidecars = traits.List(traits.Dict, desc="metadata of each")
        metrics_tsv = File(exists=True, desc="long table: series, fwhm_mm, contrast, measure, value, unit")

    def results(self, inputs: Any, here: Path) -> dict[str, Any]:
        from threadpoolctl import threadpool_limits

        from bids_sr.io.nifti import SeriesReader, load_image
        from bids_sr.stats.glm.design import read_confounds
        from bids_sr.stats.glm.regressors import read_regressors
        from bids_sr.stats.glm.statmaps import map_activation
        from bids_sr.stats.regions.activation_regions import parse_thresholds
        from bids_sr.stats.regions.map_summary import find_regions

        mask, roi = (load_image(path)[0] > 0.5 for path in (inputs.mask, inputs.roi))
        confounds = read_confounds(inputs.confounds_tsv) if inputs.confounds_tsv else None
        with SeriesReader(inputs.in_file) as reader, threadpool_limits(1):
            events = read_regressors(inputs.events_file)
            contrasts = events.contrasts(inputs.contrasts)
            found = map_activation(
                reader, mask, events, contrasts, _settings(inputs),
                scratch=here / "courses.raw", confounds=confounds,
            )  # fmt: skip
            affine, zooms = reader.affine, reader.zooms
        thresholds = {threshold.label: threshold for threshold in parse_thresholds(inputs.thresholds)}
        regions = find_regions(found.maps, mask, roi, tuple(thresholds.values()))
        made = list(_images(inputs, found, regions, thresholds))
        common = statmap_names.common_sidecar(
            series=inputs.series, fwhm_mm=inputs.fwhm_mm, zooms=zooms, axis_order=inputs.axis_order
        )
        return {
            "out_files": [saved(here / filename(own), values, affine) for values, own, _ in made],
            "out_entities": [own for _, own, _ in made],
            "out_sidecars": [{**sidecar, **common} for _, _, sidecar in made],
            "metrics_tsv": _metrics(inputs, contrasts, found, regions, mask, roi, affine, here / "metrics.tsv"),
        }


def filename(of: Mapping[str, str]) -> str:
    """Name in the work directory: the entities in a fixed order."""
    order = ("res", "contrast", "stat", "label", "desc")
    return "_".join([f"{key}-{of[key]}" for key in order if key in of] + [of["suffix"]]) + ".nii.gz"


def _settings(inputs: Any) -> Any:
    """Traits to `ActivationSettings`; what is not given keeps the default of that class."""
    from bids_sr.stats.glm.statmaps import ActivationSettings

    return ActivationSettings(
        kinds=tuple(inputs.kinds), confound_names=confounds_of(inputs), band=inputs.band, low_pass=inputs.low_pass,
        fwhm_mm=inputs.fwhm_mm, **timing(inputs),
    )  # fmt: skip


def confounds_of(inputs: Any) -> tuple[str, ...]:
    """Columns of the model: none without a table, those that were asked for, else `default_confounds`."""
    if inputs.confounds_tsv is None:
        return ()
    asked = inputs.confound_names
    return default_confounds(inputs.confounds_tsv) if asked is None else tuple(asked)


def default_confounds(path: str) -> tuple[str, ...]:
    """See `bids_sr.stats.glm.design.default_confounds`."""
    from bids_sr.stats.glm import design

    return design.default_confounds(design.read_confounds(path))


def _images(inputs: Any, found: Any, regions: Any, thresholds: Any) -> Iterator[tuple[Any, dict, dict]]:
    """Maps, regions as 8-bit images, amplitudes of fluctuations where there are any; each with entities and sidecar."""
    from bids_sr.stats.glm.design import scaled_weights

    series, desc, settings = inputs.series, map_label(inputs.series, inputs.fwhm_mm), _settings(inputs)
    for (name, stat), values in found.maps.items():
        own = statmap_names.entities(series=series, contrast=name, stat=stat, desc=desc, suffix="statmap")
        model = statmap_names.model_text(stat, found.design, noise_order=found.noise_order, low_pass=settings.low_pass)
        yield values, own, statmap_names.map_sidecar(stat, scaled_weights(inputs.contrasts[name]), model)
    for (name, label), (region, applied) in regions.items():
        of_region = map_label(series, inputs.fwhm_mm, label)
        own = statmap_names.entities(series=series, label=name, desc=of_region, suffix="mask")
        yield region.astype("uint8"), own, statmap_names.region_sidecar(thresholds[label], applied)
    for stat in ("alff", "falff") if found.amplitudes is not None else ():
        own = statmap_names.entities(series=series, stat=stat, desc=desc, suffix="boldmap")
        yield getattr(found.amplitudes, stat), own, statmap_names.amplitude_sidecar(stat, found.design, inputs.band)


def _metrics(
    inputs: Any, contrasts: Any, found: Any, regions: Any, mask: Any, roi: Any, affine: Any, path: Path
) -> str:
    """Write the figures of one series at one smoothing."""
    import numpy as np

    from bids_sr.metrics.long_tables import SERIES, metric_rows
    from bids_sr.stats.regions.map_summary import activation_rows

    design, series, fwhm_mm = found.design, inputs.series, inputs.fwhm_mm
    figures = {"dof": design.dof, "design_rank": design.rank, "design_columns": len(design.columns)}
    rows = metric_rows(series, figures, fwhm_mm=fwhm_mm) if "glm" in inputs.kinds else []
    if found.amplitudes is not None:
        middles = {f"{k}_median": float(np.median(getattr(found.amplitudes, k)[mask])) for k in ("alff", "falff")}
        rows += metric_rows(series, {**middles, "alff_half_r": found.amplitudes.half_r}, fwhm_mm=fwhm_mm)
    rows += activation_rows(
        found.maps, regions, contrasts, mask=mask, roi=roi, affine=affine, series=series, fwhm_mm=fwhm_mm,
        per_acquired=1 if series == "raw" else prod(inputs.factor),
    )  # fmt: skip
    return write_rows(path, rows, SERIES)


class CompareMaps(Step):
    """Maps of all series on the high-resolution grid against the raw maps brought there by a spline, and bspline's."""

    class input_spec(MapsInputSpec):
        raw_mask = File(exists=True, mandatory=True, desc="brain mask on the acquired grid")
        thresholds = traits.List(traits.Str, mandatory=True, desc="quarter, fdr or values of z")
        factor = FACTOR

    output_spec = TableOutputSpec

    def results(self, inputs: Any, here: Path) -> dict[str, Any]:
        from bids_sr.io.nifti import load_image
        from bids_sr.metrics.long_tables import SERIES
        from bids_sr.stats.regions.activation_regions import parse_thresholds
        from bids_sr.stats.regions.map_summary import Grid, comparison_rows

        acquired, fine, roi = (
            Grid(mask=values > 0.5, affine=affine)
            for values, affine in map(load_image, (inputs.raw_mask, inputs.mask, inputs.roi))
        )
        made = {own["contrast"] for own in inputs.in_entities if own["suffix"] == "statmap"}
        contrasts = {name: weights for name, weights in inputs.contrasts.items() if name in made}
        rows = []
        for fwhm_mm, files in by_smoothing(inputs.in_files, inputs.in_entities, ("cc", "effect", "t", "z")).items():
            rows += comparison_rows(
                files, lambda path: load_image(path)[0], contrasts, parse_thresholds(inputs.thresholds),
                acquired=acquired, fine=fine, roi=roi.mask, fwhm_mm=fwhm_mm, per_acquired=prod(inputs.factor),
            )  # fmt: skip
        return {"metrics_tsv": write_rows(here / "comparison.tsv", rows, SERIES)}


def by_smoothing(
    files: list[str], entities: list[dict], stats: Collection[str]
) -> dict[float, dict[str, dict[tuple[str, str], str]]]:
    """Maps of some statistics as FWHM → series → (contrast, stat) → file; regions are passed over."""
    out: dict[float, dict[str, dict[tuple[str, str], str]]] = {}
    for path, own in zip(files, entities, strict=True):
        if own["suffix"] == "statmap" and own["stat"] in stats:
            series, fwhm_mm, _ = parse_map_label(own["desc"])
            out.setdefault(fwhm_mm, {}).setdefault(series, {})[own["contrast"], own["stat"]] = path
    return out


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
        from bids_sr.stats.regions.activation_regions import COLUMNS, clusters_text

        (here / "clusters.tsv").write_text(clusters_text(_rows(inputs, here)), encoding="utf-8")
        return {"out_file": str(here / "clusters.tsv"), "out_json": saved_json(here / "clusters.json", COLUMNS)}


def _rows(inputs: Any, cwd: Path) -> list[dict[str, str]]:
    """Rows of the table, all peaks placed by one call."""
    import numpy as np

    from bids_sr.io.nifti import load_image
    from bids_sr.region_names import atlas_labels
    from bids_sr.registration.ants import apply_to_points
    from bids_sr.stats.regions.activation_regions import cluster_rows, largest_clusters, placed

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
    scanner = np.array(points).reshape(-1, 3)
    at = apply_to_points(points, chain, seed=inputs.seed) if chain and points else scanner
    return placed(rows, at, scanner, "MNI" if chain else "scanner")


def to_template(inputs: Any, cwd: Path) -> list[str]:
    """Transforms that take a boldref point to its template point; none without a T1w image."""
    from bids_sr.registration.bold_to_anat import boldref_to_template
    from bids_sr.spatial.transforms import read_itk

    if inputs.boldref2t1w_xfm is None:
        return []
    return boldref_to_template(read_itk(inputs.boldref2t1w_xfm)[0], inputs.std2t1w_xfm, cwd)


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
