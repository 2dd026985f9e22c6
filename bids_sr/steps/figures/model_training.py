"""Figures of training: training curves and model cards."""

from collections.abc import Iterator

from bids_sr.pipeline.figure import FigureDrawing, figure
from bids_sr.report.sections import MODEL, PAIR, FigureSpec
from bids_sr.steps.training import TrainingReport


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
    FigureSpec("card", "superres-training", suffix=PAIR, html=True),
)
def draw_training(report: TrainingReport, *, method_label: str = "") -> Iterator[FigureDrawing]:
    """Draw the training curve with the PSNR of interpolation, and the model card."""
    yield from _draw_training("", report, method_label)


@figure(
    FigureSpec(
        "volumetraining",
        "superres",
        place=-1,
        subtitle="Training on volumes of the run",
        tab="Training",
        caption=(
            "Left: peak signal-to-noise ratio during training, computed from the loss if there is"
            " no high-resolution image. Right: training losses."
        ),
        tables=(MODEL,),
    ),
    FigureSpec("volumecard", "superres", html=True, place=-1),
)
def draw_volume_training(report: TrainingReport, *, series_name: str) -> Iterator[FigureDrawing]:
    """Draw training curve and model card of a network that was trained on volumes of the run."""
    yield from _draw_training("volume", report, series_name)


def _draw_training(stem: str, report: TrainingReport, label: str) -> Iterator[FigureDrawing]:
    """Draw training curve and model card; the names of the figures start with `stem`."""
    from bids_sr.figures.training import training_figure
    from bids_sr.report.facts import card_html

    card = report.card_file
    columns = {str(name): values.to_numpy() for name, values in report.log_file.items()}
    yield FigureDrawing(f"{stem}training", training_figure(columns, card), label=label)
    yield FigureDrawing(f"{stem}card", card_html(card), label=label)
