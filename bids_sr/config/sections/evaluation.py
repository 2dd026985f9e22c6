"""Settings of the evaluation against high-resolution references and negative controls."""

from pathlib import Path
from typing import Literal

from bids_sr.config import readers
from bids_sr.config.section import OptionSection, option
from bids_sr.frozen import frozen


@frozen
class Evaluation(OptionSection):
    """Settings of the evaluation against high-resolution references and negative controls.

    A reference directory in `truth` excludes `retrospective`, which creates a reference. If
    `margin` is None, it is one tenth of the difference between B-spline interpolation and the
    measured series.
    """

    truth: str = option(
        "auto",
        "--truth {auto,none,DIR}",
        "reference: dataset with the same runs at the high resolution, or with known activation."
        " auto: derivatives/highres-reference or derivatives/ground-truth, if available",
        affects_results=False,
        type=readers.check_path,
    )
    retrospective: Literal["clean", "noisy"] | None = option(
        None,
        "--retrospective",
        "downsample the BOLD series by the super-resolution factor (default: 2), super-resolve it"
        " and compare the result with the original series. noisy: also restore the thermal noise"
        " of the original series (default: clean)",
        common="downsample the runs, and compare the super-resolved with the original series",
        nargs="?",
        const="clean",
    )
    compare: tuple[str, ...] = option(
        (),
        "--compare NAME=FILE",
        "evaluate a series of another program in the space of the run (space-boldref), to test"
        " whether it is more accurate than the acquired series: NORDIC=FILE, or tedana=DIR or"
        " tedana=DIR:desc-LABEL for BIDS derivatives. Append :corrected if the series was"
        " corrected for head motion: fMRIPrep=FILE:corrected",
        affects_results=False,
        type=readers.check_named_file,
    )
    null_checks: bool = option(
        False,
        "--null-checks",
        "run negative controls (placebos) that replace one input of each method",
        affects_results=False,
    )
    roi_grow: bool = option(
        False,
        help=(
            "growth of the region of interest: extend the region to activation that crosses its"
            " border"
        ),
    )
    margin: float | None = option(
        None,
        help=(
            "equivalence margin of dimensionless metrics: at the group level (default, and for all"
            " other metrics: a tenth of the difference between B-spline interpolation and the"
            " measured series)"
        ),
        affects_results=False,
        above=0,
    )
    group_permutations: int = option(
        0,
        help=(
            "sign flips that correct group maps: for multiple comparisons (family-wise error rate"
            " of the maximum |t|, two-sided), such as 5000 (default: no correction). p = .05"
            " requires at least 6 participants"
        ),
        affects_results=False,
        least=0,
    )

    def _check(self) -> None:
        reason = (
            "with this option, the original series is the high-resolution reference, so a"
            " reference directory cannot be specified in evaluation.truth (--truth)"
        )
        self._need(self.truth_dir is None or self.retrospective is None, "retrospective", reason)
        reason = (
            "series of other programs cannot be compared with a downsampled run; omit"
            " evaluation.retrospective"
        )
        self._need(not self.compare or self.retrospective is None, "compare", reason)

    @property
    def truth_dir(self) -> Path | None:
        """Reference directory; None if `truth` is ``auto`` or ``none``."""
        return None if self.truth in ("auto", "none") else Path(self.truth)
