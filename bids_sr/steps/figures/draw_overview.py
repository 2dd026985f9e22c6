"""Figures of the first screen of a run, and the viewer of its maps."""

from collections import UserDict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from bids_sr.config.section import Level, StoredMaps
from bids_sr.config.spaces import count_mapped
from bids_sr.io.grids import Array
from bids_sr.pipeline.artifacts import (
    Confounds,
    Derivative,
    Facts,
    File,
    Image,
    Map,
    Mask,
    Rows,
    Transforms,
    Verdict,
    Volume,
)
from bids_sr.pipeline.step import Content, Drawn, figure
from bids_sr.report.sections import Shown
from bids_sr.sr.method import Cost
from bids_sr.steps.figures import display_grids
from bids_sr.steps.figures.display_grids import ShownMaps, grid_of, onto, percent_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from bids_sr.figures.map_figures import Scene

_EFFECT_SHARE = 0.2
"""Effects below this share of the color scale are not drawn: they have no threshold of their own.
"""


@figure(
    Shown(
        "overview", "overview", html=True, missing="overview of the run (a step did not finish)"
    ),
    Shown(
        "overview",
        "overview",
        caption=(
            "The yellow frame, enlarged: one axial slice at the peak of the acquired map (z in"
            " scanner mm), where the viewer under Maps opens. All series share a color scale and a"
            " threshold."
        ),
    ),
    Shown(
        "reliable",
        "overview",
        caption=(
            "Effect, and the standard deviation of its reconstruction's error, on one color scale."
            " Outlined: reliable voxels, of which .05 are expected to have the other sign. The"
            " error is that of an effect with the fine spectrum of the run's fluctuations; a finer"
            " one has up to 2.4 times this error."
        ),
    ),
)
def draw_overview(
    evaluation: Rows,
    verdict: Verdict,
    registration: Facts,
    confounds: Confounds,
    maps: list[Map],
    bold_mask_hr: Mask,
    roi_hr: Mask,
    boldref: Image,
    bold_mask: Mask,
    guide_hr: Image | None = None,
    one_level_down: Facts | None = None,
    truth_maps: dict[str, Image] | None = None,
    error_maps: list[Map] | None = None,
    *,
    entities: Mapping[str, str],
    calibrated: bool,
    at_rest: bool,
    run_facts: Mapping[str, object],
) -> Iterator[Drawn]:
    """The first screen: one sentence, three numbers, one figure, checks, and what to do next.

    `boldref, bold_mask`: reference of the run and brain on its grid, for effects in percent.
    `guide_hr`: high-resolution T2*w image as background (3D); None takes boldref.
    """
    from bids_sr.figures.canvas import units_text
    from bids_sr.report.overview_text import RunFacts, overview_html

    shown_maps = display_grids.sort_maps([*maps, *(error_maps or ())])
    contrast = shown_maps.leading(display_grids.judged_contrast(evaluation, verdict))
    run = RunFacts(
        entities=entities,
        displacement=[float(value) for value in confounds["framewise_displacement"]],
        acquired_mm=boldref.zooms.tolist(),
        made_mm=bold_mask_hr.zooms.tolist(),
        calibrated=calibrated,
        at_rest=at_rest,
        described=str(run_facts.get("Description", "")),
    )
    one_level = one_level_down or {}
    text = overview_html(verdict, evaluation, registration, run, one_level, contrast)
    yield Drawn("overview", text)
    scene = display_grids.scene_of(guide_hr or boldref, bold_mask_hr, roi_hr)
    unit = units_text(percent_of(boldref, bold_mask))
    known = (truth_maps or {}).get(contrast)
    title = f"{'seed' if at_rest else 'contrast'} {contrast}"
    best = verdict["best"]
    yield Drawn("overview", _zoomed(shown_maps, contrast, best, known, scene, unit, title))
    if drawn := _believed(shown_maps, contrast, best, scene, unit, title):
        yield Drawn("reliable", drawn)


def _believed(
    shown_maps: ShownMaps, contrast: str, best: str, scene: "Scene", unit: str, title: str
) -> "Figure | None":
    """The best method's effect beside the SD of its error, with the reliable region's outline."""
    from bids_sr.figures.map_figures import Display, peak_voxel, zoomed_figure

    widths = [fwhm for name, stat, fwhm in shown_maps.stats if (name, stat) == (contrast, "sd")]
    by_stat = {
        text: shown_maps.stats[contrast, stat, min(widths)].get(best) if widths else None
        for stat, text in (("effect", f"effect of {best}"), ("sd", "SD of its error"))
    }
    shown = {text: each.volume for text, each in by_stat.items() if each is not None}
    if len(shown) < len(by_stat):
        return None
    limit = display_grids.color_limit([each for each in by_stat.values() if each is not None], 0.0)
    floor = float(f"{_EFFECT_SHARE * limit:.2g}")
    display = Display(statistic="effect", threshold=floor, floor=0.0, unit=unit)
    region = shown_maps.regions.get((contrast, "Reliable", min(widths)), {}).get(best)
    at = peak_voxel(shown_maps.stats[contrast, "t", min(widths)][best].volume, scene.mask)
    drawn = zoomed_figure(
        shown,
        scene,
        display=display,
        limit=limit,
        at=at,
        region=None if region is None else region.volume,
    )
    drawn.set_label(
        f"Effect of {best}, {title}, and the standard deviation of its reconstruction's error, on"
        " one color scale; outlined: the reliable voxels"
    )
    return drawn


def _zoomed(
    shown_maps: ShownMaps,
    contrast: str,
    best: str,
    truth: Volume | None,
    scene: "Scene",
    unit: str,
    title: str,
) -> "Figure":
    """Acquired, B-spline, the best method and the truth, where it is known, on one color scale."""
    from bids_sr.figures.map_figures import (
        CC_DISPLAY,
        T_DISPLAY,
        Display,
        peak_voxel,
        zoomed_figure,
    )
    from bids_sr.figures.map_viewer import TITLES

    kinds = {stat for name, stat, _ in shown_maps.stats if name == contrast}
    stat = "effect" if truth and "effect" in kinds else "t" if "t" in kinds else "cc"
    width = min(fwhm for name, kind, fwhm in shown_maps.stats if (name, kind) == (contrast, stat))
    by_series = dict(shown_maps.stats[contrast, stat, width])
    names = [name for name in ("raw", "bspline", best, "measured") if name in by_series]
    if truth and stat == "effect" and "measured" not in by_series:
        by_series["truth"] = Derivative(truth, {})
        names.append("truth")
    shown = {TITLES.get(name, name): by_series[name].volume for name in names}
    display = {"t": T_DISPLAY, "cc": CC_DISPLAY}.get(stat)
    limit = display_grids.color_limit(by_series.values(), display.floor if display else 0.0)
    if display is None:
        display = Display(
            statistic="effect",
            threshold=float(f"{_EFFECT_SHARE * limit:.2g}"),
            floor=0.0,
            unit=unit,
        )
    # the map that the viewer opens with
    judged = next(
        shown_maps.stats[contrast, kind, width] for kind in ("t", "cc", stat) if kind in kinds
    )
    first = judged.get("raw") or next(iter(judged.values()))
    at = peak_voxel(first.volume, scene.mask)
    drawn = zoomed_figure(shown, scene, display=display, limit=limit, at=at)
    smoothing = f"smoothed by {width:g} mm" if width else "not smoothed"
    drawn.set_label(
        f"Maps of {stat}, {title}, {smoothing}, in one zoomed axial slice on one color scale: "
        + ", ".join(shown)
    )
    return drawn


class _Read(UserDict[str, Any]):
    """Volumes of maps, each read whenever it is asked for."""

    def __getitem__(self, key: str) -> Volume:
        volume: Volume = self.data[key].volume
        return volume


@figure(
    Shown("viewer", "maps", html=True, place=-1, missing="viewer of the maps"),
    cost=lambda setting: Cost(always=1.5, high=0.3 * count_mapped(setting("contrasts"))),
)
def show_viewer(
    maps: list[Map],
    bold_mask_hr: Mask,
    evaluation: Rows,
    verdict: Verdict,
    boldref: Image,
    guide_hr: Image | None = None,
    boldref2t1w_xfm: Transforms | None = None,
    std2t1w_xfm: File | None = None,
    *,
    series_names: Sequence[str],
    n_runs: int,
    entities: Mapping[str, str],
    level: Level,
    methods: Sequence[str],
    baselines: str,
    smoothing: Sequence[float],
    kinds: Sequence[str],
    primary: str,
    minus_others: Sequence[str],
) -> Content | None:
    """Show every map of the run to scroll through, by contrast, smoothing and series.

    The best method of the verdict comes first.

    Viewer in HTML, or None where there is no map.

    `guide_hr`: high-resolution T2*w image as background (3D); None takes boldref.
    """
    from bids_sr.figures.map_viewer import map_key, room_of, viewer_html
    from bids_sr.pipeline.store import derivative_path

    shown_maps = display_grids.sort_maps(maps)
    judged = shown_maps.leading(display_grids.judged_contrast(evaluation, verdict))
    display, grid = shown_maps.display, grid_of(bold_mask_hr)
    stored = StoredMaps(
        level=level,
        methods=methods,
        baselines=baselines,
        smoothing=smoothing,
        kinds=kinds,
        primary=primary,
        minus_others=minus_others,
    )
    shown = {}
    files: dict[str, str] = {}
    for contrast, stat, fwhm in sorted(
        shown_maps.stats, key=lambda key: (key[0] != judged, key[0] != "all", key[2])
    ):
        if stat == display.statistic:
            by_series = shown_maps.stats[contrast, stat, fwhm]
            every = display_grids.ordered(by_series, series_names)
            width = f"{fwhm:g} mm" if fwhm else "none"
            shown[contrast, width] = _Read({name: by_series[name] for name in every})
            files |= {
                map_key(contrast, width, name): derivative_path(
                    {
                        **entities,
                        **by_series[name].entities,
                        "datatype": "func",
                        "extension": ".nii.gz",
                    }
                )
                for name in every
                if stored.holds(name, contrast, fwhm, stat)
            }
    below = onto(guide_hr or boldref, *grid)
    mni = None
    if boldref2t1w_xfm is not None and std2t1w_xfm is not None:
        mni = _mni(bold_mask_hr, boldref2t1w_xfm, std2t1w_xfm)
    viewer = viewer_html(
        shown,
        below,
        bold_mask_hr,
        display=display,
        files=files,
        first_series=verdict["best"],
        room=room_of(n_runs),
        mni=mni,
    )
    return viewer or None


def _mni(mask: Volume, boldref2t1w: Array, std2t1w: Path) -> Array:
    """Return MNI coordinates over a grid of the run, through the stored transforms.

    They cover the field of view of the grid.
    """
    from bids_sr.figures.map_viewer import mni_nodes
    from bids_sr.figures.slices import canonical

    volume = canonical(mask)
    nodes = mni_nodes(volume.data.shape, volume.affine)
    points = _mni_points(nodes.reshape(-1, 3), boldref2t1w, std2t1w)
    return points.reshape(nodes.shape)


def _mni_points(points: Array, boldref2t1w: Array, std2t1w: Path) -> Array:
    """MNI coordinates of points of the run (N, 3; RAS mm)."""
    from bids_sr.registration.ants import apply_to_points
    from bids_sr.registration.bold_to_anat import boldref_onward

    with TemporaryDirectory() as folder:
        chain = boldref_onward(boldref2t1w[0], [std2t1w], Path(folder))
        return apply_to_points(points.tolist(), chain, seed=1)
