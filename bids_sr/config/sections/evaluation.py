"""Settings of the evaluation against high-resolution references."""

from pathlib import Path
from typing import Literal

from bids_sr.config import readers
from bids_sr.config.section import OptionSection, execution_option, option
from bids_sr.io.frozen import frozen

RetrospectiveOperator = Literal["kspace", "trilinear"]
"""Operator that downsamples runs and pairs for ``--retrospective``."""


@frozen
class Evaluation(OptionSection):
    """Settings of the evaluation against high-resolution references.

    A reference directory in `truth` excludes `retrospective`, which creates a reference. If
    `margin` is None, it is one tenth of the difference between B-spline interpolation and the
    measured series.
    """

    truth: str = execution_option(
        "auto",
        "--truth {auto,none,DIR}",
        "reference: dataset with the same runs at the high resolution, or with known activation."
        " auto: derivatives/highres-reference or derivatives/ground-truth, if available",
        type=readers.check_path,
    )
    retrospective: Literal["clean", "noisy"] | None = option(
        None,
        "--retrospective",
        "downsample the BOLD series by the super-resolution factor (default: 2),"
        " super-resolve the result and compare it with the original series. noisy: also add"
        " thermal noise up to the noise level of the original series (default: clean)",
        common="downsample the runs, and compare the super-resolved with the original series",
        nargs="?",
        const="clean",
    )
    retrospective_operator: RetrospectiveOperator = option(
        "kspace",
        help=(
            "downsampling by --retrospective: kspace (k-space is cropped in plane and slices are"
            " averaged, as by a scanner) or trilinear (interpolation at the centers of the new"
            " voxels without a filter, as in the authors' code of Pérez-Bueno et al. 2025)"
        ),
    )
    roi_grow: bool = option(
        False,
        help=("growth of the region of interest: to activation that crosses its border"),
    )
    margin: float | None = execution_option(
        None,
        help=(
            "equivalence margin of dimensionless metrics: at the group level, such as"
            " correlations (default, also for all other metrics: a tenth of the difference between"
            " B-spline interpolation and the acquired high-resolution series)"
        ),
        above=0,
    )
    group_permutations: int = execution_option(
        0,
        help=(
            "sign flips that correct group maps: for multiple comparisons (family-wise error"
            " rate, two-sided, of the maximum |t|), for example 5000 (default: no correction). At"
            " most 2^(n-1) are possible for n participants, so p = .05 requires 6 participants"
        ),
        least=0,
    )

    def _check(self) -> None:
        reason = (
            "with this option, the original series is the high-resolution reference, so a"
            " reference directory cannot be specified in evaluation.truth (--truth)"
        )
        self._need(self.truth_dir is None or self.retrospective is None, "retrospective", reason)
        reason = (
            "the noise to add is only known after a crop of k-space; set"
            " evaluation.retrospective=clean"
        )
        is_cropped = self.retrospective_operator == "kspace"
        self._need(is_cropped or self.retrospective != "noisy", "retrospective_operator", reason)

    @property
    def truth_dir(self) -> Path | None:
        """Reference directory; None if `truth` is ``auto`` or ``none``."""
        return None if self.truth in ("auto", "none") else Path(self.truth)
