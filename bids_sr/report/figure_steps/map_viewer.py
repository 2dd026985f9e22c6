"""Map viewer of a run, or of all runs of a participant together."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import field, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from markupsafe import Markup

from bids_sr.config.levels import StoredMaps
from bids_sr.engine.artifacts import Derivative, File, Map, Volume
from bids_sr.evaluation.result import RunResult
from bids_sr.evaluation.run_evidence import StoredEvidence
from bids_sr.glm.activation_regions import SIGN_RELIABLE
from bids_sr.io.arrays import Array
from bids_sr.io.frozen import frozen
from bids_sr.io.grids import BOLDREF
from bids_sr.io.safe_width import is_safe
from bids_sr.io.smoothing_words import smoothing_choice
from bids_sr.report.figure_step import FigureContent, figure
from bids_sr.report.figure_steps import run_maps as run_maps_figures
from bids_sr.report.figure_steps.run_maps import SceneImages, ShownMaps
from bids_sr.report.sections import HtmlSpec
from bids_sr.spatial.itk_files import Transforms


# The viewer precedes all other figures of its section.
@figure(HtmlSpec("viewer", "maps", place=-1, missing="viewer of the maps", tables=("activation",)))
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
    """Create the HTML viewer of the maps of a run; None if there are no maps.

    The viewer initially shows the best method of the evidence. `boldref2t1w_xfm` and `std2t1w_xfm`
    are transforms to the T1w image from the boldref and from the template. `series_names` are in
    display order. The `n_runs` runs of the participant share the space of a report. `entities` are
    labels by long entity name. `stored` determines which maps are stored.
    """
    viewed = ViewedMaps(
        shown_maps=run_maps_figures.sort_maps(maps),
        images=images,
        result=evidence.result,
        series_names=series_names,
        n_runs=n_runs,
        entities=entities,
        stored=stored,
    )
    xfms = boldref2t1w_xfm, std2t1w_xfm
    return viewed.render(evidence.shown_contrast, evidence.best, *xfms) or None


@frozen
class ViewedMaps:
    """Maps of a run, or of all runs of a participant together, for a viewer.

    Maps of methods that were not applied, or whose detail may not be interpreted according to
    `result`, are left out. `over_runs` are names of contrasts over runs as requested; their mask
    contains significant voxels unless signs were tested. `space` is the label of the space of the
    stored maps. See `show_viewer` for the other parameters.
    """

    shown_maps: ShownMaps
    images: SceneImages
    result: RunResult
    n_runs: int
    entities: Mapping[str, str]
    stored: StoredMaps
    series_names: Sequence[str] = ()
    space: str = BOLDREF
    over_runs: Mapping[str, str] = field(default_factory=dict)

    def render(
        self,
        first_contrast: str,
        first_series: str,
        boldref2t1w_xfm: Array | None,
        std2t1w_xfm: Path | None,
    ) -> Markup:
        """Render the viewer, which shows a contrast and series first; "" if there are no maps."""
        from bids_sr.report.figures import map_viewer as viewers

        shown_maps, display = self.shown_maps, self.shown_maps.display
        maps: dict[str, dict[tuple[str, str], viewers.LazyVolumes]] = {}
        masks: dict[tuple[str, str], Volume] = {}
        files: dict[str, str] = {}
        for contrast, fwhm_mm in self._sort_contrasts(first_contrast):
            by_series = shown_maps.stats[contrast, display.statistic, fwhm_mm]
            names = self._select_series(by_series, contrast, fwhm_mm)
            smoothing = smoothing_choice(fwhm_mm, run_maps_figures.find_input_smoothing(by_series))
            for stat in dict.fromkeys((display.statistic, viewers.EFFECT)):
                by_series = shown_maps.stats.get((contrast, stat, fwhm_mm), {})
                derivatives = {name: by_series[name] for name in names if name in by_series}
                if derivatives:
                    volumes = viewers.LazyVolumes(derivatives)
                    maps.setdefault(stat, {})[contrast, smoothing] = volumes
                for name, derivative in derivatives.items():
                    if self.stored.includes(name, contrast, fwhm_mm, stat):
                        key = viewers.map_key(contrast, smoothing, stat, name)
                        files[key] = self._locate(derivative)
            mask = self._find_mask(contrast, fwhm_mm)
            if mask is not None and self.result.method in names:
                masks[contrast, smoothing] = mask.volume
        return viewers.viewer_html(
            maps.get(display.statistic, {}),
            self.images.scene().background,
            self.images.bold_mask_hr,
            display=display,
            effects=maps.get(viewers.EFFECT, {}),
            masks=masks,
            files=files,
            names=self.over_runs,
            first_series=first_series,
            max_bytes=viewers.bytes_per_run(self.n_runs),
            mni=_compute_mni_nodes(self.images.bold_mask_hr, boldref2t1w_xfm, std2t1w_xfm),
        )

    def _sort_contrasts(self, first_contrast: str) -> list[tuple[str, float]]:
        """Return contrast and smoothing (FWHM, mm) of the displayed maps, important ones first.

        All maps of the first contrast come first, followed by the maps with least smoothing.
        """
        statistic = self.shown_maps.display.statistic
        order = self.shown_maps.list_contrasts(first_contrast)
        contrasts = [(name, mm) for name, stat, mm in self.shown_maps.stats if stat == statistic]
        return sorted(
            contrasts, key=lambda item: (item[0] != order[0], item[1], order.index(item[0]))
        )

    def _select_series(self, names: Collection[str], contrast: str, fwhm_mm: float) -> list[str]:
        """Return the series that are drawn, without methods that must not be used."""
        result = self.result.select(contrast)
        opens_safe_map = any(item.active.opens_safe_map for item in result.contrasts)
        is_safe_map = is_safe(fwhm_mm, self.images.boldref.zooms)
        is_opened = is_safe_map and (opens_safe_map or bool(result.changes))
        is_hidden = result.contrasts and result.shown is None and not is_opened
        hidden = {*result.not_applied, *([result.method] if is_hidden else [])}
        used = [name for name in names if name not in hidden]
        return run_maps_figures.displayed_series(used, self.series_names)

    def _find_mask(self, contrast: str, fwhm_mm: float) -> Derivative | None:
        """Return the mask to show of a map of the method; None if there is no mask."""
        kinds = (SIGN_RELIABLE, "Fdr")[: 2 if contrast in self.over_runs else 1]
        regions = (
            self.shown_maps.regions.get((contrast, kind, fwhm_mm), {}).get(self.result.method)
            for kind in kinds
        )
        return next((region for region in regions if region is not None), None)

    def _locate(self, derivative: Derivative) -> str:
        """Return the path of a stored map, relative to the page."""
        placed = replace(derivative, entities={**derivative.entities, "space": self.space})
        return run_maps_figures.stored_path(placed, self.entities)


def _compute_mni_nodes(
    mask: Volume, boldref2t1w: Array | None, std2t1w: Path | None
) -> Array | None:
    """Return MNI coordinates of nodes that cover the field of view of a mask.

    The transform `boldref2t1w` has the shape (1, 4, 4) in RAS+ mm. The file `std2t1w` contains the
    transform from the template to the T1w image. Without both, the coordinates are None.
    """
    from bids_sr.preproc.ants import apply_to_points
    from bids_sr.preproc.bold_regions import chain_through_t1w
    from bids_sr.report.figures.map_viewer import make_mni_nodes
    from bids_sr.report.figures.slices import reorient_to_ras

    if boldref2t1w is None or std2t1w is None:
        return None
    volume = reorient_to_ras(mask)
    nodes = make_mni_nodes(volume.data.shape, volume.affine)
    with TemporaryDirectory() as folder:
        chain = chain_through_t1w(boldref2t1w[0], [std2t1w], Path(folder))
        return apply_to_points(nodes.reshape(-1, 3), chain).reshape(nodes.shape)
