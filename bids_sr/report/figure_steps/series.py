"""Figures of the series of a run: a slice of each, and quality of the super-resolved series."""

from collections.abc import Iterator, Sequence

from bids_sr.engine.artifacts import Image, Mask, Series
from bids_sr.evaluation.run_evidence import StoredEvidence
from bids_sr.io.run_time import RunTime
from bids_sr.io.series import ACQUIRED
from bids_sr.report.figure_step import FigureContent, FigureDrawing, figure
from bids_sr.report.figure_steps import run_maps as run_maps_figures
from bids_sr.report.figure_steps.display_grids import read_grid, resample_to
from bids_sr.report.figure_steps.motion import sample_carpet
from bids_sr.report.sections import FigureSpec


@figure(
    FigureSpec(
        "srslice",
        "superres",
        subtitle="One slice through all series",
        tab="One slice",
        caption=(
            "Top: one volume after motion correction, with the same gray scale for all series."
            " Below: enlarged region in the yellow frame and its difference from B-spline"
            " interpolation. If the region of interest is not the whole brain, it is outlined in"
            " light blue. A sharper image is not evidence of finer functional detail. For"
            " example, inject has as much static detail, but its signal change is only"
            " interpolated."
        ),
        missing="slice through all series",
        tables=("image",),
    ),
)
def draw_slice(
    middle: dict[str, Image],
    roi_hr: Mask,
    bold_mask_hr: Mask,
    *,
    series_names: Sequence[str],
) -> FigureContent:
    """Draw a slice of the middle volume in all series, and differences from B-spline."""
    from bids_sr.report.figures.maps import series_figure

    volumes = {
        name: middle[name] for name in run_maps_figures.list_names(series_names) if name in middle
    }
    reference = (
        "bspline" if "bspline" in volumes else next(name for name in volumes if name != ACQUIRED)
    )
    return series_figure(volumes, roi_hr, mask=bold_mask_hr, reference=reference)


@figure(
    FigureSpec(
        "madetsnr",
        "superres",
        subtitle="Temporal signal-to-noise ratio",
        tab="tSNR",
        caption=(
            "Temporal mean divided by temporal standard deviation, after removal of a quadratic"
            " trend and without censored volumes. All maps have the same color scale. Because"
            " interpolation averages noise, a higher ratio does not imply higher sensitivity."
        ),
        missing="maps of the temporal signal-to-noise ratio",
        tables=("image",),
    ),
    FigureSpec(
        "madecarpet",
        "superres",
        subtitle="Carpet plot of the super-resolved series",
        tab="Carpet plot",
        caption=(
            "Compare this figure with the carpet plot of the acquired series in the section Head"
            " motion. Stripes that appear only in this figure were added by super-resolution."
        ),
        missing="carpet plot of the super-resolved series",
    ),
    cost=RunTime(always=1.0, volumes=0.02),
)
def draw_output(
    series: dict[str, Series],
    tsnr: dict[str, Image],
    bold_mask_hr: Mask,
    evidence: StoredEvidence,
    tpms_bold: list[Image] | None = None,
    *,
    n_dummy: int = 0,
) -> Iterator[FigureDrawing]:
    """Draw tSNR maps, and a carpet plot of the super-resolved series.

    The tSNR maps show the acquired and the super-resolved series. The super-resolved series is the
    best method of the evidence, or else the last of `series`. `series` and `tsnr` contain the
    methods, or B-spline if there are none; `tsnr` also contains the acquired series.
    """
    from bids_sr.report.evaluation_rows import series_text
    from bids_sr.report.figures.maps import overlay_figure
    from bids_sr.report.figures.motion import carpet_figure, carpet_rows

    drawn_name = evidence.best if evidence.best in series else next(reversed(series))
    grid = read_grid(bold_mask_hr)
    ratios = {
        series_text(name): resample_to(tsnr[name], *grid, order=0)
        for name in (ACQUIRED, drawn_name)
    }
    yield FigureDrawing(
        "madetsnr", overlay_figure(ratios, bold_mask_hr, label="temporal signal-to-noise ratio")
    )
    tissues = {
        tissue: resample_to(probability, *grid).data
        for tissue, probability in zip(("GM", "WM", "CSF"), tpms_bold or (), strict=False)
    }
    rows, groups = sample_carpet(series[drawn_name], bold_mask_hr.data, tissues)
    drawing = carpet_figure(
        carpet_rows(rows, n_dummy),
        groups,
        series[drawn_name].tr or 1.0,
        traces={},
        n_dummy=n_dummy,
    )
    yield FigureDrawing("madecarpet", drawing)
