"""What the workflows of a run have to know, as frozen plain values; `bids_sr.workflows.base` fills them in."""

from collections.abc import Mapping
from dataclasses import dataclass

Factor = tuple[float, float, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """Where results go and what they are called.

    Attributes
    ----------
    output_dir : root of the derivatives
    common : entities of the run (long names)
    sources : BIDS URIs of the BOLD series
    task_name : TaskName of the run
    dtype : stored type of series
    template : name of the space that the anatomical stage registers to, or "" without a T1w image
    spaces : output spaces for the statistical maps
    """

    output_dir: str
    common: Mapping[str, str]
    sources: tuple[str, ...]
    task_name: str
    dtype: str
    template: str = ""
    spaces: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Acquisition:
    """How one run was acquired.

    Attributes
    ----------
    tr : repetition time (s)
    mem_gb : size of the series as float32 (GB)
    factor : low-resolution over high-resolution voxel size, by axis
    n_dummy : volumes before the steady state; None to detect them
    slice_times : seconds from the start of the volume, one a slice; None to leave slice timing alone
    slice_time_ref : moment within the TR to which slices are brought, as a fraction
    """

    tr: float
    mem_gb: float
    factor: Factor
    n_dummy: int | None
    slice_times: tuple[float, ...] | None
    slice_time_ref: float


@dataclass(frozen=True, kw_only=True, slots=True)
class SeriesPlan:
    """Which series are made of a run besides ``raw``.

    Attributes
    ----------
    names : in the order of the tables
    models, guided : those of them that need a trained model, or the highres image at inference
    data_consistency, precision, device : see the command line
    """

    names: tuple[str, ...]
    models: tuple[str, ...]
    guided: tuple[str, ...]
    data_consistency: str
    precision: str
    device: str

    @property
    def every(self) -> tuple[str, ...]:
        """``raw`` and all the others."""
        return ("raw", *self.names)


@dataclass(frozen=True, kw_only=True, slots=True)
class ActivationPlan:
    """What is mapped, and how; see `bids_sr.workflows.activation.init_activation_wf`."""

    contrasts: Mapping[str, Mapping[str, float]]
    kinds: tuple[str, ...]
    smoothing: tuple[float, ...]
    low_pass: float | None
    high_pass: float
    thresholds: tuple[str, ...]
