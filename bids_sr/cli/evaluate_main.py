"""Console script `bids-sr-evaluate`: comparison of a series from another program with the run.

The result is whether the series is more accurate than the acquired run.
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bids_sr.cli.exit_codes import DONE, run_program
from bids_sr.cli.options import Parser
from bids_sr.cli.standard_streams import restart_in_utf8
from bids_sr.config import UsageError, readers
from bids_sr.config.section import OptionSection, argument, option
from bids_sr.config.values import split_named
from bids_sr.frozen import frozen

if TYPE_CHECKING:
    from bids_sr.api.evaluator import Evaluator

_DESCRIPTION = """\
Evaluate series that other programs have computed from a BOLD run, for example by denoising
(NORDIC, tedana) or upsampling. The evaluation shows whether each series is more accurate than the
acquired series, at which spatial frequencies, and by how much."""
_EPILOG = """\
Accuracy is assessed relative to a reference, which is specified with --truth or --other-run.
Without a reference, the verdict is 'not assessed'.
Exit codes: 0 if the evaluation was completed, 2 if the command line or an input is invalid."""


@frozen
class _SeriesEvaluationOptions(OptionSection):
    """Options of ``bids-sr-evaluate``."""

    acquired: Path = argument("ACQUIRED", "acquired BOLD series (4D NIfTI)")
    compared: tuple[str, ...] = argument(
        "NAME=FILE",
        "series computed from the acquired series, on the acquired grid or on a"
        " higher-resolution grid",
        type=readers.parse_named_file,
    )
    events: Path = argument(
        "--events TSV", "BIDS events file with the columns onset, duration and trial_type"
    )
    truth: tuple[str, ...] = option(
        (),
        "--truth FILE",
        "reference: the same run measured at high resolution, or a map of known activation"
        " as CONTRAST=FILE",
    )
    other_run: Path | None = option(
        None,
        "--other-run FILE",
        "another acquired run of the same task, used as an independent reference",
    )
    other_events: Path | None = option(
        None, "--other-events TSV", "BIDS events file of the other run"
    )
    factor: tuple[float, ...] = option(
        (2.0,),
        "--factor N",
        "super-resolution factor (acquired voxel size divided by high-resolution voxel"
        " size): one number (in plane) or three numbers (x, y, across slices)",
    )
    tr: float | None = option(
        None, "--tr S", "repetition time in seconds (default: from the NIfTI header)"
    )
    mask: Path | None = option(
        None, "--mask FILE", "brain mask on the acquired grid (default: computed from the series)"
    )
    contrasts: tuple[str, ...] = option(
        (),
        "--contrasts EXPR",
        "contrasts to evaluate, in the syntax and with the defaults of bids-sr --contrasts",
    )
    n_dummy: int | None = option(
        None,
        "--n-dummy N",
        "number of non-steady-state volumes at the start of the run"
        " (default: detected automatically)",
    )
    start_time: float | None = option(
        None,
        "--start-time S",
        "reference time of slice-timing correction, in seconds after the start of each"
        " volume (default: the middle of the TR)",
        least=0,
    )
    random_seed: int = option(0, "--random-seed N", "random seed for block resampling")
    dry_run: bool = option(False, "--dry-run", "check all inputs without evaluating the series")
    out: Path | None = option(
        None, "--out DIR", "output directory for verdict.json, evaluation.tsv and report.html"
    )

    def _check(self) -> None:
        self._need(len(self.factor) in (1, 3), "factor", "expected one or three numbers")
        names = [split_named(text)[0] for text in self.compared]
        self._need(
            len(set(names)) == len(names), "compared", "each series must have a unique name"
        )
        if (self.other_run is None) != (self.other_events is None):
            raise UsageError(
                "--other-run, --other-events",
                "--other-run and --other-events must be specified together",
                "specify both options",
            )
        reason = "expected one measured series, or known activation as CONTRAST=FILE"
        self._need("" not in self.known or len(self.truth) == 1, "truth", reason)

    @property
    def known(self) -> dict[str, str]:
        """Reference file by contrast, with key "" for a measured series.

        Text that is an existing file is not split at "=".
        """
        return dict(
            ("", text) if Path(text).exists() else split_named(text) for text in self.truth
        )


def build_parser() -> Parser:
    """Return the parser of ``bids-sr-evaluate``."""
    parser = Parser("bids-sr-evaluate", _DESCRIPTION, _SeriesEvaluationOptions)
    parser.epilog = _EPILOG
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``bids-sr-evaluate`` and return its exit code.

    `argv` contains the command-line arguments; None means the arguments of the process. The exit
    code is 0 if the evaluation is complete, and 2 for invalid input.
    """
    if argv is None:
        restart_in_utf8()
    arguments = sys.argv[1:] if argv is None else argv
    return run_program(
        "bids-sr-evaluate", lambda: _run(arguments), interrupted="no files were written"
    )


def _run(argv: Sequence[str]) -> int:
    """Evaluate the series, print a line per series, and write the requested outputs."""
    options = build_parser().options(argv, _SeriesEvaluationOptions)
    from bids_sr.api.image_inputs import ImageInputError
    from bids_sr.glm.blocks import TooFewBlocks
    from bids_sr.glm.regressors import DesignError
    from bids_sr.io.nifti import ImageError

    try:
        evaluator = _fit_evaluator(options)
    except (
        ImageInputError,
        TooFewBlocks,
        UsageError,
        DesignError,
        ImageError,
        OSError,
    ) as error:
        raise UsageError(str(error)) from error
    if evaluator is None:
        print("All inputs are valid.")
        return DONE
    for result in evaluator.compared_:
        print(result["text"])
    if options.out is not None:
        _write_results(evaluator, options.out)
        print(f"Results were written to {options.out}")
    return DONE


def _fit_evaluator(options: _SeriesEvaluationOptions) -> "Evaluator | None":
    """Return the fitted evaluator, or None for a dry run, which only checks the inputs."""
    from bids_sr.api.evaluation_inputs import check_names
    from bids_sr.api.evaluator import Evaluator
    from bids_sr.api.image_inputs import open_series, working_folder
    from bids_sr.api.run_inputs import RunInputs

    class OfCommand(Evaluator):
        _audience, _report_name = "command", "bids-sr-evaluate"

    in_plane, *other_factors = options.factor
    y, slice_factor = other_factors or (in_plane, 1.0)
    evaluator = OfCommand(
        factor=(in_plane, y, slice_factor) if other_factors else in_plane,
        tr=options.tr,
        contrasts=options.contrasts,
        random_state=options.random_seed,
        n_dummy="auto" if options.n_dummy is None else options.n_dummy,
        start_time=options.start_time,
        verbose=1,
    )
    inputs = RunInputs(
        events=options.events,
        mask=options.mask,
        truth=_find_truth(options),
        other_run=options.other_run,
        other_events=options.other_events,
    )
    compared = dict(map(split_named, options.compared))
    if not options.dry_run:
        return evaluator.fit(
            options.acquired,
            compared=compared,
            events=inputs.events,
            mask=inputs.mask,
            truth=inputs.truth,
            other_run=inputs.other_run,
            other_events=inputs.other_events,
        )
    check_names({}, (), compared)
    with (
        working_folder() as folder,
        open_series(options.acquired, folder, "acquired", any_order=True) as reader,
    ):
        evaluator._check_inputs(reader, compared, inputs, folder)
    return None


def _find_truth(options: _SeriesEvaluationOptions) -> "str | Mapping[str, str] | None":
    """Return the measured series, or known activation by contrast; None without a reference."""
    known = options.known
    return known.get("", known) if known else None


def _write_results(evaluator: "Evaluator", out: Path) -> None:
    """Write verdict, table and report to a folder."""
    from bids_sr.io.atomic_files import write_json, write_text

    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "verdict.json", {"compared": evaluator.compared_})
    write_text(
        out / "evaluation.tsv", evaluator.table_.to_csv(sep="\t", index=False, na_rep="n/a")
    )
    evaluator.generate_report().save_as_html(out / "report.html")
