"""Write docs/graph.md, the steps of small data sets: python docs/graph_page.py.

The first data set is listed completely. Each other one adds the steps that the data sets before it
do not have.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from bidsmaker import BidsMaker  # noqa: E402
from fmriprepmaker import FmriprepMaker  # noqa: E402
from graphmaker import planned_graph  # noqa: E402

from bids_sr.pipeline.listing import _ListingLine, describe_graph  # noqa: E402
from bids_sr.sr.method import get_method  # noqa: E402
from bids_sr.sr.models.model import save_model  # noqa: E402

if TYPE_CHECKING:
    from bids_sr.pipeline.graph import Graph
    from bids_sr.pipeline.step import AnyStep

PAGE = ROOT / "docs/graph.md"
FINE = (3.0, 3.0, 4.0)
TIMES = [0.1 * k for k in range(6)]
INTRODUCTION = """\
# Who makes what

This page lists the steps of small data sets; `python docs/graph_page.py` writes it. To list the
steps of your data, use `bids-sr DATA OUT participant --dry-run --graph`.

Each entry is a call of a step in a [workflow](architecture.md#a-run-from-top-to-bottom): the
file of the step in `bids_sr/steps/`, what the step does, what it makes (in brackets the
entities of the stored file, or *kept* if the step names its files), what it takes (in
parentheses the step that makes it), and its settings. `…` is the name of the workflow.
Workflows are listed inside the workflow that contains them, and steps in the order of
processing. Steps that several workflows share are listed once.
"""


class Case(NamedTuple):
    """A data set: heading, how it is made, options beside those that all have."""

    title: str
    make: Callable[[BidsMaker], None]
    options: tuple[str, ...] = ()


def plain(maker: BidsMaker) -> None:
    """One run of a task with its events, a pair and a T1w image."""
    maker.subject()


def with_all(maker: BidsMaker) -> None:
    """The same with slice times, a calibration with its events, a measured run and an active
    region beside it.
    """
    maker.subject("01", session="a")
    maker.subject("01", session="b")
    rng = np.random.default_rng(0)
    coarse = (
        500 + 100 * rng.random((8, 8, 6, 1)) + 40 * rng.standard_normal((8, 8, 6, 30))
    ).astype("int16")
    stem = "sub-01_ses-a_task-tap"
    maker.bold(stem, data=coarse, sidecar={"SliceTiming": TIMES})
    maker.bold(f"{stem}_acq-highres", zooms=FINE, n_volumes=20)
    measured = BidsMaker(maker.root.parent / "truth")
    measured.bold(
        stem, zooms=FINE, data=coarse.repeat(2, 0).repeat(2, 1), sidecar={"SliceTiming": TIMES}
    )
    measured.events(stem)


def echoes(maker: BidsMaker) -> None:
    """Three echoes of a run, and of the pair the fine image alone."""
    maker.subject()
    for path in maker.root.rglob("*lowres*"):
        path.unlink()
    for path in maker.root.rglob("*_task-tap_bold.*"):
        path.unlink()
    for echo, time in enumerate((0.01, 0.02, 0.03), 1):
        maker.bold(f"sub-01_task-tap_echo-{echo}", sidecar={"EchoTime": time})


def rest(maker: BidsMaker) -> None:
    """A run without events, with a T1w image."""
    maker.bold(n_volumes=90)
    maker.t1w()


def rest_alone(maker: BidsMaker) -> None:
    """A run without events, and nothing else."""
    maker.bold(n_volumes=90)


def own_volumes(maker: BidsMaker) -> None:
    """A run that is large enough for patches, and no pair."""
    maker.bold(zooms=(1.5, 1.5, 4.0))
    maker.events()


def prepared(maker: BidsMaker, version: str = "24.1.1") -> None:
    """Derivatives of fMRIPrep, with a field map."""
    maker.subject()
    maker.bold(
        sidecar={"PhaseEncodingDirection": "j", "TotalReadoutTime": 0.05, "SliceTiming": TIMES}
    )
    bold, made = (
        maker.path("sub-01_task-tap_bold.nii.gz", "func"),
        FmriprepMaker(maker.root.parent / "prep", version),
    )
    made.anat(maker.path("sub-01_T1w.nii.gz", "anat"))
    made.surfaces(maker.path("sub-01_T1w.nii.gz", "anat"))
    made.run(bold, n_dummy=3)
    if version.startswith("24"):
        made.field(bold, np.zeros((8, 8, 8)), np.diag([6.0, 6, 6, 1]))


def prepared_before(maker: BidsMaker) -> None:
    """Derivatives of an older fMRIPrep."""
    prepared(maker, "20.2.7")


def several_runs(maker: BidsMaker) -> None:
    """Make two runs of a task with their events, and nothing else."""
    for run in ("1", "2"):
        maker.bold(f"sub-01_task-tap_run-{run}")
        maker.events(f"sub-01_task-tap_run-{run}")


def runs_that_differ(maker: BidsMaker) -> None:
    """Make two runs of a task with different voxel sizes."""
    for run, zooms in (("1", (6.0, 6.0, 4.0)), ("2", (4.0, 4.0, 4.0))):
        maker.bold(f"sub-01_task-tap_run-{run}", zooms=zooms, n_volumes=150)
        maker.events(f"sub-01_task-tap_run-{run}")


def compared(maker: BidsMaker) -> None:
    """A denoised series of each of two runs of a task."""
    plain(maker)
    made = BidsMaker(maker.root.parent / "made")
    maker.bold("sub-01_task-tap_run-2")
    maker.events("sub-01_task-tap_run-2")
    for run in ("", "_run-2"):
        made.bold(f"sub-01_task-tap{run}")


def scans(maker: BidsMaker) -> None:
    """Structural scans in two resolutions, and high-resolution scans of another participant."""
    for contrast in ("T1w", "T2w"):
        for acquisition, zooms in (("fine", (3.0, 3.0, 3.0)), ("coarse", (6.0, 6.0, 6.0))):
            maker.image(f"sub-01_ses-a_acq-{acquisition}_{contrast}.nii.gz", "anat", zooms)
    maker.image("sub-02_ses-a_T1w.nii.gz", "anat", (3.0, 3.0, 3.0))


def lowres_scans(maker: BidsMaker) -> None:
    """Structural scans of low resolution, and a model of the same contrasts."""
    for contrast in ("T1w", "T2w"):
        maker.image(f"sub-01_{contrast}.nii.gz", "anat", (6.0, 6.0, 6.0))
    network = get_method("unet").recipes["fast"].build_generator(2, (1.0, 1.0, 1.0))
    card: dict[str, object] = {"method": "unet", "recipe": "fast", "factor": [1.0, 1.0, 1.0]}
    card |= {"contrast": "T1w+T2w", "orientation": "I-S", "channels": 2}
    card |= {"resolution": {"lowres_mm": [3.0, 3.0, 3.0]}}
    save_model(maker.root.parent / "fused", network.state_dict(), card)


CASES = (
    Case("A task, a pair and a T1w image", plain),
    Case(
        "The same with `--config-file ota2022`",
        plain,
        ("--config-file", "ota2022", "--recipe", "fast", "--dummy-scans", "3"),
    ),
    Case(
        "The same, smoothed before super-resolution",
        plain,
        (
            *("--config-file", "ota2022", "--recipe", "fast", "--dummy-scans", "3"),
            *("--input-smoothing", "3.5", "--smoothing", "0"),
        ),
    ),
    Case(
        "Two sessions, slice times, a calibration, a measured run; controls, and maps in template"
        " space",
        with_all,
        (
            "--truth",
            "truth",
            "--null-checks",
            "--n-ensemble",
            "2",
            "--roi-grow",
            "--output-spaces",
            "T1w",
            "MNI152NLin2009aSym",
            "--precision",
            "bf16",
        ),
    ),
    Case("Several echoes, and no low-resolution image in the pair", echoes),
    Case(
        "At rest, with censoring and the seeds of each series",
        rest,
        ("--censor", "fd:.5", "--seed-series", "own"),
    ),
    Case("At rest, without a T1w image", rest_alone),
    Case(
        "Networks that learn from the run",
        own_volumes,
        ("--sr-method", "tv", "dip", "--sr-factor", "2"),
    ),
    Case(
        "On fMRIPrep, maps on surfaces",
        prepared,
        ("-d", "prep", "--output-spaces", "fsnative", "fsaverage:den-10k"),
    ),
    Case(
        "On an older fMRIPrep, in another template space",
        prepared_before,
        ("-d", "prep", "--output-spaces", "MNI152NLin2009aSym"),
    ),
    Case("Two runs of a task", several_runs, ("--fuse-slices",)),
    Case("Two runs of a task that cannot be combined", runs_that_differ),
    Case("Series of another program", compared, ("--compare", "made")),
    Case("Structural scans", scans, ("--sr-target", "anat", "--set", "anat.control=true")),
    Case(
        "Structural scans of low resolution only, and a model",
        lowres_scans,
        ("--sr-target", "anat", "--sr-method", "unet", "--pretrained", "fused.safetensors"),
    ),
)


def graph_of(case: Case) -> Graph:
    """The graph of a data set, which is gone again."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        maker = BidsMaker(root / "bids")
        case.make(maker)
        options = [
            str(root / each) if each in ("truth", "prep", "fused.safetensors") else each
            for each in case.options
        ]
        options = [f"NORDIC={root / each}" if each == "made" else each for each in options]
        return planned_graph(maker, root, *options)


def new_lines(lines: list[_ListingLine], known: set[str]) -> Iterator[_ListingLine]:
    """Steps that are not known yet, with the scopes that they are in; they are known then."""
    scopes: list[_ListingLine] = []
    for line in lines:
        scopes = [each for each in scopes if each.depth < line.depth]
        if not line.outputs:
            scopes.append(line)
        elif line.name not in known:
            yield from scopes
            scopes = []
            known.add(line.name)
            yield line


def item(line: _ListingLine, steps: dict[str, AnyStep]) -> str:
    """A line of the list in Markdown; what a step makes stands below what it does."""
    shown = "    " * line.depth + "- "
    if not line.outputs:
        return shown + (line.name if line.name.startswith("as in ") else f"**{line.name}**")
    step = steps[line.name]
    name = f"**`{line.name}`** (`{line.module_file}`" + (
        f", `{step.__name__}`)" if line.name != step.__name__ else ")"
    )
    says = re.split(r"\.\s|\n\n", (step.__doc__ or "").strip())[0].removesuffix(".")
    made = re.sub(r"(\w+)( \[[^\]]+\])?", lambda one: f"`{one[1]}`{one[2] or ''}", line.outputs)
    of = re.sub(r"(\w+) \(", r"`\1` (", line.inputs)
    told = [
        f"{made} ← {of}" if of else made,
        *([f"settings {line.settings}"] if line.settings else []),
    ]
    return f"{shown}{name}: {' '.join(says.split())}.<br>{'; '.join(told)}"


def page() -> str:
    """The whole page."""
    parts, known = [INTRODUCTION], set[str]()
    for case in CASES:
        graph = graph_of(case)
        lines = describe_graph(graph)
        found = list(new_lines(lines, known)) if known else lines
        known |= {line.name for line in lines if line.outputs}
        steps = {node.name: node.step for node in graph.nodes}
        parts.append(
            "\n".join([f"## {case.title}\n", *(item(line, steps) for line in found)]) + "\n"
        )
    return "\n".join(parts)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    PAGE.write_text(page(), encoding="utf-8")
    sys.exit(0)
