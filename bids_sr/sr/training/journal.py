"""The log of a training while it goes on: a table beside the checkpoint, and TensorBoard where it is installed."""

import csv
import io
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from bids_sr.io import atomic_files

LOG_COLUMNS = ("phase", "iteration", "loss", "content", "adversarial", "perceptual", "critic", "learning_rate", "psnr")


def log_tsv(log: Iterable[Mapping[str, Any]]) -> str:
    """The training log as TSV; n/a where a row has no such value. Terms that not every method has come last."""
    rows = list(log)
    columns = (*LOG_COLUMNS, *dict.fromkeys(key for row in rows for key in row if key not in LOG_COLUMNS))
    text = io.StringIO()
    table = csv.writer(text, delimiter="\t", lineterminator="\n")
    table.writerow(columns)
    for row in rows:
        cells = (row.get(column, "n/a") for column in columns)
        table.writerow([f"{cell:.6g}" if isinstance(cell, float) else cell for cell in cells])
    return text.getvalue()


class Journal:
    """The log of one phase: ``log_NAME.tsv`` and, where TensorBoard is installed, ``tensorboard/NAME`` in a folder."""

    def __init__(self, folder: Path, name: str) -> None:
        self.table = folder / f"log_{name}.tsv"
        self._board: Any = None
        with suppress(ImportError):
            from torch.utils.tensorboard import SummaryWriter

            self._board = SummaryWriter(str(folder / "tensorboard" / name))

    def add(self, log: list[dict[str, Any]]) -> None:
        """Write the whole log, of which the last row is new."""
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
