"""Training checkpoints, and the log of a training while it goes on.

A checkpoint is a safetensors file; counters, random state and log are JSON in its header. The log
is a table beside it, and TensorBoard where that is installed.
"""

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from bids_sr.io import atomic_files

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter as Board


def flatten_optimizer(optimizer: torch.optim.Optimizer, prefix: str) -> dict[str, Tensor]:
    """The optimizer's moments under names like ``prefix.3.exp_avg``.

    Tensors by name; empty before the first step.
    """
    state = optimizer.state_dict()["state"]
    return {
        f"{prefix}.{i}.{key}": torch.as_tensor(value)
        for i, row in state.items()
        for key, value in row.items()
    }


def restore_optimizer(
    optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor], prefix: str
) -> None:
    """Put the moments of `flatten_optimizer` back."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        if name.startswith(prefix + "."):
            _, index, key = name.rsplit(".", 2)
            state.setdefault(int(index), {})[key] = value.clone()
    optimizer.load_state_dict(
        {"state": state, "param_groups": optimizer.state_dict()["param_groups"]}
    )


def write_checkpoint(
    path: Path, tensors: Mapping[str, Tensor], values: Mapping[str, object]
) -> None:
    """Write tensors and JSON values to one file, whole or not at all; raises DiskFullError.

    `values`: counters, random state and log, all fit for JSON.
    """
    from safetensors.torch import save

    copies = {key: value.detach().cpu().contiguous().clone() for key, value in tensors.items()}
    # safetensors' own errors do not say that the disk is full
    atomic_files.write_bytes(path, save(copies, metadata={"values": json.dumps(values)}))


def read_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, object]] | None:
    """Return (tensors, values), or None without a checkpoint.

    ValueError names a file that is damaged.

    `CheckpointError`: the file is no checkpoint, or is damaged. Tensors on the CPU and JSON
    values, each by name; None without a file.
    """
    from safetensors import SafetensorError, safe_open

    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as stream:
            values = json.loads((stream.metadata() or {})["values"])
            return {key: stream.get_tensor(key) for key in stream.keys()}, values  # noqa: SIM118 - not a mapping
    except (SafetensorError, KeyError, json.JSONDecodeError) as error:
        raise ValueError(f"{path}: not a checkpoint ({error})") from error


LogRow = Mapping[str, str | float]
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


def log_tsv(log: Iterable[LogRow]) -> str:
    """Return the training log as TSV, n/a for absent values, terms not in all methods last.

    `log`: rows of the log of training, in order.
    """
    rows = list(log)
    columns = (
        *_LOG_COLUMNS,
        *dict.fromkeys(key for row in rows for key in row if key not in _LOG_COLUMNS),
    )
    text = io.StringIO()
    table = csv.writer(text, delimiter="\t", lineterminator="\n")
    table.writerow(columns)
    for row in rows:
        cells = (row.get(column, "n/a") for column in columns)
        table.writerow([f"{cell:.6g}" if isinstance(cell, float) else cell for cell in cells])
    return text.getvalue()


class Journal:
    """Log of one phase.

    It goes to ``log_NAME.tsv`` and, where TensorBoard is installed, ``tensorboard/NAME`` in a
    folder.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.table = folder / f"log_{name}.tsv"
        self._board: Board | None = None
        with suppress(ImportError):
            from torch.utils.tensorboard import SummaryWriter

            self._board = SummaryWriter(str(folder / "tensorboard" / name))

    def add(self, log: Sequence[LogRow]) -> None:
        """Write the whole log, of which the last row is new.

        `log`: rows of the log of training, in order.
        """
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
