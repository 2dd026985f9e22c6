"""Console script ``bids-sr-models``: models, and super-resolution of single images and series.

Only the standard library is imported before a subcommand starts, so that ``--help`` responds at
once.
"""

import sys
from collections.abc import Sequence
from typing import Any

from bids_sr.cli.exit_codes import DONE, FAILED, run_program
from bids_sr.cli.messages import print_error
from bids_sr.cli.models.commands.options import (
    ApplyOptions,
    CompareOptions,
    ListOptions,
    ModelEvaluationOptions,
    RateOptions,
    SeriesOptions,
    TrainOptions,
)
from bids_sr.cli.options import Parser
from bids_sr.config import suggest_name
from bids_sr.config.section import OptionSection
from bids_sr.io.notices import InvalidInput, UsageError

_COMMANDS: dict[str, tuple[type[OptionSection], str]] = {
    "list": (ListOptions, "list methods and trained models, settings of methods, and model cards"),
    "train": (TrainOptions, "train a method on one or more images, or fine-tune a trained model"),
    "apply": (ApplyOptions, "super-resolve a NIfTI image or time series"),
    "series": (
        SeriesOptions,
        "super-resolve a single BOLD series with head-motion correction, and map its effects",
    ),
    "evaluate": (
        ModelEvaluationOptions,
        "score and correlate images with high-resolution references",
    ),
    "compare": (
        CompareOptions,
        "train methods or settings on some participants, and test them on the others",
    ),
    "rate": (
        RateOptions,
        "create a kit for blinded visual rating of structural scans, or score its sheets",
    ),
}
_DESCRIPTION = """\
Train, apply and evaluate super-resolution models independently of a BIDS dataset. Methods can be
trained on many images, applied to any NIfTI image and compared with high-resolution references.
To use a trained model for all runs of a BIDS dataset, run
bids-sr ... --sr-method METHOD --pretrained MODEL.safetensors
For research use only, not for clinical use.

commands:
""" + "\n".join(f"  {name:<12}{summary}" for name, (_, summary) in _COMMANDS.items())


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``bids-sr-models`` and return its exit code (`bids_sr.cli.exit_codes`)."""
    interrupted = "rerun the same command to resume an interrupted training"
    return run_program("bids-sr-models", _run, argv, interrupted=interrupted)


def _parse(arguments: Sequence[str]) -> Any:
    """Return the options of the subcommand that is the first argument."""
    command = arguments[0] if arguments else ""
    if command in _COMMANDS:
        (options,) = parsers()[command].options(arguments[1:])
        return options
    parser = Parser("bids-sr-models", _DESCRIPTION)
    parser.usage = "bids-sr-models COMMAND [options]"
    if not command or command.startswith("-"):  # prints the help or an error, and exits
        parser.add_argument("command", metavar="COMMAND", help="the subcommand to run")
        parser.parse_args(arguments)
    fix = suggest_name(command, _COMMANDS) or (
        "run bids-sr-models --help for the list of subcommands"
    )
    raise UsageError(command, "unknown subcommand", fix)


def parsers() -> dict[str, Parser]:
    """Return the parsers of all subcommands by name."""
    return {
        name: Parser(
            f"bids-sr-models {name}", f"{summary[0].upper()}{summary[1:]}.", options_class
        )
        for name, (options_class, summary) in _COMMANDS.items()
    }


def _run(arguments: Sequence[str]) -> int:
    """Run a subcommand and return the exit code."""
    options = _parse(arguments)
    if isinstance(options, RateOptions):  # the only subcommand that does not import torch
        from bids_sr.cli.models.commands.rate import rate

        rate(options)
        return DONE
    from bids_sr.cli.models.commands import apply, compare, evaluate, series, show, train
    from bids_sr.sr.networks.training.phase import OutOfDeviceMemory, TrainingDiverged

    try:
        match options:
            case ListOptions():
                show.list_models(options)
            case ApplyOptions():
                apply.apply(options)
            case SeriesOptions():
                series.super_resolve(options)
            case ModelEvaluationOptions():
                evaluate.evaluate(options)
            case CompareOptions():  # before TrainOptions, which is a base class
                compare.compare(options)
            case TrainOptions():
                train.train(options)
    except InvalidInput as error:
        raise UsageError.about(error) from error
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError) as error:
        raise UsageError(str(error)) from error
    except (OutOfDeviceMemory, TrainingDiverged) as error:
        print_error(f"bids-sr-models: {error}")
        return FAILED
    return DONE


if __name__ == "__main__":
    sys.exit(main())
