"""Training checkpoints, stored in a safetensors file per phase.

Its header contains counters, random state and log as JSON.
"""

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from bids_sr.io import atomic_files


def flatten_optimizer(optimizer: torch.optim.Optimizer, prefix: str) -> dict[str, Tensor]:
    """Return the moments of an optimizer by name, such as ``prefix.3.exp_avg``.

    The dictionary is empty before the first step.
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
    """Restore the moments returned by `flatten_optimizer`."""
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
    """Write tensors and JSON values to a file, completely or not at all.

    `values` contains counters, random state and log. DiskFullError is raised if the disk is full.
    """
    from safetensors.torch import save

    copies = {key: value.detach().cpu().contiguous().clone() for key, value in tensors.items()}
    # safetensors' own writer does not report a full disk
    atomic_files.write_bytes(path, save(copies, metadata={"values": json.dumps(values)}))


def read_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, object]] | None:
    """Return tensors (on the CPU) and values of a checkpoint, or None if there is none.

    ValueError is raised if the file is damaged or not a checkpoint.
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
