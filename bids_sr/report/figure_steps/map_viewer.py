"""Map viewer of a run."""

from collections import UserDict
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bids_sr.config.levels import StoredMaps
from bids_sr.engine.artifacts import File, Map, Volume
from bids_sr.evaluation.run_evidence import RunEvidence, StoredEvidence
from bids_sr.glm.activation_regions import SIGN_RELIABLE
from bids_sr.io.arrays import Array
from bids_sr.io.safe_width import is_safe
from bids_sr.io.smoothing_words import smoothing_choice
from bids_sr.report.figure_step import FigureContent, figure
from bids_sr.report.figure_steps import run_maps as run_maps_figures
from bids_sr.report.figure_steps.run_maps import SceneImages, ShownMaps
from bids_sr.report.sections import HtmlSpec
from bids_sr.spatial.itk_files import Transforms


# The viewer precedes all other figures of its section.
@figure(HtmlSpec("viewer", "maps", place=-1, missing="viewer of the maps"))
def show_viewer(
    maps: list[Map],
    images: SceneImages,
    evidence: StoredEvidence,
    boldref2t1w_xfm: Transforms | None = None,
    std2t1w_xfm: File | None = None,
    *,
    series_names: Sequence[str],
    n_runs: int,
    entities: Mapping[str, str],
    stored: StoredMaps,
) -> FigureContent | None:
    """Create the HTML viewer of the maps of a run.

    The viewer initially shows the best method of the evidence. Maps of methods that were not
    applied, or whose detail may not be interpreted, are left out. MNI coordinates are only shown
    if both transforms exist.

    `boldref2t1w_xfm` and `std2t1w_xfm` are transforms to the T1w image from the boldref and from
    the template. `series_names` are in display order. The `n_runs` runs of the participant share
    the space of a report. `entities` are labels by long entity name. `stored` determines which
    maps are stored.

    Returns None if there are no maps.
    """
    from bids_sr.report.figures.map_viewer import bytes_per_run, map_key, viewer_html

    shown_maps = run_maps_figures.sort_maps(maps)
    first_contrast = shown_maps.choose_contrast(evidence.shown_contrast)
    viewer_maps: dict[tuple[str, str], _LazyVolumes] = {}
    masks: dict[tuple[str, str], Volume] = {}
    files: dict[str, str] = {}
    for contrast, fwhm_mm in _sort_contrasts(shown_maps, first_contrast):
        maps_by_series = shown_maps.stats[contrast, shown_maps.display.statistic, fwhm_mm]
        shown_names = _select_series(maps_by_series, evidence, contrast, fwhm_mm, images)
        sorted_names = run_maps_figures.sort_series(shown_names, series_names)
        smoothing = smoothing_choice(
            fwhm_mm, run_maps_figures.find_input_smoothing(maps_by_series)
        )
        viewer_maps[contrast, smoothing] = _LazyVolumes(
            {name: maps_by_series[name] for name in sorted_names}
        )
        regions = shown_maps.regions.get((contrast, SIGN_RELIABLE, fwhm_mm), {})
        if evidence.result.method in sorted_names and evidence.result.method in regions:
            masks[contrast, smoothing] = regions[evidence.result.method].volume
        for name in sorted_names:
            if stored.includes(name, contrast, fwhm_mm, shown_maps.display.statistic):
                path = run_maps_figures.stored_path(maps_by_series[name], entities)
                files[map_key(contrast, smoothing, name)] = path
    mni_coordinates = None
    if boldref2t1w_xfm is not None and std2t1w_xfm is not None:
        mni_coordinates = _compute_mni_nodes(images.bold_mask_hr, boldref2t1w_xfm, std2t1w_xfm)
    viewer = viewer_html(
        viewer_maps,
        images.scene().background,
        images.bold_mask_hr,
        display=shown_maps.display,
        masks=masks,
        files=files,
        first_series=evidence.best,
        max_bytes=bytes_per_run(n_runs),
        mni=mni_coordinates,
        definitions=_define_series(viewer_maps),
    )
    return viewer or None


class _LazyVolumes(UserDict[str, Any]):
    """Mapping of names to volumes, which are only read on access."""

    def __getitem__(self, key: str) -> Volume:
        volume: Volume = self.data[key].volume
        return volume


def _select_series(
    names: Collection[str],
    evidence: RunEvidence,
    contrast: str,
    fwhm_mm: float,
    images: SceneImages,
) -> list[str]:
    """Return the series without methods that were not applied, or must not be used."""
    result = evidence.result.select(contrast)
    is_opened = is_safe(fwhm_mm, images.boldref.zooms) and any(
        item.active.opens_safe_map for item in result.contrasts
    )
    is_hidden = result.contrasts and result.shown is None and not is_opened
    hidden = {*evidence.not_applied, *([result.method] if is_hidden else [])}
    return [name for name in names if name not in hidden]


def _sort_contrasts(shown_maps: ShownMaps, first_contrast: str) -> list[tuple[str, float]]:
    """Return contrast and smoothing (FWHM, mm) of the displayed maps in the order of the viewer.

    `first_contrast` comes first, followed by the contrast of all conditions.
    """
    statistic = shown_maps.display.statistic
    contrasts = [
        (contrast, fwhm_mm) for contrast, stat, fwhm_mm in shown_maps.stats if stat == statistic
    ]
    return sorted(
        contrasts, key=lambda item: (item[0] != first_contrast, item[0] != "all", item[1])
    )


def _compute_mni_nodes(mask: Volume, boldref2t1w: Array, std2t1w: Path) -> Array:
    """Return MNI coordinates of nodes that cover the field of view of a mask.

    The transform `boldref2t1w` has the shape (1, 4, 4) in RAS+ mm. The file `std2t1w` contains the
    transform from the template to the T1w image.
    """
    from bids_sr.preproc.ants import apply_to_points
    from bids_sr.preproc.bold_regions import chain_through_t1w
    from bids_sr.report.figures.map_viewer import make_mni_nodes
    from bids_sr.report.figures.slices import reorient_to_ras

    volume = reorient_to_ras(mask)
    nodes = make_mni_nodes(volume.data.shape, volume.affine)
    with TemporaryDirectory() as folder:
        chain = chain_through_t1w(boldref2t1w[0], [std2t1w], Path(folder))
        return apply_to_points(nodes.reshape(-1, 3), chain).reshape(nodes.shape)


def _define_series(maps: Mapping[tuple[str, str], Mapping[str, Volume]]) -> list[tuple[str, str]]:
    """Return labels and descriptions of the series in the viewer, except undescribed series."""
    from bids_sr.evaluation.series_text import describe_series
    from bids_sr.report.evaluation_rows import series_text
    from bids_sr.report.figures.map_viewer import SERIES_TITLES

    series_names = dict.fromkeys(
        name for maps_by_series in maps.values() for name in maps_by_series
    )
    definitions = (
        (SERIES_TITLES.get(name) or series_text(name), describe_series(name))
        for name in series_names
    )
    return [(title, definition) for title, definition in definitions if definition]
