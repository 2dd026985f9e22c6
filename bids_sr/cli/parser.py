"""The command line of ``bids-sr``: what it accepts, and how it becomes `Settings`.

Only the standard library is imported, so that ``--help`` answers at once. Defaults and choices are read from the
settings themselves: they have one home.
"""

import argparse
import dataclasses
import os
import re
import typing
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

from bids_sr import __version__
from bids_sr.config import PAPER_SMOOTHING_MM, Settings, UsageError, method_names, nearest_name, read_toml

DESCRIPTION = """\
Super-resolution of fMRI, trained on the participant's own pair of T2*-weighted images, as a BIDS-App:
activation maps of the acquired, the interpolated and the super-resolved series side by side.
For research; not for clinical use."""

GIGABYTES = {"k": 1 / 2**20, "m": 1 / 2**10, "g": 1.0, "t": 2.0**10}


def gigabytes(text: str) -> float:
    """Read a size of memory in GB: ``8``, ``8G``, ``1.5 GB``, ``512M``, ``2000MiB``; a bare number is in GB."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?|\.\d+)\s*(?:([kmgt])(?:i?b)?)?", text.strip().lower())
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no size of memory; write it as 8, 8G or 512M")
    return float(match[1]) * GIGABYTES[match[2] or "g"]


def path(text: str) -> Path:
    """Read a path; an empty one, as an unset variable of a shell leaves it, would mean the current directory."""
    if not text:
        raise argparse.ArgumentTypeError("the path is empty")
    return Path(text)


def run_number(text: str) -> int:
    """Read the number of a run: ``1``, ``01``, ``run-01``."""
    digits = text.removeprefix("run-")
    if not (digits.isascii() and digits.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r} is no run; write it as 1 or run-1")
    return int(digits)


def widths(text: str) -> tuple[float, ...]:
    """Read a smoothing width: mm FWHM, or ``paper`` for the two readings of the paper's sigma."""
    if text == "paper":
        return PAPER_SMOOTHING_MM
    try:
        return (float(text),)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no width; give millimetres (FWHM), or paper") from None


def frequency(text: str) -> float | None:
    """Read a cut-off in Hz; ``none`` switches the filter off."""
    if text == "none":
        return None
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no frequency; give Hz, or none") from None


class _Flatten(argparse.Action):
    """Collect values of which each may stand for several."""

    def __call__(self, parser: Any, namespace: argparse.Namespace, values: Any, option_string: Any = None) -> None:
        before = getattr(namespace, self.dest, ())
        setattr(namespace, self.dest, (*before, *(item for several in values for item in several)))


class Parser(argparse.ArgumentParser):
    """A parser that refuses by `UsageError`, with the nearest option that there is, and never ends the process."""

    def error(self, message: str) -> NoReturn:
        fix = f"see {self.prog} --help"
        unknown = re.match(r"unrecognized arguments: .*?(--\S+)", message)
        if unknown:
            flags = [flag for action in self._actions for flag in action.option_strings]
            fix = nearest_name(unknown[1].split("=")[0], flags) or fix
        elif message.startswith("the following arguments are required"):
            fix = f"put these first: {self.prog} bids_dir output_dir participant [options]"
        raise UsageError(message, "the command line is not understood", fix)


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        return " ".join(map(_shown, value))
    return f"{value:.3g}" if isinstance(value, float) else str(value)


class _Options:
    """Adds options whose default and choices are those of the setting that they fill."""

    def __init__(self, parser: Parser, title: str) -> None:
        self.group = parser.add_argument_group(title)

    def __call__(self, *flags: str, to: str, help: str, **how: Any) -> None:
        section, name = to.split(".")
        cls = typing.get_type_hints(Settings)[section]
        default = next(item.default for item in dataclasses.fields(cls) if item.name == name)
        hint = typing.get_type_hints(cls)[name]
        if "action" not in how or how.get("nargs"):
            inner = typing.get_args(hint)[0] if typing.get_origin(hint) is tuple else hint
            if typing.get_origin(inner) is typing.Literal:
                how.setdefault("choices", typing.get_args(inner))
            if isinstance(default, tuple):
                how.setdefault("nargs", "+")
                how.setdefault("action", "extend")
            if default not in (None, ()):
                help = f"{help} (default: {_shown(default)})"
        self.group.add_argument(*flags, dest=to, help=help, **how)


def build_parser() -> Parser:
    """Return the parser of ``bids-sr``; pure: nothing is read, asked or changed. Absent options leave no value."""
    parser = Parser(
        prog="bids-sr",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
    )
    parser.add_argument("paths.bids_dir", metavar="bids_dir", type=path, help="root of the BIDS data set")
    parser.add_argument("paths.output_dir", metavar="output_dir", type=path, help="where the derivatives go")
    parser.add_argument(
        "selection.analysis_level",
        metavar="{participant,group}",
        choices=("participant", "group"),
        help="participant; the group level is not part of this version",
    )
    parser.add_argument("--version", action="version", version=f"bids-sr {__version__}")
    _selection(_Options(parser, "which data"))
    _superres(_Options(parser, "super-resolution"))
    _preprocessing(_Options(parser, "preprocessing"))
    _activation(_Options(parser, "activation"))
    _resources(_Options(parser, "resources"))
    _run(_Options(parser, "how it runs"))
    return parser


def _selection(add: _Options) -> None:
    add("--participant-label", to="selection.participant_label", metavar="LABEL", help="participants (default: all)")
    add("--session-label", to="selection.session_label", metavar="LABEL", help="sessions (default: all)")
    add("-t", "--task-id", to="selection.task_id", metavar="TASK", help="tasks (default: all)")
    add("--run-id", to="selection.run_id", metavar="N", type=run_number, help="runs (default: all)")
    add(
        "--bids-filter-file",
        to="selection.bids_filter_file",
        metavar="FILE",
        type=path,
        help="JSON with pybids filters for bold, t2starw, t1w",
    )
    add(
        "--bids-database-dir",
        to="selection.bids_database_dir",
        metavar="DIR",
        type=path,
        help="where pybids keeps its index of a large data set",
    )
    add(
        "--skip-bids-validation",
        to="selection.skip_bids_validation",
        action="store_true",
        help="do not run the BIDS validator on the input",
    )
    add(
        "--dry-run",
        to="run.dry_run",
        action="store_true",
        help="show what would run, with estimates of time, memory and disk, and stop",
    )


def _superres(add: _Options) -> None:
    names = ", ".join(method_names())
    add(
        "--sr-method",
        to="superres.methods",
        metavar="NAME",
        help=f"methods that learn ({names}), or baselines alone where there is no T2*w pair",
    )
    add(
        "--baselines",
        to="superres.baselines",
        help="interpolations beside the methods: bspline zerofill inject ratio; all adds nearest linear lanczos",
    )
    add(
        "--sr-factor",
        to="superres.factor",
        metavar="F",
        type=float,
        help="ratio of voxel sizes in plane (default: that of the pair)",
    )
    add("--hr-acq", to="superres.hr_acq", metavar="LABEL", help="acq- label of the highres T2*w image")
    add("--lr-acq", to="superres.lr_acq", metavar="LABEL", help="acq- label of the lowres T2*w image")
    add("--recipe", to="superres.recipe", help="fast: minutes on two cores; paper: as published, days")
    add("--model-source", to="superres.model_source", help="auto takes what --model-dir has of the same pair")
    add("--model-dir", to="superres.model_dir", metavar="DIR", type=path, help="folder with trained models")
    add(
        "--pretrained",
        to="superres.pretrained",
        metavar="FILE",
        type=path,
        help="use this .safetensors model and train none",
    )
    add(
        "--vgg-weights",
        to="superres.vgg_weights",
        metavar="FILE",
        type=path,
        help="VGG-19 weights (.safetensors) that switch the perceptual loss on",
    )
    add(
        "--max-train-minutes",
        to="superres.max_train_minutes",
        metavar="MIN",
        type=float,
        help="stop training on the clock; the model is then marked as not reproducible",
    )
    add(
        "--data-consistency",
        to="superres.data_consistency",
        help="compare each output, brought down again, with what was acquired; enforce corrects it",
    )
    add("--precision", to="superres.precision", help="arithmetic of inference; auto is fp32")
    add(
        "--force",
        to="superres.force",
        action="store_true",
        help="apply a model to a resolution or orientation that it was not trained for",
    )


def _preprocessing(add: _Options) -> None:
    add(
        "--dummy-scans",
        to="preprocessing.dummy_scans",
        metavar="N",
        type=int,
        help="volumes before the steady state (default: detected)",
    )
    add(
        "--slice-time-ref",
        to="preprocessing.slice_time_ref",
        metavar="FRACTION",
        type=float,
        help="moment of the TR to which slices are brought",
    )
    add("--ignore", to="preprocessing.ignore", help="steps that are left out")
    add(
        "--output-spaces",
        to="preprocessing.output_spaces",
        metavar="SPACE",
        help="templates in which the statistical maps are given too, such as MNI152NLin2009aSym",
    )
    add("--output-dtype", to="preprocessing.output_dtype", help="type of the stored series")


def _activation(add: _Options) -> None:
    add(
        "--contrasts",
        to="activation.contrasts",
        metavar="EXPR",
        help="thumb, thumb-little, all, name=0.5*a-0.5*b (default: each trial type, all, and pairs of up to three)",
    )
    add("--activation", to="activation.kinds", help="cross-correlation with the design, general linear model")
    add(
        "--smoothing",
        to="activation.smoothing",
        metavar="MM",
        type=widths,
        action=_Flatten,
        nargs="+",
        help="FWHM in mm, 0 for none; paper stands for 3.5 13.2",
    )
    add(
        "--low-pass",
        to="activation.low_pass",
        metavar="HZ",
        type=frequency,
        help="cut-off of the cross-correlation path, or none",
    )
    add(
        "--high-pass",
        to="activation.high_pass",
        metavar="HZ",
        type=float,
        help="slower changes are drift to the linear model",
    )
    add("--roi", to="activation.roi", metavar="{motor,brain,FILE}", help="where regions are measured")
    add(
        "--threshold",
        to="activation.thresholds",
        metavar="{quarter,fdr,Z}",
        help="regions: upper quarter of the range, false discovery rate .05, or a value of z",
    )


def _resources(add: _Options) -> None:
    add("--nprocs", "--n-cpus", to="resources.nprocs", metavar="N", type=int, help="processors (default: all)")
    add(
        "--omp-nthreads",
        to="resources.omp_nthreads",
        metavar="N",
        type=int,
        help="threads of one step (default: 1; steps run side by side)",
    )
    add("--mem", "--mem-gb", to="resources.mem_gb", metavar="SIZE", type=gigabytes, help="8, 8G, 512M (default: free)")
    add("--device", to="resources.device", help="where networks run")
    add("--random-seed", to="resources.random_seed", metavar="N", type=int, help="seed of all that is drawn")


def _run(add: _Options) -> None:
    add("-w", "--work-dir", to="paths.work_dir", metavar="DIR", type=path, help="intermediate files (default: ./work)")
    add(
        "--config-file",
        to="run.config_file",
        metavar="FILE",
        type=path,
        help="settings.toml of an earlier run; the command line has precedence",
    )
    add("--boilerplate-only", to="run.boilerplate_only", action="store_true", help="write the methods text and stop")
    add("--reports-only", to="run.reports_only", action="store_true", help="make the report of finished outputs again")
    add(
        "--stop-on-first-crash",
        to="run.stop_on_first_crash",
        action="store_true",
        help="do not go on with steps that could still run",
    )
    add("--resource-monitor", to="run.resource_monitor", action="store_true", help="log memory and processor use")
    add("--write-graph", to="run.write_graph", action="store_true", help="write the graph of steps to the logs")
    add("--sloppy", to="run.sloppy", action="store_true", help="low quality, for tests only")
    add("-v", "--verbose", to="run.verbosity", action="count", help="tell more; may be given twice")


def _hyphens(tokens: Sequence[str]) -> Iterator[str]:
    """Yield the tokens with underscores in the names of long options turned to hyphens."""
    for token in tokens:
        name, equals, value = token.partition("=")
        yield name.replace("_", "-") + equals + value if name.startswith("--") else token


def parse_settings(argv: Sequence[str]) -> Settings:
    """Return the settings that a command line asks for, merged with ``--config-file``, which yields to it.

    Raises `UsageError` for anything that is not understood, and SystemExit after ``--help`` and ``--version``.
    """
    parser = build_parser()
    given = vars(parser.parse_args(list(_hyphens(argv))))
    if given["selection.analysis_level"] == "group":
        raise UsageError(
            "analysis level 'group'",
            "the group level is not part of this version",
            "run the participant level; each participant's metrics are tables that can be joined",
        )
    values: dict[str, dict[str, Any]] = {}
    if "run.config_file" in given:
        values = read_toml(Path(os.path.expanduser(given["run.config_file"])), reusable_only=True)
    for key, value in given.items():
        section, name = key.split(".")
        values.setdefault(section, {})[name] = value
    try:
        return Settings.from_mapping(values)
    except UsageError as error:
        flags = {action.dest: action.option_strings[-1] for action in parser._actions if action.option_strings}
        key = error.what.partition(":")[0]
        if key in given and key in flags:
            raise UsageError(error.what.replace(key, flags[key], 1), error.why, error.fix) from None
        raise
