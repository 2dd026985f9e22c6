"""The log of a training while it goes on: a table beside the checkpoint, and TensorBoard where it is installed."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from bids_sr.io import atomic_files

LOG_COLUMNS = ("phase", "iteration", "loss", "content", "adversarial", "perceptual", "critic", "learning_rate", "psnr")


def log_tsv(log: Iterable[Mapping[str, Any]]) -> str:
    """The training log as TSV; n/a where a look had no such value. Terms that not every method has come last."""
    rows = list(log)
    more = dict.fromkeys(key for row in rows for key in row if key not in LOG_COLUMNS)
    columns = (*LOG_COLUMNS, *more)
    text = io.StringIO()
    table = csv.writer(text, delimiter="\t", lineterminator="\n")
    table.writerow(columns)
    for row in rows:
        cells = (row.get(column, "n/a") for column in columns)
        table.writerow([f"{cell:.6g}" if isinstance(cell, float) else cell for cell in cells])
    return text.getvalue()


class Journal:
    """Keeps the log of one phase readable while it is trained.

    Parameters
    ----------
    folder : where ``log_NAME.tsv`` and, where TensorBoard is installed, ``tensorboard/NAME`` go
    name : of the phase
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.table = folder / f"log_{name}.tsv"
        self._board = _board(folder / "tensorboard" / name)

    def add(self, log: list[dict[str, Any]]) -> None:
        """Write the whole log, of which the last row is new; whoever reads the table finds whole rows only."""
        atomic_files.write_whole(self.table, log_tsv(log))
        if self._board is not None and log:
            for key, value in log[-1].items():
                if isinstance(value, float):
                    self._board.add_scalar(key, value, log[-1]["iteration"])
            self._board.flush()

    def close(self) -> None:
        """Nothing more is to come."""
        if self._board is not None:
            self._board.close()


def _board(folder: Path) -> Any:
    """A writer of TensorBoard's files, or None where it is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder))
