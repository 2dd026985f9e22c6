"""Console script ``bids-sr-models``: list methods, and train, apply, evaluate and show models.

Only the standard library is imported before a subcommand starts, so that ``--help`` answers at
once.
"""

import argparse
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bids_sr.cli.interrupts import INTERRUPTED, interruptible
from bids_sr.cli.parser import Parser, hyphens
from bids_sr.config import UsageError, nearest_name
from bids_sr.config.readers import path
from bids_sr.io.atomic_files import FULL, DiskFullError, full_text
from bids_sr.series import INTERPOLATIONS
from bids_sr.sr.method import offered_methods
from bids_sr.version import __version__

DONE, FAILED, REFUSED = 0, 1, 2
_DESCRIPTION = """\
Models of super-resolution outside a run: list the methods, train one on many images, apply it to
any NIfTI image, evaluate it against a reference, read its card. A trained model then serves a
whole analysis:
bids-sr ... --sr-method METHOD --pretrained MODEL.safetensors
For research; not for clinical use."""
_DEGRADATIONS = ("kspace", "block", "gauss", "trilinear")


class _ModelsParser(Parser):
    """A parser that also suggests the nearest subcommand."""

    def _check_value(self, action: argparse.Action, value: object) -> None:
        if action.dest == "command" and value not in _COMMANDS:
            fix = nearest_name(str(value), _COMMANDS) or f"see {self.prog} --help"
            raise UsageError(str(value), "there is no such subcommand", fix)
        super()._check_value(action, value)


def build_parser() -> _ModelsParser:
    """Return the parser of ``bids-sr-models``; pure."""
    parser = _ModelsParser(
        prog="bids-sr-models",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"bids-sr {__version__}")
    commands = parser.add_subparsers(
        dest="command", metavar="COMMAND", required=True, parser_class=_ModelsParser
    )
    for name, (add, words) in _COMMANDS.items():
        add(
            commands.add_parser(
                name, help=words, description=f"{words[0].upper()}{words[1:]}.", allow_abbrev=False
            )
        )
    return parser


def _list(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "folder", nargs="*", type=path, metavar="DIR", help="folders with further trained models"
    )


def _card(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=path, metavar="MODEL", help="trained model (.safetensors)")
    parser.add_argument("--json", action="store_true", help="the whole card as JSON")


def _apply(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "model",
        metavar="MODEL",
        help=f"trained model (.safetensors), or one of {' '.join(INTERPOLATIONS)}",
    )
    add("image", type=path, metavar="IMAGE", help="NIfTI image or series to super-resolve")
    add(
        "out",
        type=path,
        metavar="OUT",
        help="NIfTI file to write; a JSON sidecar is written beside it",
    )
    _image(parser)
    _machine(parser)


def _evaluate(parser: argparse.ArgumentParser) -> None:
    add, source = parser.add_argument, parser.add_mutually_exclusive_group(required=True)
    add("reference", type=path, metavar="REFERENCE", help="measured fine image or series (NIfTI)")
    models = "trained models (.safetensors); all interpolations are always included"
    add("-m", "--model", nargs="+", action="extend", default=[], metavar="MODEL", help=models)
    coarse = "measured coarse image of the same field of view, registered"
    source.add_argument("--image", type=path, metavar="IMAGE", help=coarse)
    source.add_argument(
        "--degradation", choices=_DEGRADATIONS, help="how to downsample the reference"
    )
    add(
        "--made",
        type=path,
        nargs="+",
        default=(),
        metavar="FILE",
        help="fine images made elsewhere",
    )
    add(
        "--volumes",
        type=int,
        default=10,
        metavar="N",
        help="volumes of a series to score (default 10)",
    )
    add(
        "-o",
        "--out",
        type=path,
        metavar="TSV",
        help="also write the table to this file, with a JSON sidecar",
    )
    _image(parser)
    _machine(parser)


def _train(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("method", metavar="METHOD", help=f"one of {' '.join(offered_methods())}")
    parser.add_argument(
        "out",
        type=path,
        metavar="OUT",
        help="model to write: OUT.safetensors, OUT.json and OUT.tsv",
    )
    add = parser.add_argument_group(
        "images, in the same order; registered, with the same field of view"
    ).add_argument
    files: dict[str, Any] = {"nargs": "+", "type": path, "default": [], "metavar": "FILE"}
    add("--fine", **files, help="high-resolution images")
    coarse = (
        "measured low-resolution images, one for each fine one (otherwise made by the"
        " degradation); "
    )
    add("--coarse", **files, help=f"{coarse}alone for methods that need no fine image")
    add("--mask", **files, help="brain masks (default: computed)")
    add("--contrast", metavar="SUFFIX", help="BIDS suffix of all (default: from the file names)")
    add(
        "--volumes",
        type=int,
        default=10,
        metavar="N",
        help="random volumes of a series (default 10)",
    )
    add = parser.add_argument_group("how").add_argument
    add("--factor", type=float, nargs="+", metavar="F", help=_FACTOR_HELP)
    add(
        "--degradation",
        choices=_DEGRADATIONS,
        help="how to downsample fine images given alone (default: the method's)",
    )
    recipes = "default fast; paper-mse differs from paper for srgan alone"
    add("--recipe", choices=("fast", "paper", "paper-mse"), default="fast", help=recipes)
    add("--from", dest="start", type=path, metavar="MODEL", help="start from these weights")
    add("--train-last", type=int, metavar="N", help="change only the last N layers; with --from")
    add(
        "--vgg-weights",
        type=path,
        metavar="FILE",
        help="VGG-19 (.safetensors) for perceptual losses",
    )
    add("--max-minutes", type=float, metavar="MIN", help="limit of training time")
    add(
        "--seed",
        type=int,
        default=0,
        metavar="N",
        help="seed of weights, batches, augmentation (default 0)",
    )
    work = "checkpoints (default: OUT.work); an interrupted training resumes from there"
    add("-w", "--work-dir", type=path, metavar="DIR", help=work)
    _machine(parser)


_FACTOR_HELP = (
    "coarse over fine voxel size: one number for the axes in plane, or three (default: the"
    " model's, or 2)"
)


def _image(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--factor", type=float, nargs="+", metavar="F", help=_FACTOR_HELP)
    add(
        "--mask",
        type=path,
        metavar="FILE",
        help="brain mask on the grid of the image (default: computed)",
    )
    add("--contrast", metavar="SUFFIX", help="BIDS suffix of the image (default: from its name)")
    other = "apply a model to another resolution, contrast or orientation than it was trained on"
    add("--force", action="store_true", help=other)
    add("--precision", choices=("auto", "fp32", "bf16"), default="auto", help="auto is fp32")


def _machine(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--threads", type=int, default=1, metavar="N", help="threads of the network (default 1)"
    )
    parser.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default="auto", help="default auto"
    )


_COMMANDS: dict[str, tuple[Callable[[argparse.ArgumentParser], None], str]] = {
    "list": (_list, "list methods, baselines and trained models"),
    "train": (_train, "train a method on one or many images, or adapt a trained model"),
    "apply": (_apply, "super-resolve a NIfTI image or series"),
    "evaluate": (_evaluate, "compare super-resolved images with a reference"),
    "card": (_card, "show what a model was trained on, and what it reached"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``bids-sr-models``; return 0 if done, 1 failed, 2 refused, 130 interrupted."""
    try:
        with interruptible():
            return _run(sys.argv[1:] if argv is None else argv)
    except KeyboardInterrupt:
        _complain("interrupted; rerun the same command to resume training")
        return INTERRUPTED
    except SystemExit as stop:  # --help and --version end the parsing this way
        return stop.code if isinstance(stop.code, int) else DONE
    except UsageError as error:
        _complain(str(error))
        return REFUSED
    except BrokenPipeError:  # `bids-sr-models card MODEL | head`: the reader has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except Exception as error:
        return _failed(error)


def _run(argv: Sequence[str]) -> int:
    options = build_parser().parse_args(list(hyphens(argv)))
    from bids_sr.cli.models import models_apply, models_show, models_train

    {
        "list": models_show.list_models,
        "card": models_show.show_card,
        "apply": models_apply.apply,
        "evaluate": models_apply.evaluate,
        "train": models_train.train,
    }[options.command](options)
    return DONE


def _failed(error: Exception) -> int:
    """Say what went wrong; 2 for what was asked or given, 1 for what happened underway."""
    from bids_sr.cli.models.models_files import REFUSALS

    if isinstance(error, REFUSALS):
        _complain(str(error))
        return REFUSED
    if isinstance(error, OSError) and error.errno in FULL:
        place = Path(error.filename) if isinstance(error.filename, str) else Path.cwd()
        _complain(str(error) if isinstance(error, DiskFullError) else full_text(place))
        return FAILED
    from bids_sr.sr.training.phase import OutOfDeviceMemory, TrainingDiverged

    if not isinstance(error, OutOfDeviceMemory | TrainingDiverged):
        _complain(traceback.format_exc().rstrip())
    _complain(str(error) or type(error).__name__)
    return FAILED


def _complain(text: str) -> None:
    print(f"bids-sr-models: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
