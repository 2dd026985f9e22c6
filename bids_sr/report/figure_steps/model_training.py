"""Figures of training: training curves and model cards."""

from collections.abc import Iterator

from bids_sr.report.figure_step import FigureDrawing, figure
from bids_sr.report.sections import MODEL, PAIR, FigureSpec, HtmlSpec
from bids_sr.sr.steps.training import ModelReport


@figure(
    FigureSpec(
        "training",
        "superres-training",
        suffix=PAIR,
        subtitle="Training curve",
        tab="Training curve",
        caption=(
            "Left: peak signal-to-noise ratio on held-out slices of the T2* pair. Dashed lines"
            " show interpolation of the same slices. Right: training losses."
        ),
        missing="training curve",
        remark="this figure requires a method that trains a network",
        tables=(MODEL,),
    ),
    HtmlSpec("card", "superres-training", suffix=PAIR),
)
def draw_training(report: ModelReport, *, method_label: str = "") -> Iterator[FigureDrawing]:
    """Draw the training curve with the PSNR of interpolation, and the model card."""
    yield from _draw_curve_and_card(report, "training", "card", label=method_label)


@figure(
    FigureSpec(
        "volumetraining",
        "superres",
        place=-1,  # before the figures of the series
        subtitle="Training on volumes of the run",
        tab="Training",
        caption=(
            "Left: peak signal-to-noise ratio during training, computed from the loss if there is"
            " no high-resolution image. Right: training losses."
        ),
        tables=(MODEL,),
    ),
    HtmlSpec("volumecard", "superres", place=-1),
)
def draw_volume_training(report: ModelReport, *, series_name: str) -> Iterator[FigureDrawing]:
    """Draw training curve and model card of a network that was trained on volumes of the run."""
    yield from _draw_curve_and_card(report, "volumetraining", "volumecard", label=series_name)


def _draw_curve_and_card(
    report: ModelReport, curve_name: str, card_name: str, *, label: str
) -> Iterator[FigureDrawing]:
    """Draw the training curve and the model card with the given names of figures.

    `label` distinguishes figures of different networks.
    """
    from bids_sr.report.facts import card_html
    from bids_sr.report.figures.training import training_figure

    card = report.card_file
    log_columns = {str(name): column.to_numpy() for name, column in report.log_file.items()}
    yield FigureDrawing(curve_name, training_figure(log_columns, card), label=label)
    yield FigureDrawing(card_name, card_html(card), label=label)
