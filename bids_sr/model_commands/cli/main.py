"""Console script ``bids-sr-models``: list methods, and train, apply, evaluate and show models.

Only the standard library is imported before a subcommand starts, so that ``--help`` responds at
once.
"""

import sys
from collections.abc import Sequence

from bids_sr.cli.exit_codes import DONE, FAILED, run_program
from bids_sr.cli.messages import print_error
from bids_sr.cli.options import Parser
from bids_sr.cli.standard_streams import restart_in_utf8
from bids_sr.config import UsageError, suggest_name
from bids_sr.config.section import OptionSection
from bids_sr.model_commands.cli.options import (
    ApplyOptions,
    CardOptions,
    CompareOptions,
    CorrelateOptions,
    ListOptions,
    ModelEvaluationOptions,
    RateMakeOptions,
    RateScoreOptions,
    SearchOptions,
    TrainOptions,
    Vgg19Options,
)

_COMMANDS: dict[str, tuple[type[OptionSection], str]] = {
    "list": (ListOptions, "list the available methods, baselines and trained models"),
    "train": (TrainOptions, "train a method on one or more images, or fine-tune a trained model"),
    "search": (
        SearchOptions,
        "search the settings of a recipe and rank them by PSNR on held-out data",
    ),
    "apply": (ApplyOptions, "super-resolve a NIfTI image or time series"),
    "evaluate": (
        ModelEvaluationOptions,
        "compare super-resolved images with high-resolution references",
    ),
    "compare": (
        CompareOptions,
        "train methods on some participants and test them on the others",
    ),
    "correlate": (CorrelateOptions, "compute the voxelwise correlation between two images"),
    "card": (CardOptions, "show the training data and the scores of a trained model"),
    "rate-make": (RateMakeOptions, "create a kit for blinded visual rating of structural scans"),
    "rate-score": (RateScoreOptions, "score the completed rating sheets of a kit"),
    "vgg19": (Vgg19Options, "convert or download the VGG-19 weights that --recipe paper requires"),
}
_DESCRIPTION = """\
Train, apply and evaluate super-resolution models independently of a BIDS dataset. Methods can be
trained on many images, applied to any NIfTI image and compared with high-resolution references.
To use a trained model for all runs of a BIDS dataset, run
bids-sr ... --sr-method METHOD --pretrained MODEL.safetensors
For research use only, not for clinical use.

commands:
""" + "\n".join(f"  {name:<12}{about}" for name, (_, about) in _COMMANDS.items())


def parsers() -> dict[str, Parser]:
    """Return the parsers of all subcommands by name."""
    return {
        name: Parser(f"bids-sr-models {name}", f"{about[0].upper()}{about[1:]}.", kind)
        for name, (kind, about) in _COMMANDS.items()
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``bids-sr-models`` and return its exit code (`bids_sr.cli.exit_codes`).

    `argv` contains the command-line arguments; None means the arguments of the process.
    """
    if argv is None:
        restart_in_utf8()
    arguments = sys.argv[1:] if argv is None else argv
    interrupted = "rerun the same command to resume an interrupted training"
    return run_program("bids-sr-models", lambda: _run(arguments), interrupted=interrupted)


def _run(argv: Sequence[str]) -> int:
    """Run a subcommand and return the exit code."""
    command = argv[0] if argv else ""
    if command not in _COMMANDS:
        parser = Parser("bids-sr-models", _DESCRIPTION)
        parser.usage = "bids-sr-models COMMAND [options]"
        if not command or command.startswith("-"):
            parser.add_argument("command", metavar="COMMAND", help="the subcommand to run")
            parser.parse_args(argv)
        fix = suggest_name(command, _COMMANDS) or (
            "run bids-sr-models --help for the list of subcommands"
        )
        raise UsageError(command, "unknown subcommand", fix)
    options = parsers()[command].options(argv[1:], _COMMANDS[command][0])
    if isinstance(options, Vgg19Options):
        from bids_sr.model_commands.cli.vgg19 import install_vgg19

        return install_vgg19(options)
    if isinstance(options, RateMakeOptions | RateScoreOptions):
        from bids_sr.model_commands.cli import rate as models_rate

        if isinstance(options, RateMakeOptions):
            models_rate.make_kit(options)
        else:
            models_rate.score_sheets(options)
        return DONE
    from bids_sr.model_commands.cli import (
        apply as models_apply,
        compare as models_compare,
        correlate as models_correlate,
        evaluate as models_evaluate,
        search as models_search,
        show,
        train as models_train,
    )
    from bids_sr.model_commands.cli.model_files import REFUSALS
    from bids_sr.networks import OutOfDeviceMemory, TrainingDiverged

    try:
        match options:
            case ListOptions():
                show.list_models(options)
            case CardOptions():
                show.show_card(options)
            case ApplyOptions():
                models_apply.apply(options)
            case ModelEvaluationOptions():
                models_evaluate.evaluate(options)
            case CompareOptions():  # before TrainOptions, which is a base class
                models_compare.compare(options)
            case CorrelateOptions():
                models_correlate.correlate(options)
            case SearchOptions():  # before TrainOptions, which is a base class
                models_search.search(options)
            case TrainOptions():
                models_train.train(options)
    except REFUSALS as error:
        raise UsageError(str(error)) from error
    except (OutOfDeviceMemory, TrainingDiverged) as error:
        print_error(f"bids-sr-models: {error}")
        return FAILED
    return DONE


if __name__ == "__main__":
    sys.exit(main())
