"""Training checkpoints: a safetensors file per phase.

Counters, random state and log are JSON in its header.
"""

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from bids_sr.io import atomic_files


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

    ValueError names a file that is no checkpoint or damaged. The tensors are on the CPU.
    """
    from safetensors import SafetensorError, safe_open

    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as stream:
            values = json.loads((stream.metadata() or {})["values"])
            return {key: stream.get_tensor(key) for key in stream.keys()}, values  # noqa: SIM118 - not a mapping
    except (SafetensorError, KeyError, json.JSONDecodeError) as error:
        raise ValueError(f"{path}: the file is not a valid checkpoint ({error})") from error
