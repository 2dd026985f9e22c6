"""Options of a call that make each step run again, for `tests/contracts/test_reruns.py`.

::

python tests/reruns.py

regenerates the table. One option is changed at a time. A step runs again if its own settings or
given files, or the outputs that it takes, have changed. That the content of its inputs changes is
not counted, because the steps before it are listed themselves.
"""

import os
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import nibabel as nib
import numpy as np
from data.dataset import BidsMaker
from graphmaker import VERSION, call_settings

from bids_sr.config import Settings
from bids_sr.pipeline.graph import Graph
from bids_sr.pipeline.nodes import Handle
from bids_sr.preflight import check
from bids_sr.workflows.participant import make_graph

TABLE = Path(__file__).parent / "contracts" / "reruns.txt"
HIGH = (0.75, 0.75, 4.0)
LOW = (1.5, 1.5, 4.0)
_TIMES = [0.0, 0.5, 0.2, 0.7, 0.3, 0.8]


def make_run(maker: BidsMaker) -> None:
    """Make a run that is large enough for patches, with everything that steps can use."""
    maker.subject()
    for path in maker.root.rglob("*_T2starw.*"):
        path.unlink()
    for name, zooms in (("highres", HIGH), ("lowres", LOW)):
        maker.star(f"sub-01_acq-{name}", zooms)
    maker.bold(zooms=LOW, sidecar={"SliceTiming": _TIMES})
    maker.bold("sub-01_task-tap_acq-highres", zooms=HIGH, n_volumes=20)
    maker.events("sub-01_task-tap_acq-highres")
    truth = BidsMaker(maker.root.parent / "truth")
    truth.bold(zooms=HIGH, sidecar={"SliceTiming": _TIMES})
    truth.events()
    _touch(maker.root.parent / "vgg.safetensors")


def make_rest(maker: BidsMaker) -> None:
    """Make a run at rest that is large enough for patches, without a pair."""
    maker.bold(zooms=LOW, n_volumes=120)
    maker.t1w()


def make_scans(maker: BidsMaker) -> None:
    """Make scans of two resolutions, and high-resolution scans of another participant."""
    for contrast in ("T1w", "T2w", "FLAIR"):
        for acquisition, mm in (("fine", 3.0), ("coarse", 6.0)):
            name = f"sub-01_ses-a_acq-{acquisition}_{contrast}.nii.gz"
            maker.image(name, "anat", (mm, mm, mm))
    maker.image("sub-02_ses-a_T1w.nii.gz", "anat", (3.0, 3.0, 3.0))
    affine = np.diag([10.0, 10, 10, 1])
    affine[:3, 3] = -45
    lesions = nib.Nifti1Image(np.ones((10, 10, 10), np.uint8), affine)
    lesions.to_filename(maker.root.parent / "lesions.nii.gz")
    _touch(maker.root.parent / "vgg.safetensors")


def _touch(path: Path) -> None:
    path.write_bytes(b"")


_TRAINING = (
    "--recipe paper",
    "--set superres.model_source=train",
    "--set superres.model_dir={root}",
    "--vgg-weights {root}/vgg.safetensors",
    "--max-train-minutes 5",
    "--set superres.train_precision=fp32",
    "--set superres.force=true",
)
"""Changes of the training of models."""
_CALL = (
    "--set resources.device=cpu",
    "--omp-nthreads 2",
    "--random-seed 7",
    "--set run.sloppy=true",
    "--level full",
)
"""Changes of how a call runs."""
_RUN = (
    "--set superres.data_consistency=enforce",
    "--dummy-scans 2",
    "--slice-time-ref 0",
    "--set preprocessing.fd_spike_threshold=0.2",
    "--set preprocessing.dvars_spike_threshold=2",
    "--set preprocessing.return_all_components=true",
    "--ignore slicetiming",
    "--set preprocessing.input_smoothing=3",
    "--output-spaces T1w",
    "--set preprocessing.output_dtype=float32",
    "--set activation.kinds=glm",
    "--smoothing 0 4",
    "--set activation.low_pass=0.2",
    "--set activation.hrf_model=glover",
    "--set activation.high_pass=0.01",
    "--set activation.drift=legendre:2",
    "--censor fd:0.9",
    "--confounds csf",
    "--set activation.seed_series=own",
    "--roi brain",
    "--set activation.thresholds=3.1",
    "--set evaluation.margin=1",
)
"""Changes of the analysis of BOLD runs."""


_OF_PREFLIGHT = (
    "--calibration",
    "--confounds",
    "--contrasts",
    "--set preprocessing.input_smoothing",
    "--set activation.seeds",
    "--sr-factor",
)
"""Options that reach steps by the plan of the call; the others do by its settings."""


class Case(NamedTuple):
    """Data set, and changes of options beside the options that are always given."""

    make: Callable[[BidsMaker], None]
    options: tuple[str, ...]
    changes: tuple[str, ...]


CASES: Mapping[str, Case] = {
    "task": Case(
        make_run,
        (
            *("--truth", "{root}/truth", "--null-checks", "--set", "evaluation.roi_grow=true"),
            *("--sr-method", "sbl", "srgan", "tv", "dip"),
        ),
        (
            *_TRAINING,
            *_CALL,
            *_RUN,
            "--set srgan.batch=3",
            "--set tv.tv=0.02",
            "--set sbl.rounds=8",
            "--set sbl.guide=none",
            "--calibration none",
            "--contrasts thumb-little",
        ),
    ),
    "rest": Case(
        make_rest,
        ("--sr-method", "sbl"),
        (
            "--set activation.seeds=motor",
            "--set activation.seed_series=own",
            "--confounds csf",
            "--set activation.low_pass=0.2",
            "--censor fd:0.9",
            "--sr-factor 3",
        ),
    ),
    "scans": Case(
        make_scans,
        ("--sr-target", "anat", "--set", "anat.control=true"),
        (
            *_TRAINING,
            *_CALL,
            "--set attunet.batch=3",
            "--set anat.align=affine",
            "--set anat.mask=intracranial",
            "--set anat.scale=range",
            "--sr-method auto all",
            "--set anat.lesion_template={root}/lesions.nii.gz",
            "--output-spaces MNI152NLin2009cAsym",
        ),
    ),
}


def table() -> str:
    """Return the table of all cases: for each step, the changes that make it run again."""
    return "\n".join(line for name, case in CASES.items() for line in _case_lines(name, case))


def _case_lines(name: str, case: Case) -> Iterator[str]:
    yield f"{name}:"
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder).resolve()
        maker = BidsMaker(root / "bids")
        case.make(maker)

        def settings_with(*options: str) -> Settings:
            return call_settings(
                maker, root, *(text.format(root=root) for text in (*case.options, *options))
            )

        plan = check(settings_with())
        before = _inputs(make_graph(settings_with(), plan, VERSION))
        changed: dict[tuple[str, str], list[str]] = {node: [] for node in before}
        for change in case.changes:
            settings = settings_with(*change.split())
            if change.startswith(_OF_PREFLIGHT):
                new_plan = check(settings)
                assert new_plan.problems == ()
            else:
                new_plan = plan
            after = _inputs(make_graph(settings, new_plan, VERSION))
            for node in before.keys() & after.keys():
                if before[node] != after[node]:
                    changed[node].append(change.replace("{root}", "ROOT"))
    scopes: defaultdict[str, defaultdict[tuple[str, ...], list[str]]]
    scopes = defaultdict(lambda: defaultdict(list))
    for (scope, step), changes in changed.items():
        scopes[step][tuple(changes)].append(scope.rpartition(".")[2])
    for step, scopes_of_changes in sorted(scopes.items()):
        for changes, names in scopes_of_changes.items():
            where = "" if len(scopes_of_changes) == 1 else f" ({', '.join(names)})"
            yield f"  {step}{where}"
            yield from (f"    {change}" for change in changes)


def _inputs(graph: Graph) -> dict[tuple[str, str], str]:
    """Return what each node takes, by its innermost scope and its step, without stored files."""
    return {
        (node.scope.path.partition(".")[2], node.step.__name__): repr(
            (
                sorted((name, _value(value)) for name, value in graph.settings[node].items()),
                sorted(
                    (name, [_source(handle) for handle in wire.handles], wire.names)
                    for name, wire in graph.wires[node].items()
                ),
            )
        )
        for node in graph.nodes
        if node.step is not graph.scope.store
    }


def _source(handle: Handle) -> str:
    return f"{handle.node or handle.source}.{handle.name}"


def _value(value: object) -> str:
    """Return a setting as text in which the order of a mapping or set does not matter."""
    return repr(sorted(map(repr, value)) if isinstance(value, set | frozenset) else value)


def main() -> None:
    """Write the table."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    TABLE.write_text(table() + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
