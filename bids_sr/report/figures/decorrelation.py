"""Figure of the decorrelation curves that determine effective resolution (mouse-sr, figure 6C)."""

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bids_sr.io.arrays import MaskArray, Real
from bids_sr.report.figures import canvas
from bids_sr.report.figures.comparison import middle_slice
from bids_sr.spatial.decorrelation import decorrelation_curves


def decorrelation_figure(
    title: str, images: Mapping[str, Real], zooms: Sequence[float], mask: MaskArray
) -> Figure:
    """Draw the decorrelation curves of one slice of each image, with the cut-off frequency.

    The curves follow Descloux et al. 2019: without a filter (black), after high-pass filters
    (gray), and refined around the maximum (blue). Crosses mark their maxima, and the dashed line
    marks the cut-off frequency K. The spectrum (purple) is the radial mean of log |Fourier
    transform|, scaled from 0 to 1.

    The images (X, Y, Z) by name share one grid with voxel sizes `zooms` (mm), and each has a
    panel. The slice with the most voxels of the brain `mask` (X, Y, Z) is drawn. `title` is a
    heading, such as the name of the reference.
    """
    z = middle_slice(mask)
    columns = min(4, len(images))
    rows = -(-len(images) // columns)
    with canvas.style(literal=True):
        fig = canvas.new_figure(3.2 * columns, 2.7 * rows + 0.3)
        fig.set_label(f"{title}: decorrelation curves")
        axes = fig.subplots(rows, columns, squeeze=False).ravel()
        fig.subplots_adjust(
            left=0.06,
            right=0.985,
            bottom=0.45 / rows / 2.7 + 0.02,
            top=0.9,
            hspace=0.5,
            wspace=0.3,
        )
        for ax in axes[len(images) :]:
            ax.set_visible(False)
        for ax, (name, image) in zip(axes, images.items(), strict=False):
            _draw_curves(ax, name, image[..., z], float(zooms[0]))
        fig.text(0.06, 0.965, f"{title}, slice {z}", fontsize=8)
    return fig


def _draw_curves(ax: Axes, name: str, image: Real, pixel_mm: float) -> None:
    """Draw the curves of one slice (X, Y) with pixels of `pixel_mm` mm."""
    canvas.light_grid(ax)
    ax.set(xlim=(0, 1), ylim=(0, 1.02))
    ax.set_xlabel("frequency (1: Nyquist limit)", fontsize=7)
    ax.set_ylabel("decorrelation", fontsize=7)
    curves = decorrelation_curves(image)
    if curves is None:
        ax.set_title(f"{name}: constant slice", fontsize=7)
        return
    ax.plot(curves.radii, curves.spectrum, color=canvas.PURPLE, lw=1)
    for curve in curves.filtered:
        ax.plot(curves.radii, curve, color=canvas.GRID, lw=0.7)
    for curve in curves.refined:
        ax.plot(curves.fine_radii, curve, color=canvas.BLUE, lw=0.7)
    ax.plot(curves.radii, curves.plain, color=canvas.INK, lw=1.2)
    for radius, height in curves.maxima:
        ax.plot(radius, height, "x", color=canvas.BLUE, ms=4)
    if curves.cutoff is None:
        ax.set_title(f"{name}: no maximum below the limit", fontsize=7)
        return
    ax.axvline(curves.cutoff, color=canvas.RED, ls="--", lw=1)
    ax.set_title(f"{name}: K = {curves.cutoff:.2f}, {pixel_mm / curves.cutoff:.3g} mm", fontsize=7)
