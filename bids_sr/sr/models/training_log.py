"""Log of a running training: a table, and TensorBoard files if TensorBoard is installed."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from bids_sr.io import atomic_files

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter as Board

LogRow = Mapping[str, str | float]
TENSORBOARD = "tensorboard"
"""Folder of TensorBoard files, next to the log."""
_LOG_COLUMNS = (
    "phase",
    "iteration",
    "loss",
    "content",
    "adversarial",
    "perceptual",
    "critic",
    "learning_rate",
    "psnr",
)


class Journal:
    """Log of one phase, written to ``log_NAME.tsv`` and, if available, to ``tensorboard/NAME``.

    `name` is the name of the phase. `last_iteration` is the last logged iteration of a resumed
    phase, otherwise 0. TensorBoard discards later iterations, which are repeated.
    """

    def __init__(self, folder: Path, name: str, last_iteration: int = 0) -> None:
        self.table = folder / f"log_{name}.tsv"
        self._board: Board | None = None
        with suppress(ImportError):
            from torch.utils.tensorboard import SummaryWriter

            self._board = SummaryWriter(
                str(folder / TENSORBOARD / name), purge_step=last_iteration + 1
            )

    def add(self, log: Sequence[LogRow]) -> None:
        """Write the whole log, including a new last row."""
        atomic_files.write_text(self.table, log_tsv(log))
        if self._board is None or not log:
            return
        last_row = log[-1]
        for key, value in last_row.items():
            if isinstance(value, float):
                self._board.add_scalar(key, value, last_row["iteration"])
        self._board.flush()

    def close(self) -> None:
        """Close the TensorBoard writer."""
        if self._board is not None:
            self._board.close()


def log_tsv(log: Iterable[LogRow]) -> str:
    """Return the training log as TSV, with n/a for missing values.

    Columns that only some methods have come last.
    """
    log_rows = list(log)
    columns = list(dict.fromkeys((*_LOG_COLUMNS, *(key for row in log_rows for key in row))))
    stream = io.StringIO()
    writer = csv.writer(stream, delimiter="\t", lineterminator="\n")
    writer.writerow(columns)
    for row in log_rows:
        cells = (row.get(column, "n/a") for column in columns)
        writer.writerow([f"{cell:.6g}" if isinstance(cell, float) else cell for cell in cells])
    return stream.getvalue()
