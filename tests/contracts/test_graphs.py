"""Check the graph of data sets of every shape: it can be built, and no two steps write the same
file.
"""

import json
import pickle
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np
import pytest
from data.dataset import BidsMaker
from data.fmriprep import FmriprepMaker, prepared
from graphlists import LISTS, graph_list, list_file
from graphmaker import (
    VERSION,
    made_by,
    nodes_of,
    planned_call,
    planned_graph,
    run_plans,
    steps_of,
)
from networkx import is_directed_acyclic_graph
from wings import modules_with_steps

from bids_sr.boilerplate import bibliography
from bids_sr.config.spaces import FUNC
from bids_sr.pipeline.graph import Graph
from bids_sr.pipeline.nipype_workflow import make_workflow
from bids_sr.pipeline.nodes import Handle, Node
from bids_sr.pipeline.step import Part, Step
from bids_sr.pipeline.store import derivative_path, store
from bids_sr.report.methods_text import _missing_keys, methods_html
from bids_sr.sr.method import get_method
from bids_sr.sr.models.model import save_model
from bids_sr.workflows.participant import list_primary_series, make_graph
from bids_sr.workflows.run_plan import RunPlan

HIGH, LOW = (3.0, 3.0, 4.0), (6.0, 6.0, 4.0)
UNUSED_OUTPUTS = {"store.stored", "rebuild_motion.motion"}
"""Steps that use the motion rebuilt from a confounds table also take the confounds from this
table.
"""
PYTHON_ONLY_INPUTS = {
    "import_motion.given_boldref",
    "motion_confounds.known_confounds",
    "register_calibration.known_calibration_xfm",
}
PYTHON_ONLY_STEPS = {"estimate_residual_motion"}
EXTENSIONS = {
    "xfm": ".txt",
    "model": ".safetensors",
    "log": ".tsv",
    "metrics": ".tsv",
    "timeseries": ".tsv",
}
LABEL_SETTINGS = ("series_name", "fwhm_mm", "method", "method_label", "space_entities")


def _without(maker: BidsMaker, *patterns: str) -> None:
    for pattern in patterns:
        for path in maker.root.rglob(pattern):
            path.unlink()


def _two_subjects(maker: BidsMaker) -> None:
    maker.subject("01")
    maker.subject("02")


def _two_sessions(maker: BidsMaker) -> None:
    """Give each session its own pair, so that two models are trained."""
    maker.subject("01", session="a")
    maker.subject("01", session="b")


def _interleaved_slices(maker: BidsMaker) -> None:
    maker.subject()
    maker.bold(sidecar={"SliceTiming": TIMES})


def _two_runs(maker: BidsMaker) -> None:
    maker.subject()
    _without(maker, "*_task-tap_*")
    for run in ("1", "2"):
        maker.bold(f"sub-01_task-tap_run-{run}")
        maker.events(f"sub-01_task-tap_run-{run}")


def _two_runs_and_a_model(maker: BidsMaker) -> None:
    _two_runs(maker)
    models = maker.root.parent / "out" / "sourcedata" / "models" / "sub-01"
    models.mkdir(parents=True)
    (models / "sub-01_desc-srgan_model.safetensors").write_bytes(b"")


def _neither_pair_nor_t1w(maker: BidsMaker) -> None:
    _no_pair(maker)
    _without(maker, "*_T1w.*")


def _two_tasks_of_two_resolutions(maker: BidsMaker) -> None:
    """Write one high-resolution image and runs of two resolutions: two pairs that share the
    high-resolution image and the session.
    """
    maker.subject()
    # too many for a calibration
    maker.bold("sub-01_task-rhythm", zooms=(4.0, 4.0, 4.0), n_volumes=150)
    maker.events("sub-01_task-rhythm")
    _without(maker, "*_T2starw.*")
    maker.star("sub-01_acq-highres", (2.0, 2.0, 4.0))


def _no_t1w(maker: BidsMaker) -> None:
    maker.subject()
    _without(maker, "*_T1w.nii.gz")


def _no_t1w_and_room_for_patches(maker: BidsMaker) -> None:
    _no_t1w(maker)
    maker.bold(zooms=(1.5, 1.5, 4.0))
    maker.star("sub-01_acq-lowres", (1.5, 1.5, 4.0))
    maker.star("sub-01_acq-highres", (0.75, 0.75, 4.0))


def _own_volumes(maker: BidsMaker) -> None:
    """Write only a run, without a pair or a T1w image, but large enough for patches."""
    _no_pair(maker)
    maker.bold(zooms=(1.5, 1.5, 4.0))


def _fine_only(maker: BidsMaker) -> None:
    maker.subject()
    _without(maker, "*lowres*")


def _unnamed_fine_only(maker: BidsMaker) -> None:
    maker.subject()
    _without(maker, "*_T2starw.*")
    maker.star("sub-01", HIGH)


def _no_pair(maker: BidsMaker) -> None:
    maker.subject()
    _without(maker, "*_T2starw.*")


def _all_entities(maker: BidsMaker) -> None:
    maker.subject("01", session="a")
    _without(maker, "*_task-tap_*")
    stem = "sub-01_ses-a_task-tap_acq-x_ce-y_rec-z_dir-AP_run-01_part-mag_chunk-1"
    maker.bold(stem)
    maker.events(stem.replace("_part-mag", ""))


def _scans(maker: BidsMaker, label: str = "01") -> None:
    for contrast in ("T1w", "T2w", "FLAIR"):
        for acquisition, zooms in (("fine", (3.0, 3.0, 3.0)), ("coarse", (6.0, 6.0, 6.0))):
            maker.image(f"sub-{label}_ses-a_acq-{acquisition}_{contrast}.nii.gz", "anat", zooms)


def _scans_of_three(maker: BidsMaker) -> None:
    for label in ("01", "02", "03"):
        _scans(maker, label)


def _scans_and_edited_mask(maker: BidsMaker) -> None:
    _scans(maker)
    (folder := maker.root.parent / "edited").mkdir()
    mask = nib.Nifti1Image(np.ones((10, 10, 10), np.uint8), np.diag([2.0, 2, 2, 1]))
    mask.to_filename(folder / "sub-01_ses-a_res-hr_label-WMH_desc-measured_mask.nii.gz")


def _scans_and_lesions(maker: BidsMaker) -> None:
    _scans(maker)
    _lesions(maker)


def _lesions(maker: BidsMaker) -> None:
    affine = np.diag([10.0, 10, 10, 1])
    affine[:3, 3] = -45
    lesions = nib.Nifti1Image(np.ones((10, 10, 10), np.uint8), affine)
    lesions.to_filename(maker.root.parent / "lesions.nii.gz")


def _scans_and_controls(maker: BidsMaker) -> None:
    """Write a pair, and a participant who only has high-resolution scans of two sessions."""
    _scans_and_lesions(maker)
    for session in ("a", "b"):
        maker.image(f"sub-02_ses-{session}_T1w.nii.gz", "anat", (3.0, 3.0, 3.0))


def _lowres_scans_and_a_model(maker: BidsMaker) -> None:
    """Write two sessions with low-resolution scans only, and the card of a model trained on other
    participants.
    """
    for session in ("a", "b"):
        for contrast in ("T1w", "T2w"):
            maker.image(f"sub-01_ses-{session}_{contrast}.nii.gz", "anat", (6.0, 6.0, 6.0))
    network = get_method("unet").recipes["fast"].build_generator(2, (1.0, 1.0, 1.0))
    card: dict[str, object] = {"method": "unet", "recipe": "fast", "factor": [1.0, 1.0, 1.0]}
    card |= {"contrast": "T1w+T2w", "orientation": "I-S", "channels": 2}
    card |= {"resolution": {"lowres_mm": [3.0, 3.0, 3.0]}}
    save_model(maker.root.parent / "fused", network.state_dict(), card)


def _all_references(maker: BidsMaker) -> None:
    """Add a high-resolution run, known activation, and a calibration run with events."""
    maker.subject()
    maker.bold(sidecar={"SliceTiming": TIMES})
    maker.bold("sub-01_task-tap_acq-highres", zooms=HIGH, n_volumes=20)
    maker.events("sub-01_task-tap_acq-highres")
    truth = BidsMaker(maker.root.parent / "truth")
    truth.bold(zooms=HIGH, sidecar={"SliceTiming": TIMES})
    truth.events()
    truth.image(
        "sub-01_task-tap_res-hr_contrast-thumb_stat-effect_desc-truth_statmap.nii.gz", "func", HIGH
    )


def _other_programs(maker: BidsMaker) -> None:
    """Add series of the run by two other programs: one as acquired, one slice-time corrected on a
    higher-resolution grid.

    The participant also has a reference, a field map, and another run of the task.
    """
    _fmriprep(maker)
    maker.bold("sub-01_task-tap_run-2", sidecar={"SliceTiming": TIMES})
    maker.events("sub-01_task-tap_run-2")
    (denoised := BidsMaker(maker.root.parent / "made")).bold("sub-01_task-tap_desc-denoised")
    denoised.bold("sub-01_task-tap_desc-finer", zooms=HIGH, sidecar={"SliceTimingCorrected": True})


def _fmriprep(maker: BidsMaker) -> None:
    """Add complete fMRIPrep derivatives, with a field map, and a high-resolution reference."""
    _all_references(maker)
    _with_field(maker)


def _with_field(maker: BidsMaker, version: str = "24.1.1") -> FmriprepMaker:
    bold = maker.bold(
        sidecar={"PhaseEncodingDirection": "j", "TotalReadoutTime": 0.05, "SliceTiming": TIMES}
    )
    prep = prepared(maker, version=version)
    prep.surfaces(maker.path("sub-01_T1w.nii.gz", "anat"))
    prep.field(bold, np.zeros((8, 8, 8)), np.diag([6.0, 6, 6, 1]))
    return prep


def _fmriprep_20(maker: BidsMaker) -> None:
    """Add derivatives of an older version, which have motion parameters instead of transforms."""
    maker.subject()
    _with_field(maker, "20.2.7")


def _some_of_fmriprep(maker: BidsMaker) -> None:
    """Remove the confounds and the transforms to the template, and add two pairs, one of them held
    out.
    """
    maker.subject()
    root = prepared(maker).root
    for path in (*root.rglob("*confounds*"), *root.rglob("*MNI*xfm*")):
        path.unlink()
    maker.star("sub-01_acq-highres_run-2", HIGH)
    maker.star("sub-01_acq-lowres_run-2", LOW)


def _runs_of_two_resolutions(maker: BidsMaker) -> None:
    """Two runs of a task that cannot be combined."""
    for run, zooms in ((1, (6.0, 6.0, 4.0)), (2, (4.0, 4.0, 4.0))):
        maker.bold(f"sub-01_task-tap_run-{run}", zooms=zooms, n_volumes=150)
        maker.events(f"sub-01_task-tap_run-{run}")


def _at_rest(maker: BidsMaker) -> None:
    maker.bold(n_volumes=120)
    maker.t1w()


def _at_rest_with_a_pair(maker: BidsMaker) -> None:
    maker.subject()
    _without(maker, "*_task-tap_*")
    maker.bold(n_volumes=90)


def _echoes(maker: BidsMaker) -> None:
    for number, te in enumerate((0.012, 0.028), 1):
        maker.bold(f"sub-01_task-tap_echo-{number}", sidecar={"EchoTime": te}, n_volumes=90)


TIMES = [0.0, 0.5, 0.2, 0.7, 0.3, 0.8]
PREPARED = ["-d", "fmriprep={root}/prep"]
SPACES = ["MNI152NLin2009cAsym:res-2:res-1", "T1w", "MNI152NLin2009aSym"]
SURFACES = ["fsnative", "fsaverage:den-10k"]
PLAIN = ["--sr-method", "bspline", "zerofill", "--sr-factor", "2"]
CASES: dict[str, tuple[Callable[[BidsMaker], None], list[str]]] = {
    "two subjects, baselines all": (
        _two_subjects,
        ["--sr-method", "auto", "all", "--contrasts", "thumb-little", "--level", "full"],
    ),
    "two sessions, output spaces": (
        _two_sessions,
        ["--output-spaces", "func", *SPACES, "fsaverage:den-10k"],
    ),
    "two sessions, one of them": (_two_sessions, ["--session-label", "b", "--roi", "brain"]),
    "slice timing": (_interleaved_slices, ["--sr-method", "bspline"]),
    "two runs, reuse": (
        _two_runs_and_a_model,
        [
            "--set",
            "superres.model_source=reuse",
            "--set",
            "activation.kinds=glm",
            "--level",
            "minimal",
        ],
    ),
    "two runs that cannot be combined": (_runs_of_two_resolutions, PLAIN),
    "two resolutions": (_two_tasks_of_two_resolutions, ["--set", "activation.smoothing=paper"]),
    "no T1w": (
        _no_t1w_and_room_for_patches,
        ["--set", "activation.kinds=cc", "--recipe", "paper"],
    ),
    "fine image alone": (_fine_only, ["--set", "activation.thresholds=[quarter, 3.1]"]),
    "fine image alone, without acq": (
        _unnamed_fine_only,
        ["--set", "superres.data_consistency=enforce"],
    ),
    "no pair": (_no_pair, [*PLAIN, "--output-spaces", "MNI152NLin2009aSym"]),
    "pair and interpolation alone": (_two_runs, ["--sr-method", "zerofill"]),
    "guided baselines without a network": (
        _two_runs,
        ["--sr-method", "inject", "ratio", "--dummy-scans", "2"],
    ),
    "neither pair nor T1w": (_neither_pair_nor_t1w, PLAIN),
    "two subjects, all placebos": (
        _two_subjects,
        ["--null-checks", "--set", "evaluation.roi_grow=true"],
    ),
    "variance maps, no pair": (
        _no_pair,
        ["--sr-method", "sbl", "--sr-factor", "2", "--null-checks", "--level", "full"],
    ),
    "variance maps of every kind, by the run alone": (
        _neither_pair_nor_t1w,
        ["--sr-method", "tv", "sbl", "--sr-factor", "2", "--null-checks"],
    ),
    "control alone": (_no_pair, ["--sr-method", "sdmod", "--sr-factor", "2"]),
    "structural scans": (_scans, ["--sr-target", "anat"]),
    "structural scans, two methods": (
        _scans,
        [
            "--sr-target",
            "anat",
            "--sr-method",
            "attunet",
            "unet",
            "all",
            "--recipe",
            "paper",
        ],
    ),
    "structural scans, deformed to the template": (
        _scans_and_lesions,
        [
            "--sr-target",
            "anat",
            "--set",
            "anat.align=template-warp",
            "anat.mask=intracranial",
            "anat.lesion_template={root}/lesions.nii.gz",
        ],
    ),
    "structural scans, deformed": (
        _scans_and_edited_mask,
        [
            "--sr-target",
            "anat",
            "--set",
            "anat.align=nonlinear",
            "anat.wmh_reference={root}/edited",
        ],
    ),
    "structural scans of one resolution": (
        _scans_and_controls,
        [
            "--sr-target",
            "anat",
            "--set",
            "anat.control=true",
            "anat.scale=range",
            "anat.lesion_template={root}/lesions.nii.gz",
        ],
    ),
    "structural scans of low resolution": (
        _lowres_scans_and_a_model,
        [
            *["--sr-target", "anat", "--sr-method", "unet"],
            *["--pretrained", "{root}/fused.safetensors"],
        ],
    ),
    "smoothed before super-resolution": (
        _interleaved_slices,
        [
            "--sr-method",
            "bspline",
            "--set",
            "preprocessing.input_smoothing=3.5",
            "--smoothing",
            "0",
        ],
    ),
    "structural scans of others": (
        _scans_of_three,
        ["--sr-target", "anat", "--set", "anat.train_on=others"],
    ),
    "trained on the run's volumes": (
        _own_volumes,
        [
            "--sr-method",
            "tv",
            "dip",
            "sbl",
            "--sr-factor",
            "2",
            "--null-checks",
        ],
    ),
    "many methods": (
        _no_t1w_and_room_for_patches,
        ["--sr-method", "srgan", "li-agnostic", "tv", "cpce", "resnet3d"],
    ),
    "every entity": (
        _all_entities,
        ["--omp-nthreads", "2", "--ignore", "slicetiming"],
    ),
    "all references": (
        _all_references,
        ["--truth", "{root}/truth"],
    ),
    "series of other programs": (
        _other_programs,
        [
            *[*PLAIN, *PREPARED, "--truth", "{root}/truth"],
            *[
                "--compare",
                "one={root}/made:desc-denoised",
                "--compare",
                "two={root}/made:desc-finer:corrected",
            ],
        ],
    ),
    "fMRIPrep": (
        _fmriprep,
        [
            *PREPARED,
            "--truth",
            "{root}/truth",
            "--sr-method",
            "sbl",
            "inject",
            "--output-spaces",
            *SPACES,
            *SURFACES,
        ],
    ),
    "some of fMRIPrep, pair held out": (
        _some_of_fmriprep,
        [*PREPARED, "--sr-method", "srgan"],
    ),
    "an older fMRIPrep": (_fmriprep_20, [*PREPARED, "--sr-method", "bspline"]),
    "at rest": (
        _at_rest,
        ["--set", "activation.seeds=[motor, Calcarine_L]", "--set", "activation.seed_series=own"],
    ),
    "echoes at rest without T1w": (_echoes, PLAIN),
    "components, censored": (
        _echoes,
        [*PLAIN, "--censor", "fd:.5", "--band-pass", "0.01", "0.1"],
    ),
    "at rest with a pair": (_at_rest_with_a_pair, ["--sr-method", "inject"]),
    "task, censored and grown": (
        _two_runs,
        [
            "--sr-method",
            "bspline",
            "--set",
            "evaluation.roi_grow=true",
            "--censor",
            "fd:.5",
            "--set",
            "activation.drift=legendre:3",
        ],
    ),
    "series of other programs, censored": (
        _other_programs,
        [
            *[*PLAIN, *PREPARED, "--truth", "{root}/truth", "--censor", "enorm:.3"],
            *["--compare", "one={root}/made:desc-denoised"],
        ],
    ),
}


class PlannedCase(NamedTuple):
    """Graph of a case, and the plan of each run by its name."""

    graph: Graph
    plans: dict[str, RunPlan]


def plan_case(case: str, root: Path) -> PlannedCase:
    """Plan the data set of a case, written below `root`."""
    make, options = CASES[case]
    maker = BidsMaker(root / "bids")
    make(maker)
    settings, plan = planned_call(maker, root, *(option.format(root=root) for option in options))
    return PlannedCase(make_graph(settings, plan, VERSION), run_plans(settings, plan))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the data sets of all cases."""
    return tmp_path_factory.mktemp("graphs")


@pytest.fixture(scope="module")
def plan_once(root: Path) -> Callable[[str], PlannedCase]:
    """Return a function that plans a case once."""

    @cache
    def make(case: str) -> PlannedCase:
        return plan_case(case, root / list_file(case).stem)

    return make


@pytest.fixture(params=CASES, scope="module")
def case(request: pytest.FixtureRequest) -> str:
    """Name of a case."""
    return str(request.param)


@pytest.fixture(scope="module")
def graph(case: str, plan_once: Callable[[str], PlannedCase]) -> Graph:
    """Graph of a case."""
    return plan_once(case).graph


@pytest.fixture(scope="module")
def plans(case: str, plan_once: Callable[[str], PlannedCase]) -> dict[str, RunPlan]:
    """Plans of the runs of a case."""
    return plan_once(case).plans


def test_the_graph_is_as_listed(case: str, graph: Graph, root: Path) -> None:
    """Compare the graph with its list. `python tests/graphlists.py` regenerates the lists; review
    the changes.
    """
    folder = root / list_file(case).stem
    expected = list_file(case).read_text(encoding="utf-8")
    assert graph_list(graph, folder).splitlines() == expected.splitlines()


def test_nipype_can_flatten_the_graph(graph: Graph, tmp_path: Path) -> None:
    """Nipype rejects cycles between nested workflows, even if the nodes themselves have none."""
    flow = make_workflow(graph, base_dir=tmp_path, need_gb=lambda need: 0.1)
    names = set(flow.list_node_names())
    flow._generate_flatgraph()  # `Workflow.run` does this with a copy.
    assert {str(node) for node in flow._graph} == {f"{flow.name}.{name}" for name in names}
    assert is_directed_acyclic_graph(flow._graph)


def test_every_case_has_a_list_and_every_list_a_case() -> None:
    assert set(LISTS.iterdir()) == {list_file(case) for case in CASES}


def _stores(graph: Graph) -> Iterator[tuple[Node, dict[str, Any]]]:
    yield from ((node, graph.settings[node]) for node in graph.nodes if node.step is store)


def test_no_two_steps_write_the_same_file(graph: Graph) -> None:
    written: Counter[str] = Counter()
    for node, settings in _stores(graph):
        # maps of the reconstruction error are stored with the maps of their series
        own_entities, [maker, *_] = settings["own_entities"], graph.wires[node]["files"].handles
        labels = (
            {}
            if own_entities is not None
            # all maps of a series and space share a sidecar, so one step must store them
            else {
                "by": maker.name.replace("error_maps", "maps"),
                "of": _labels(graph, maker.source),
            }
        )
        # a model card has the name of its model with another extension
        card = (
            {"card": maker.name}
            if own_entities is not None and own_entities["suffix"] == "model"
            else {}
        )
        names = {**settings["entities"], **(own_entities or {}), **labels, **card}
        written[json.dumps(names, sort_keys=True)] += settings["in_output"]
        for series in settings.get("datasets", ()) if settings["exported_as"] is not None else ():
            written[
                json.dumps({**names, **settings["exported_as"], "series": series}, sort_keys=True)
            ] += 1
    assert len(written) > 10
    assert [name for name, times in written.items() if times > 1] == []


def test_a_name_in_the_output_and_in_an_exported_data_set_is_one_file(graph: Graph) -> None:
    """Programs that index all results find the same series and brain as in the exported
    data set.
    """
    makers: dict[str, set[Handle]] = {}
    for node, settings in _stores(graph):
        own_entities = settings["own_entities"]
        names = (
            [settings["entities"] | own_entities]
            if own_entities is not None and settings["in_output"]
            else []
        )
        if own_entities is not None and settings["exported_as"] is not None:
            names.append(
                {
                    key: label
                    for key, label in {
                        **settings["entities"],
                        **own_entities,
                        **settings["exported_as"],
                    }.items()
                    if label
                }
            )
        for name in names:
            makers.setdefault(json.dumps(name, sort_keys=True), set()).update(
                graph.wires[node]["files"].handles
            )
    assert {name: len(handles) for name, handles in makers.items() if len(handles) > 1} == {}


IN_FUNC = {f"space-boldref_{kind}" for kind in ("desc-preproc_bold", "desc-brain_mask", "boldref")}
OF_RUN = {
    *IN_FUNC,
    "desc-confounds_timeseries",
    "from-orig_to-boldref_mode-image_desc-hmc_xfm",
}
OF_RUN_WITH_T1W = {
    f"from-{a}_to-{b}_mode-image_desc-coreg_xfm"
    for a, b in (("T1w", "boldref"), ("boldref", "T1w"))
}
OF_T1W = {"desc-preproc_T1w", "desc-brain_mask", "dseg", "tissue_maps"}


def test_exported_data_sets_have_the_files_that_other_programs_need(
    graph: Graph, plans: dict[str, RunPlan]
) -> None:
    """Every run has all files, and so does the anatomy in every data set that has a run of the
    participant.
    """
    exported: dict[tuple[str, str], set[str]] = {}  # by data set and scope
    for node, settings in _stores(graph):
        for series in settings.get("datasets", ()) if settings["exported_as"] is not None else ():
            named = {
                **(settings["own_entities"] or {"suffix": node.name.removeprefix("store_")}),
                **settings["exported_as"],
            }
            stem = "_".join(v if k == "suffix" else f"{k}-{v}" for k, v in named.items() if v)
            of_series = node.scope.name in (series, f"{series}_shown")
            place = node.scope.outer if of_series else node.scope
            exported.setdefault((series, place.path if place else ""), set()).add(stem)
    # the outermost scope of a run, because inner scopes belong to the same run
    runs = {scope.run: scope for scope in reversed([*graph.scope.inward()]) if scope.run}
    assert set(runs) == set(plans)
    for name, plan in plans.items():
        run, series = runs[name], plan.primary
        assert run.outer is not None
        (anat,) = (
            [scope for scope in run.outer.inner if scope.name == "anat_wf"]
            if plan.with_anat
            else [None]
        )
        assert series in plan.stored_names
        of_run = OF_RUN - (set() if plan.in_func else IN_FUNC)
        of_run |= {"space_series"} if plan.in_other_spaces else set()
        of_run |= set() if plan.at_rest else {"events"}
        assert exported.pop((series, run.path)) == of_run | (OF_RUN_WITH_T1W if anat else set())
        shown = [space for space in plan.spaces if space.name != FUNC and not space.is_surface]
        for entities in (dict(output_space.entities) for output_space in shown):
            space = "_".join(f"{key}-{label}" for key, label in entities.items())
            scope = "_".join(["shown_in", *entities.values()])
            assert exported.pop((series, f"{run.path}.{scope}_wf")) == {
                f"{space}_boldref",
                f"{space}_desc-brain_mask",
            }
            if anat is not None and not space.startswith("space-T1w"):
                scope = "_".join(["anat_in", *entities.values()])
                assert exported[series, f"{anat.path}.{scope}_wf"] == {
                    f"{space}_desc-brain_mask"
                }, "XCP-D asks for it"
        if anat is not None:
            anat_names = exported[series, anat.path]
            assert anat_names >= OF_T1W
            assert len(anat_names - OF_T1W) == 2, "to the template and back"
    assert all(
        scope.endswith("anat_wf") or scope.split(".")[-1].startswith(("template_", "anat_in_"))
        for _, scope in exported
    )


@pytest.mark.parametrize(
    ("options", "spaces"), [([], 0), (["--output-spaces", *SPACES], 4)], ids=["func", "several"]
)
def test_results_are_resampled_to_the_requested_output_spaces(
    tmp_path: Path, options: list[str], spaces: int
) -> None:
    """Only the primary series is resampled, but the maps of all series; nipype can order the
    scopes.
    """
    (maker := BidsMaker(tmp_path / "bids")).subject()
    call = planned_call(maker, tmp_path, "--sr-method", "bspline", "zerofill", *options)
    graph, plans = make_graph(*call, VERSION), run_plans(*call)
    assert make_workflow(graph, base_dir=tmp_path, need_gb=lambda need: 0.1).list_node_names()
    assert all(plan.in_func == (not options) for plan in plans.values())
    grids = [
        node for step in ("grid_in_t1w", "grid_in_template") for node in nodes_of(graph, step)
    ]
    assert len(grids) == spaces * len(plans)
    for node in nodes_of(graph, "super_resolve"):
        _, run = node.scope.owner
        expected = spaces if node.scope.name == plans[run].primary else 0
        assert len(made_by(graph, node, "space_grids")) == expected
    assert len(nodes_of(graph, "maps_to_spaces")) == (
        len(nodes_of(graph, "map_series")) if spaces else 0
    )
    assert len(nodes_of(graph, "normalize_t1w")) == (2 if spaces else 1), "once for each template"


@pytest.mark.parametrize("spheres", [True, False])
def test_only_maps_are_projected_to_surfaces(tmp_path: Path, spheres: bool) -> None:
    """Spheres of the participant are used if they exist; the series stays in its space."""
    (maker := BidsMaker(tmp_path / "bids")).subject()
    prep = prepared(maker)
    prep.surfaces(maker.path("sub-01_T1w.nii.gz", "anat"))
    for sphere in () if spheres else prep.root.rglob("*_sphere.surf.gii"):
        sphere.unlink()
    for path in [*prep.root.rglob("*MNI152NLin2009cAsym*_xfm.h5")]:
        path.rename(str(path).replace("NLin2009cAsym", "NLin2009aSym"))
    options = [
        option.format(root=tmp_path) for option in (*PREPARED, "--output-spaces", *SURFACES)
    ]
    call = planned_call(maker, tmp_path, "--sr-method", "bspline", *options)
    graph = make_graph(*call, VERSION)
    assert make_workflow(graph, base_dir=tmp_path, need_gb=lambda need: 0.1).list_node_names()
    mapped = nodes_of(graph, "map_series")
    onto = nodes_of(graph, "maps_to_surfaces")
    assert len(onto) == 2 * len(mapped)
    assert all(len(made_by(graph, node, "maps")) == 1 for node in onto)
    assert {graph.settings[node]["space_entities"].get("den", "") for node in onto} == {"", "10k"}
    uris = {uri for node in onto for uri in graph.settings[node]["surface_uris"]}
    assert {uri.partition(":")[0] for uri in uris} == {"bids", "https"}
    assert len(uris) == 4, "of each hemisphere"
    [placing] = nodes_of(graph, "transform_fsaverage")
    assert ("given_spheres" in graph.wires[placing]) == spheres
    assert bool(nodes_of(graph, "normalize_t1w")) != spheres, "only what leads to fsaverage"
    [first, second] = nodes_of(graph, "draw_surfaces")
    assert first.scope.outer is second.scope.outer, "of the primary series"
    assert all(plan.in_func for plan in run_plans(*call).values())
    assert not nodes_of(graph, "maps_to_spaces")


def test_spheres_without_the_whole_ribbon_are_not_used(tmp_path: Path) -> None:
    """If pial surfaces are missing, fsaverage is mapped through MNI152."""
    (maker := BidsMaker(tmp_path / "bids")).subject()
    prep = prepared(maker)
    prep.surfaces(maker.path("sub-01_T1w.nii.gz", "anat"))
    for pial in prep.root.rglob("*_pial.surf.gii"):
        pial.unlink()
    options = [
        option.format(root=tmp_path) for option in (*PREPARED, "--output-spaces", SURFACES[-1])
    ]
    graph = planned_graph(maker, tmp_path, "--sr-method", "bspline", *options)
    [placing] = nodes_of(graph, "transform_fsaverage")
    assert not {"given_surfaces", "given_spheres"} & graph.wires[placing].keys()


@pytest.mark.parametrize(
    ("make", "options", "primary"),
    [
        (_two_runs, ["--sr-method", "srgan", "sbl"], "sbl"),
        (_two_runs, ["--sr-method", "sbl", "srgan"], "srgan"),
        (_two_runs, [], "sbl"),
        (_two_runs, ["--sr-method", "zerofill", "bspline"], "bspline"),
        (_two_runs, ["--sr-method", "bspline", "zerofill"], "bspline"),
        (_two_runs, ["--sr-method", "inject", "zerofill"], "zerofill"),
        (_two_runs, ["--sr-method", "sdmod", "zerofill", "sbl"], "sbl"),
        (_no_pair, [], "sbl"),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_the_primary_series_is_of_the_last_method(
    tmp_path: Path, make: Callable[[BidsMaker], None], options: list[str], primary: str
) -> None:
    """If only baselines are requested, the primary series is B-spline interpolation, or else the
    last baseline.
    """
    make(maker := BidsMaker(tmp_path / "bids"))
    call = planned_call(maker, tmp_path, *options)
    assert list_primary_series(*call, VERSION) == [primary]
    graph = make_graph(*call, VERSION)
    [*means] = nodes_of(graph, "average_series")
    assert {node.scope.name for node in means} == {f"{primary}_shown"}


def _labels(graph: Graph, node: Node) -> list[str]:
    """Return the labels in the file names of a node: series, smoothing and method, its own or
    the labels of the maps that it resamples.
    """
    settings = graph.settings[node]
    moves = node.step.__name__ in ("maps_to_spaces", "maps_to_surfaces")
    moved = made_by(graph, node, "maps") if moves else []
    own_names = [str(settings[name]) for name in LABEL_SETTINGS if name in settings]
    return own_names + [word for source in moved for word in _labels(graph, source)]


def test_every_stored_file_lists_its_sources(graph: Graph) -> None:
    """Sources are input files or stored results, and each is listed once."""
    for node, settings in _stores(graph):
        maker, *_ = graph.wires[node]["files"].handles
        if maker.port is None or maker.port.kind.is_figure:
            continue
        assert settings["sources"], str(node)
        assert all(
            uri.split(":")[0] in ("bids", "pkg", "https", "file") for uri in settings["sources"]
        ), str(node)
        assert len(settings["sources"]) == len(set(settings["sources"])), str(node)


def test_every_fixed_file_name_is_valid(graph: Graph) -> None:
    """Entities that no pattern contains would stop the run at its very end."""
    for _, settings in _stores(graph):
        if (own_entities := settings["own_entities"]) is not None:
            full = {
                **settings["entities"],
                **own_entities,
                "extension": EXTENSIONS.get(own_entities["suffix"], ".nii.gz"),
            }
            assert derivative_path(full).startswith(("sub-", "sourcedata/models/sub-"))


def test_every_step_that_skips_dummies_gets_their_number(graph: Graph) -> None:
    """Steps without this number would assume that there are no dummies."""
    for node in graph.nodes:
        if "n_dummy" in node.step.settings:
            assert [source.step.__name__ for source in made_by(graph, node, "n_dummy")] == [
                "count_dummies"
            ]


@dataclass
class Coverage:
    """Names over the graphs of all cases, as ``step.name``.

    Inputs, outputs and settings of steps; inputs that are connected, names that calls supply, and
    outputs that other steps consume.
    """

    inputs: set[str] = field(default_factory=set)
    connected: set[str] = field(default_factory=set)
    outputs: set[str] = field(default_factory=set)
    consumed: set[str] = field(default_factory=set)
    settings: set[str] = field(default_factory=set)
    supplied: set[str] = field(default_factory=set)

    def add(self, graph: Graph) -> None:
        """Add the names of a graph."""
        for node in graph.nodes:
            step, wires = node.step.__name__, graph.wires[node]
            self.inputs |= {f"{step}.{name}" for name in node.step.inputs}
            self.connected |= {f"{step}.{name}" for name in wires}
            self.outputs |= {f"{step}.{name}" for name in node.step.outputs}
            self.settings |= {f"{step}.{name}" for name in node.step.settings}
            self.supplied |= {f"{step}.{name}" for name in {*node.settings, *wires}}
            self.consumed |= {
                f"{handle.node.step.__name__}.{handle.name}"
                for wire in wires.values()
                for handle in wire.handles
                if handle.node is not None
            }


@pytest.fixture(scope="module")
def coverage(plan_once: Callable[[str], PlannedCase]) -> Coverage:
    """Names over all cases."""
    names = Coverage()
    for case in CASES:
        names.add(plan_once(case).graph)
    return names


@pytest.mark.parametrize(
    ("sidecar", "moment"),
    [
        ({"SliceTiming": TIMES}, 0.25 * max(TIMES)),
        ({}, 0.5),
        ({"DelayTime": 0.2}, 0.4),
        ({"SliceTimingCorrected": True, "StartTime": 0.6, "SliceTiming": TIMES}, 0.6),
    ],
)
def test_models_have_the_moment_to_which_slice_timing_was_corrected(
    tmp_path: Path, sidecar: dict[str, object], moment: float
) -> None:
    maker = BidsMaker(tmp_path / "bids")
    maker.subject()
    maker.bold(sidecar=sidecar)
    graph = planned_graph(maker, tmp_path, "--slice-time-ref", "0.25")
    for name in ("map_series", "measure_effects"):
        (start_time,) = {graph.settings[node]["start_time"] for node in nodes_of(graph, name)}
        assert start_time == pytest.approx(moment)


def test_every_setting_with_a_default_is_set_by_some_workflow(coverage: Coverage) -> None:
    """Type checkers do not report settings that always have their default."""
    assert not coverage.settings - coverage.supplied


def test_every_optional_input_is_connected_for_some_data_set(coverage: Coverage) -> None:
    assert coverage.inputs - coverage.connected == PYTHON_ONLY_INPUTS


def test_every_output_is_stored_or_used_by_another_step(coverage: Coverage) -> None:
    assert coverage.outputs - coverage.consumed == UNUSED_OUTPUTS


def test_every_step_is_called_for_some_data_set(coverage: Coverage) -> None:
    """Workers can pickle the interface and its input and output specifications."""
    steps = {**dict(_every_step()), "store": store}
    assert set(steps) == {name.partition(".")[0] for name in coverage.outputs} | PYTHON_ONLY_STEPS
    for step in steps.values():
        for kind in (step.interface, step.interface.input_spec, step.interface.output_spec):
            assert pickle.loads(pickle.dumps(kind)) is kind


def _every_step() -> Iterator[tuple[str, Step[..., Any]]]:
    for module in modules_with_steps():
        for name, value in vars(import_module(module)).items():
            if isinstance(value, Step) and value.__module__ == module:
                assert name == value.__name__
                yield name, value


IN_ORDER = (
    "T1-weighted (T1w) image was",
    "pair of T2*-weighted images",
    "Head-motion parameters",
    "BOLD brain mask",
    "Each volume was resampled once",
    "with a Gaussian prior",
    "was mapped in all series",
    "noise model was",
    "reconstruction error of",
    "split into two halves",
    "compared with known activation",
    "analysis was performed with *bids-sr* 0 [@bids_sr] and",
)


def test_the_methods_text_has_valid_citations_no_repetition_and_the_order_of_processing(
    graph: Graph,
) -> None:
    text = graph.methods_text()
    assert text.startswith("The ")
    assert "performed with *bids-sr* 0 [@bids_sr] and *Nipype* [@nipype]." in text
    html = methods_html(text, bibliography()).partition('id="ref-')[0]
    assert "@" not in html, "a citation that was not resolved"
    assert _missing_keys(text, bibliography()) == []
    shown = re.sub(r"<[^>]+>", "", html)
    assert re.findall(r".{30}\([^()]*\(|.{30}\) \(.{9}", shown) == [], (
        "parentheses in or behind parentheses"
    )
    sentences = [
        part
        for paragraph in text.split("\n\n")
        for part in re.split(r"(?<=[a-z)]\.) (?=[A-Z])", paragraph)
    ]
    assert [sentence for sentence, times in Counter(sentences).items() if times > 1] == []
    n_resampled = text.count("Each volume was resampled once")
    assert n_resampled == text.count("Baselines were") + text.count("The baseline was")
    places = [text.index(words) for words in IN_ORDER if words in text]
    assert places == sorted(places)


@pytest.mark.parametrize(
    ("make", "options", "expected", "unexpected"),
    [
        (
            _echoes,
            ("--echo-idx", "2"),
            "Only echo 2 of the multi-echo run was analyzed.",
            "were optimally combined",
        ),
        (_echoes, (), "were optimally combined", "white matter"),
        (
            _interleaved_slices,
            ("--ignore", "slicetiming"),
            "Slice-timing correction was not performed.",
            "Slice timing was corrected",
        ),
        (_interleaved_slices, (), "Slice timing was corrected to 0.4 s", "was not performed"),
    ],
)
def test_the_methods_text_describes_only_the_steps_that_ran(
    make: Callable[[BidsMaker], None],
    options: tuple[str, ...],
    expected: str,
    unexpected: str,
    tmp_path: Path,
) -> None:
    maker = BidsMaker(tmp_path / "bids")
    make(maker)
    text = planned_graph(maker, tmp_path, *PLAIN, *options).methods_text()
    assert expected in text
    assert unexpected not in text


def test_the_methods_text_ends_with_the_software(graph: Graph) -> None:
    texts = [passage.text for passage in graph.scope.texts if passage.part is Part.SOFTWARE]
    assert len(texts) == 1
    assert texts[0] in graph.methods_text().split("\n\n")[-2:]


def test_the_prior_sd_map_of_another_participant_is_a_placebo_if_it_exists(tmp_path: Path) -> None:
    maker = BidsMaker(tmp_path / "bids")
    _two_subjects(maker)
    folder = tmp_path / "out" / "sourcedata" / "models" / "sub-02"
    folder.mkdir(parents=True)
    weights = folder / "sub-02_task-tap_desc-sbl_model.safetensors"
    weights.write_bytes(b"")
    card = {"card_version": 1, "method": "sbl", "recipe": "fast", "contrast": "bold"}
    card |= {"orientation": "I-S", "factor": [2, 2, 1], "resolution": {"lowres_mm": [6, 6, 4]}}
    card["weights_sha256"] = 64 * "0"
    weights.with_suffix(".json").write_text(json.dumps(card))
    graph = planned_graph(maker, tmp_path, "--null-checks")
    placebos = [node for node in nodes_of(graph, "super_resolve") if node.scope.name == "sblOther"]
    model_files = {
        str(node).split(".")[1]: made_by(graph, node, "model_file") for node in placebos
    }
    assert model_files == {"sub_01_wf": [weights]}, "a participant's own maps are no placebo"


def test_a_control_is_made_like_a_method_and_judged_like_a_baseline(tmp_path: Path) -> None:
    maker = BidsMaker(tmp_path / "bids")
    maker.subject()
    graph = planned_graph(maker, tmp_path, "--null-checks")
    scopes = {node.scope.name for node in nodes_of(graph, "estimate_variance")}
    assert {"sdmod", "sbl"} <= scopes
    stored_scopes = {node.scope.name for node in graph.nodes if node.name == "store_model_file"}
    assert "sbl" in stored_scopes
    assert not stored_scopes & {"sdmod"}
    assert not any(
        scope.name.startswith("sdmod") and scope.name != "sdmod" for scope in graph.scope.inward()
    )


@pytest.mark.parametrize("options", [(), ("all",)])
def test_the_control_is_tested_in_every_run_and_made_for_a_reference_or_on_request(
    tmp_path: Path, options: tuple[str, ...]
) -> None:
    maker = BidsMaker(tmp_path / "bids")
    maker.subject()
    graph = planned_graph(maker, tmp_path, "--sr-method", "sbl", *options)
    where = {
        step: {node.scope.name for node in nodes_of(graph, step)}
        for step in ("estimate_variance", "super_resolve", "map_series")
    }
    assert where["estimate_variance"] == {"sdmod", "sbl"}
    assert ("sdmod" in where["super_resolve"] & where["map_series"]) == bool(options)
    [gathered] = nodes_of(graph, "gather_self_tests")
    assert [node.scope.name for node in made_by(graph, gathered, "self_tests")] == ["sdmod", "sbl"]


def test_no_network_is_trained_on_the_pair_of_a_single_slice(tmp_path: Path) -> None:
    """Prior SD maps are estimated from the run instead."""
    maker = BidsMaker(tmp_path / "bids")
    maker.subject()
    maker.bold(zooms=(6.0, 6.0, 24.0))
    maker.star("sub-01_acq-lowres", (6.0, 6.0, 24.0))
    maker.star("sub-01_acq-highres", (3.0, 3.0, 24.0))
    graph = planned_graph(maker, tmp_path)
    assert "estimate_variance" in steps_of(graph)
    assert "train_on_pair" not in steps_of(graph)


def test_every_training_of_srgan_is_alike(tmp_path: Path) -> None:
    """Method and placebo differ only in the image."""
    maker = BidsMaker(tmp_path / "bids")
    maker.subject()
    graph = planned_graph(maker, tmp_path, "--null-checks")
    trained = nodes_of(graph, "train_on_pair")
    assert sorted(node.scope.name for node in trained) == ["srgan", "srganT1w"]
    seeds = {node.scope.name: graph.settings[node]["random_seed"] for node in trained}
    assert seeds == {"srgan": 0, "srganT1w": 0}


def test_a_network_trained_on_others_never_sees_its_own_head(tmp_path: Path) -> None:
    maker = BidsMaker(tmp_path / "bids")
    _scans_of_three(maker)
    graph = planned_graph(maker, tmp_path, "--sr-target", "anat", "--set", "anat.train_on=others")
    trained = nodes_of(graph, "train_on_scans")
    assert len(trained) == 3
    for node in trained:
        participant, _ = node.scope.owner
        other_participants = {
            f"sub-{label}" for label in ("01", "02", "03") if label != participant
        }
        for name in ("heads_fine", "heads_coarse", "heads_masks"):
            assert {
                f"sub-{source.scope.owner[0]}" for source in made_by(graph, node, name)
            } == other_participants
        assert set(graph.wires[node]["heads_masks"].names) == other_participants


def test_the_overview_gets_the_calibration_and_the_viewer_the_number_of_runs(
    graph: Graph,
) -> None:
    for node in nodes_of(graph, "draw_overview"):
        calibrated = any(scope.name == "calibration_wf" for scope in node.scope.inner)
        assert graph.settings[node]["calibrated"] is calibrated
    viewers = nodes_of(graph, "show_viewer")
    runs = Counter(node.scope.outer for node in viewers)
    assert [graph.settings[node]["n_runs"] for node in viewers] == [
        runs[node.scope.outer] for node in viewers
    ]


def test_a_held_out_pair_is_scored_during_training_but_is_not_a_source_of_the_model(
    plan_once: Callable[[str], PlannedCase],
) -> None:
    graph, _ = plan_once("some of fMRIPrep, pair held out")
    (training,) = nodes_of(graph, "train_on_pair")
    (scoring,) = nodes_of(graph, "score_pair")
    for shown, scored in (
        ("second_highres", "train_highres"),
        ("second_lowres", "train_lowres"),
        ("second_mask", "pair_mask"),
    ):
        assert made_by(graph, training, shown) == made_by(graph, scoring, scored)
        assert made_by(graph, training, shown) != made_by(graph, training, scored)
    (stored,) = (settings for node, settings in _stores(graph) if node.name == "store_model_file")
    assert any("acq-highres" in uri for uri in stored["sources"])
    assert not any("run-2" in uri for uri in stored["sources"])
