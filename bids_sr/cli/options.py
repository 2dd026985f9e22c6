"""Options of ``bids-sr``, group by group, and how the text of each becomes a value.

Only the standard library is imported. Each option stands here once, by its flags, the setting that it fills and its
help; its default, choices and kind of value are those of the setting.
"""

import argparse
import dataclasses
import re
import types
import typing
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from bids_sr.config import Settings
from bids_sr.config.groups import PAPER_SMOOTHING_MM
from bids_sr.config.seed_options import KNOWN
from bids_sr.sr.method import offered_methods

COMMON = (
    "--participant-label", "--task-id", "--dry-run", "--sr-method", "--calibration", "--derivatives", "--roi",
    "--truth", "--retrospective", "--nprocs", "--mem", "--work-dir",
)  # fmt: skip
"""Options that ``--help`` shows; ``--help-all`` shows the rest too."""
GIGABYTES = {"k": 1 / 2**20, "m": 1 / 2**10, "g": 1.0, "t": 2.0**10}


def gigabytes(text: str) -> float:
    """Read a size of memory in GB: ``8``, ``8G``, ``1.5 GB``, ``512M``, ``2000MiB``; a bare number is in GB.

    >>> gigabytes("512M")
    0.5
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?|\.\d+)\s*(?:([kmgt])(?:i?b)?)?", text.strip().lower())
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a memory size; write it as 8, 8G or 512M")
    return float(match[1]) * GIGABYTES[match[2] or "g"]


def path(text: str) -> Path:
    """Read a path; an empty one, as an unset variable of a shell leaves it, would mean the current directory."""
    if not text:
        raise argparse.ArgumentTypeError("the path is empty")
    return Path(text)


def folder(text: str) -> str:
    """Read a folder for which a word such as ``auto`` may stand, as it is written: ``./auto`` is no such word."""
    path(text)
    return text


def named_folder(text: str) -> str:
    """Read ``NAME=DIR`` or ``DIR``; an empty folder, as an unset variable of a shell leaves it, is refused."""
    if not text.strip() or text.endswith("="):
        raise argparse.ArgumentTypeError(f"{text!r} names no folder; write it as fmriprep=DIR")
    return text


def run_number(text: str) -> int:
    """Read the number of a run: ``1``, ``01``, ``run-01``."""
    digits = text.removeprefix("run-")
    if not (digits.isascii() and digits.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r} is not a run number; write it as 1 or run-1")
    return int(digits)


def _number(text: str, otherwise: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a {otherwise}") from None


def widths(text: str) -> tuple[float, ...]:
    """Read a smoothing width: mm FWHM, or ``paper`` for the two readings of the paper's sigma."""
    return PAPER_SMOOTHING_MM if text == "paper" else (_number(text, "number of mm; give the FWHM, or paper"),)


def frequency(text: str) -> float | None:
    """Read a cut-off in Hz; ``none`` switches the filter off."""
    return None if text == "none" else _number(text, "number of Hz; give a frequency, or none")


class _Flatten(argparse.Action):
    """Collect values of which each may stand for several."""

    def __call__(self, parser: Any, namespace: argparse.Namespace, values: Any, option_string: Any = None) -> None:
        before = getattr(namespace, self.dest, ())
        setattr(namespace, self.dest, (*before, *(item for several in values for item in several)))


_READERS: Mapping[Any, Callable[[str], Any]] = {Path: path, int: int, float: float}


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        return " ".join(map(_shown, value))
    return f"{value:.3g}" if isinstance(value, float) else str(value)


class _Options:
    """Adds options whose default, choices and kind of value are those of the setting that they fill."""

    def __init__(self, parser: argparse.ArgumentParser, title: str, section: str, shown: Collection[str]) -> None:
        self.group, self.section, self.shown = parser.add_argument_group(title), section, shown

    def __call__(self, flags: str, help: str, *, to: str = "", **how: Any) -> None:
        """Add an option: its flags and the name of its value as they stand in the help, its help, and its setting.

        The setting `to` (``name`` or ``section.name``) is by default the first long flag without its hyphens.
        """
        *names, last = flags.split()
        names, how = ([*names, last], how) if last.startswith("-") else (names, {"metavar": last, **how})
        to = to or next(flag for flag in names if flag.startswith("--"))[2:].replace("-", "_")
        section, _, name = to.rpartition(".")
        section = section or self.section
        cls = typing.get_type_hints(Settings)[section]
        default = next(item.default for item in dataclasses.fields(cls) if item.name == name)
        hint = typing.get_type_hints(cls)[name]
        several = typing.get_origin(hint) in (tuple, types.UnionType, typing.Union)
        inner = typing.get_args(hint)[0] if several else hint
        if hint is bool:
            how["action"] = "store_true"
        elif how.get("action") != "count":
            if typing.get_origin(inner) is typing.Literal:
                how.setdefault("choices", typing.get_args(inner))
            elif inner in _READERS:
                how.setdefault("type", _READERS[inner])
            if isinstance(default, tuple):
                how = {"nargs": "+", "action": "extend", **how}
            if default not in (None, ()):
                help = f"{help} (default: {_shown(default)})"
        if self.shown and not any(name in self.shown for name in names):
            help = argparse.SUPPRESS
        self.group.add_argument(*names, dest=f"{section}.{name}", help=help, **how)


def add_options(parser: argparse.ArgumentParser, *, shown: Collection[str] = ()) -> None:
    """Add every option to a parser; the help lists those of which a flag is in `shown`, all where that is empty."""
    parts = {
        "which data": ("selection", _selection), "super-resolution": ("superres", _superres),
        "preprocessing": ("preprocessing", _preprocessing), "activation": ("activation", _activation),
        "evaluation": ("evaluation", _evaluation), "resources": ("resources", _resources), "how it runs": ("run", _run),
    }  # fmt: skip
    for title, (section, add) in parts.items():
        add(_Options(parser, title, section, shown))


def _selection(add: _Options) -> None:
    add("--participant-label LABEL", "participants (default: all)")
    add("--session-label LABEL", "sessions (default: all)")
    add("-t --task-id TASK", "tasks (default: all)")
    add("--run-id N", "runs (default: all)", type=run_number)
    add("--bids-filter-file FILE", "JSON with pybids filters for bold, t2starw, t1w, t2w, flair")
    add("--bids-database-dir DIR", "pybids database of a large data set")
    add("--skip-bids-validation", "do not run the BIDS validator on the input")
    add("--dry-run", "show what would run, with estimates of time, memory and disk, and stop", to="run.dry_run")


def _superres(add: _Options) -> None:
    target = "bold: functional runs; anat: T1w, T2w and FLAIR at two resolutions, fused (methods attunet, unet, vit)"
    add("--sr-target", target, to="target")
    add("--train-on", "training scans for --sr-target anat: the participant's own, or those of all others")
    add("--anat-align", "registration between the scans of a head for --sr-target anat")
    names = ", ".join(offered_methods())
    method = (
        f"auto (sbl, and srgan if there is a T2*w pair), or one or more of {names} "
        "(wmn, focuss, sbl, tv, dip need no pair), or baselines alone"
    )
    add("--sr-method NAME", method, to="methods")
    beside = "baselines for comparison: bspline zerofill sdmod inject ratio; all adds nearest linear lanczos"
    add("--baselines", beside)
    add(
        "--sr-factor F",
        "in-plane ratio of voxel sizes (default: that of the T2*w pair or the calibration run, else 2)",
        to="factor",
    )
    add("--hr-acq LABEL", "acq- label of the high-resolution T2*w image")
    add("--lr-acq LABEL", "acq- label of the low-resolution T2*w image")
    calibration = (
        "short high-resolution BOLD run, from which the variance map of the other runs is estimated: auto (matched by "
        "voxel size), none, an acq- label, or a file"
    )
    add("--calibration {auto,none,LABEL,FILE}", calibration)
    add(
        "--recipe",
        "training: fast (minutes), paper (as published, days), paper-mse (paper, with squared error in the loss)",
    )
    add("--model-source", "auto reuses a model of the same pair from --model-dir")
    add("--model-dir DIR", "folder with trained models")
    add("--pretrained FILE", "use these .safetensors models, one per method, instead of training")
    add("--warm-start", "start srgan (fast, factor 2) from the bundled network, trained on simulated heads")
    add("--vgg-weights FILE", "VGG-19 weights (.safetensors); enables the perceptual loss")
    add("--max-train-minutes MIN", "limit of training time; the model is then marked as not reproducible")
    add("--n-ensemble N", "models per method, with different seeds; their spread is the uncertainty map")
    add("--data-consistency", "compare each output, downsampled, with the acquired series; enforce corrects it")
    add(
        "--guide",
        "whether wmn, focuss and sbl add static detail of the high-resolution T2*w image; auto: if there is a pair",
    )
    add("--precision", "numerical precision of inference; auto is fp32")
    add("--force", "apply a model to a resolution or orientation for which it was not trained")


def _preprocessing(add: _Options) -> None:
    add("--dummy-scans N", "non-steady-state volumes at the start (default: detected)")
    derivatives = (
        "output of fMRIPrep (fmriprep=DIR, or DIR): its anatomy, masks, transforms, head motion, field maps and "
        "confounds are used instead of computed"
    )
    add("-d --derivatives NAME=DIR", derivatives, type=named_folder)
    add("--echo N", "use only this echo of a multi-echo run (default: optimal combination of all)")
    add("--slice-time-ref FRACTION", "reference time for slice-timing correction (fraction of TR)")
    add("--ignore", "steps to skip; a run whose events are ignored is treated as resting state")
    add("--output-spaces SPACE", "additional template spaces for the statistical maps, such as MNI152NLin2009aSym")
    add("--output-dtype", "data type of the stored series")


def _activation(add: _Options) -> None:
    contrasts = (
        "such as thumb, thumb-little, all, name=0.5*a-0.5*b (default: each trial type, all, and pairs of up to three)"
    )
    add("--contrasts EXPR", contrasts)
    add("--activation", "cross-correlation with the design, general linear model", to="kinds")
    add("--smoothing MM", "FWHM in mm, 0 for none; paper means 3.5 13.2", type=widths, action=_Flatten)
    add("--low-pass HZ", "low-pass cut-off of the cross-correlation (Hz), or none", type=frequency)
    add("--high-pass HZ", "high-pass cut-off of the GLM (Hz)")
    seeds = (
        f"connectivity of runs without events: {', '.join(KNOWN)}, labels of AAL2, NAME=LABEL[,LABEL], "
        "NAME=x,y,z[,radius] in mm (MNI), or components"
    )
    add("--seeds SEED", seeds)
    regions = "auto (by the task's name), brain, motor, visual, auditory, labels of AAL2 joined by commas, or a mask"
    add("--roi {auto,brain,NAMES,FILE}", f"where regions are measured: {regions}")
    threshold = "regions: upper quarter of the range, false discovery rate .05, or a value of z"
    add("--threshold {quarter,fdr,Z}", threshold, to="thresholds")


def _evaluation(add: _Options) -> None:
    truth = (
        "high-resolution reference: data set with the same runs measured at the high resolution, or with their known "
        "activation; auto finds derivatives/highres-reference and derivatives/ground-truth in the data set"
    )
    add("--truth {auto,none,DIR}", truth, type=folder)
    retrospective = (
        "downsample the BOLD series by the factor (default 2), super-resolve it and compare with the original; "
        "noisy also adds thermal noise up to the original level (default: clean)"
    )
    add("--retrospective", retrospective, nargs="?", const="clean")
    add("--pair-holdout", "with two T2*w pairs, train on the first and evaluate on the second")
    add("--null-checks N", "run control analyses (placebos) and N shuffles of the residuals (no signal); 0: neither")
    add("--roi-grow", "extend the region of interest to adjacent activation that its border cuts off")
    margin = (
        "equivalence margin at the group level for dimensionless metrics, such as correlations "
        "(default, and for all others: a tenth of the gap between B-spline and measured)"
    )
    add("--margin VALUE", margin)


def _resources(add: _Options) -> None:
    add("--nprocs --n-cpus N", "processors (default: all)")
    add("--omp-nthreads N", "threads per step (default: 1; steps run in parallel)")
    add("--mem --mem-gb SIZE", "memory limit: 8, 8G, 512M (default: free memory)", type=gigabytes, to="mem_gb")
    add("--device", "device for the networks")
    add("--random-seed N", "seed of all random numbers")
    add("--use-plugin FILE", "TOML file; each step becomes a SLURM job (default: steps run on this machine)")


def _run(add: _Options) -> None:
    add("-w --work-dir DIR", "intermediate files (default: ./work)", to="paths.work_dir")
    add("--config-file FILE", "settings.toml of an earlier run; the command line has precedence")
    add("--boilerplate-only", "write the methods text and stop")
    add("--reports-only", "rebuild the reports of finished outputs")
    add("--strict", "stop before any work if a run cannot be processed, instead of skipping it")
    add("--stop-on-first-crash", "stop at the first crash instead of running the remaining steps")
    add("--resource-monitor", "log memory and processor use")
    add("--write-graph", "write the graph of steps to the logs")
    add("--sloppy", "low quality, for tests only")
    add("-v --verbose", "print more; may be given twice", action="count", to="verbosity")
