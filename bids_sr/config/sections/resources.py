"""Settings of processors, memory, device and seed."""

from pathlib import Path
from typing import Literal

from bids_sr.config import readers
from bids_sr.config.section import OptionSection, execution_option, option
from bids_sr.io.frozen import frozen


@frozen
class Resources(OptionSection):
    """Resources of the machine.

    None means all processors, one thread per node, and the available memory. The plugin file
    `use_plugin` is described in `bids_sr.config.plugin`.
    """

    nprocs: int | None = execution_option(
        None,
        "--nprocs --n-procs --nthreads --n-cpus N",
        "maximum number of processors (default: all)",
        common="maximum number of processors (default: all)",
        least=1,
    )
    omp_nthreads: int | None = execution_option(
        None, "--omp-nthreads N", "maximum number of threads per step (default: 1)", least=1
    )
    mem_gb: float | None = execution_option(
        None,
        "--mem --mem-gb --mem-mb SIZE",
        "memory limit, such as 8G or 512M. A number without a unit is in GB, or in MB with"
        " --mem-mb (default: available memory)",
        common="memory limit, such as 8G (default: available memory)",
        action=readers.StoreMemory,
        type=str,
        above=0,
    )
    device: Literal["auto", "cpu", "cuda"] = execution_option(
        "auto", help="device for training and applying networks: auto, cpu or cuda"
    )
    random_seed: int = option(
        0, "--random-seed N", "seed for the random number generators", least=0, most=2**32 - 1
    )
    use_plugin: Path | None = execution_option(
        None,
        "--use-plugin --nipype-plugin-file FILE",
        "Nipype plugin file (YAML or TOML). With the SLURM plugin, each step is a job"
        " (default: steps run on this computer)",
        command_line_only=True,
    )

    def _check(self) -> None:
        fits = self.omp_nthreads is None or self.nprocs is None or self.omp_nthreads <= self.nprocs
        reason = (
            "the number of threads per step cannot be larger than the number of processors"
            f" (nprocs is {self.nprocs})"
        )
        self._need(fits, "omp_nthreads", reason)
