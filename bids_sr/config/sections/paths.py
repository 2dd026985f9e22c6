"""Paths of a call: data, results, and working directory."""

from pathlib import Path

from bids_sr.config.section import HOW_IT_RUNS, OptionSection, argument, execution_option
from bids_sr.io.dataset_description import dataset_root
from bids_sr.io.earlier_files import EARLIER
from bids_sr.io.frozen import frozen

WORKFLOW = "bids_sr_wf"
"""Folder of the steps in the working directory."""


@frozen
class Paths(OptionSection):
    """Paths of data, results and working directory, which allows resuming a run."""

    bids_dir: Path = argument("bids_dir", "root directory of the BIDS dataset")
    output_dir: Path = argument("output_dir", "output directory for the derivatives")
    work_dir: Path | None = execution_option(
        None,
        "-w --work-dir DIR",
        "directory for intermediate results (default: ./work)",
        common="directory for intermediate results (default: ./work)",
        among=HOW_IT_RUNS,
    )

    @property
    def version_file(self) -> Path | None:
        """File with the version that computed the steps in the working directory.

        It is None if there is no working directory.
        """
        return None if self.work_dir is None else self.work_dir / WORKFLOW / "version.txt"

    @property
    def retrospective_dir(self) -> Path:
        """Data set with downsampled runs that ``--retrospective`` creates and processes."""
        return self.output_dir / "sourcedata" / "retrospective"

    @property
    def retrospective_truth_dir(self) -> Path:
        """Directory of the measured series, which are the reference for this data set."""
        return self.output_dir / "sourcedata" / "retrospective-truth"

    def list_participant_roots(self) -> list[Path]:
        """Return the directories whose ``sub-*`` folders contain files written by the program.

        These are the output directory and directories in it, which need not exist. Other folders
        of ``sourcedata``, such as ``raw``, belong to the user.
        """
        one_series = dataset_root(self.output_dir, "*")
        return [
            self.output_dir,
            self.output_dir / EARLIER,
            self.output_dir / "sourcedata" / "models",
            self.retrospective_dir,
            self.retrospective_truth_dir,
            *sorted(one_series.parent.glob(one_series.name)),
        ]
