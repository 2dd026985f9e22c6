"""The whole graph for data sets of every shape: it can be built, and no two steps write the same
file.
"""

import json
import pickle
import pkgutil
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
from bidsmaker import BidsMaker
from fmriprepmaker import FmriprepMaker, prepared
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

import bids_sr.steps
from bids_sr.boilerplate import bibliography
from bids_sr.config.spaces import FUNC
from bids_sr.pipeline.graph import Graph
from bids_sr.pipeline.listing import who_makes_what
from bids_sr.pipeline.nipype_workflow import workflow_of
from bids_sr.pipeline.nodes import Handle, Node
from bids_sr.pipeline.step import Part, Step
from bids_sr.pipeline.store import derivative_path, store
from bids_sr.report.methods_text import _missing_keys, methods_html
from bids_sr.sr.method import get_method
from bids_sr.sr.models.model import save_model
from bids_sr.workflows.participant import graph_of, primary_series
from bids_sr.workflows.run_plan import RunPlan

HIGH, LOW = (3.0, 3.0, 4.0), (6.0, 6.0, 4.0)
NOBODY_TAKES = {"store.stored", "rebuild_motion.motion"}
"""Who takes the motion that is rebuilt from a table of confounds takes the confounds from that
table, too.
"""
OF_PYTHON_ALONE = {"judge.audience"}
"""Settings that only the interface for Python gives."""
GIVEN_IN_PYTHON_ALONE = {
    "import_motion.given_boldref",
    "motion_confounds.known_confounds",
    "register_calibration.known_calibration_xfm",
}
STEPS_OF_PYTHON_ALONE = {"find_motion_left"}
EXTENSIONS = {
    "xfm": ".txt",
    "model": ".safetensors",
    "log": ".tsv",
    "metrics": ".tsv",
    "timeseries": ".tsv",
}
TELLS_APART = ("series_name", "fwhm_mm", "method", "method_label", "space_entities")


def _without(maker: BidsMaker, *patterns: str) -> None:
    for pattern in patterns:
        for path in maker.root.rglob(pattern):
            path.unlink()


def _two_subjects(maker: BidsMaker) -> None:
    maker.subject("01")
    maker.subject("02")


def _two_sessions(maker: BidsMaker) -> None:
    """Each session has a pair of its own: two models."""
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
    """One fine image and two BOLD resolutions: two pairs that share their high-resolution member
    and the session.
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
    """Neither a pair nor anything else than the run, large enough for patches."""
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
    """A pair, and a participant with high-resolution scans of two sessions only."""
    _scans_and_lesions(maker)
    for session in ("a", "b"):
        maker.image(f"sub-02_ses-{session}_T1w.nii.gz", "anat", (3.0, 3.0, 3.0))


def _lowres_scans_and_a_model(maker: BidsMaker) -> None:
    """Two sessions with scans of low resolution only, and the card of a model of others' scans."""
    for session in ("a", "b"):
        for contrast in ("T1w", "T2w"):
            maker.image(f"sub-01_ses-{session}_{contrast}.nii.gz", "anat", (6.0, 6.0, 6.0))
    network = get_method("unet").recipes["fast"].build_generator(2, (1.0, 1.0, 1.0))
    card: dict[str, object] = {"method": "unet", "recipe": "fast", "factor": [1.0, 1.0, 1.0]}
    card |= {"contrast": "T1w+T2w", "orientation": "I-S", "channels": 2}
    card |= {"resolution": {"lowres_mm": [3.0, 3.0, 3.0]}}
    save_model(maker.root.parent / "fused", network.state_dict(), card)


def _all_references(maker: BidsMaker) -> None:
    """The run measured at the high resolution too, activation that is known, and a calibration
    with events.
    """
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
    """Two programs have made a series of the run: one as it was acquired, one on a finer grid,
    corrected in time.

    There are a reference, a field map, and another run of the task.
    """
    _fmriprep(maker)
    maker.bold("sub-01_task-tap_run-2", sidecar={"SliceTiming": TIMES})
    maker.events("sub-01_task-tap_run-2")
    (made := BidsMaker(maker.root.parent / "made")).bold("sub-01_task-tap_desc-denoised")
    made.bold("sub-01_task-tap_desc-finer", zooms=HIGH, sidecar={"SliceTimingCorrected": True})


def _fmriprep(maker: BidsMaker) -> None:
    """Another program has estimated everything, the field too, and there is a reference."""
    _all_references(maker)
    _with_field(maker)


def _with_field(maker: BidsMaker, version: str = "24.1.1") -> FmriprepMaker:
    bold = maker.bold(
        sidecar={"PhaseEncodingDirection": "j", "TotalReadoutTime": 0.05, "SliceTiming": TIMES}
    )
    found = prepared(maker, version=version)
    found.surfaces(maker.path("sub-01_T1w.nii.gz", "anat"))
    found.field(bold, np.zeros((8, 8, 8)), np.diag([6.0, 6, 6, 1]))
    return found


def _fmriprep_20(maker: BidsMaker) -> None:
    """An older version leaves parameters of head motion in place of transforms."""
    maker.subject()
    _with_field(maker, "20.2.7")


def _some_of_fmriprep(maker: BidsMaker) -> None:
    """Neither confounds nor transforms to the template; and two pairs, one of them held out."""
    maker.subject()
    found = prepared(maker).root
    for path in (*found.rglob("*confounds*"), *found.rglob("*MNI*xfm*")):
        path.unlink()
    maker.star("sub-01_acq-highres_run-2", HIGH)
    maker.star("sub-01_acq-lowres_run-2", LOW)


def _runs_of_two_resolutions(maker: BidsMaker) -> None:
    """Two runs of a task that cannot be combined."""
    for run, zooms in ((1, (6.0, 6.0, 4.0)), (2, (4.0, 4.0, 4.0))):
        maker.bold(f"sub-01_task-tap_run-{run}", zooms=zooms, n_volumes=150)
        maker.events(f"sub-01_task-tap_run-{run}")


def _at_rest(maker: BidsMaker) -> None:
    maker.bold(n_volumes=90)
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
SPACES = ["MNI152NLin2009cAsym:res-2:res-1", "T1w", "MNI152NLin6Asym"]
SURFACES = ["fsnative", "fsaverage:den-10k"]
PLAIN = ["--sr-method", "bspline", "zerofill", "--sr-factor", "2"]
CASES: dict[str, tuple[Callable[[BidsMaker], None], list[str]]] = {
    "two subjects, baselines all": (
        _two_subjects,
        ["--baselines", "all", "--contrasts", "thumb-little", "--level", "full"],
    ),
    "two sessions, output spaces": (
        _two_sessions,
        ["--output-spaces", "func", *SPACES, "fsaverage:den-10k"],
    ),
    "two sessions, one of them": (_two_sessions, ["--session-label", "b", "--roi", "brain"]),
    "slice timing": (_interleaved_slices, ["--sr-method", "bspline"]),
    "two runs, reuse": (
        _two_runs_and_a_model,
        ["--model-source", "reuse", "--activation", "glm", "--level", "minimal"],
    ),
    "two runs that cannot be combined": (_runs_of_two_resolutions, PLAIN),
    "two resolutions": (_two_tasks_of_two_resolutions, ["--smoothing", "paper"]),
    "no T1w": (_no_t1w_and_room_for_patches, ["--activation", "cc", "--recipe", "paper-mse"]),
    "fine image alone": (_fine_only, ["--threshold", "quarter", "3.1"]),
    "fine image alone, without acq": (_unnamed_fine_only, ["--data-consistency", "enforce"]),
    "no pair": (_no_pair, [*PLAIN, "--output-spaces", "MNI152NLin2009aSym"]),
    "pair and interpolation alone": (_two_runs, ["--sr-method", "zerofill"]),
    "guided baselines without a network": (
        _two_runs,
        ["--sr-method", "inject", "ratio", "--dummy-scans", "2"],
    ),
    "neither pair nor T1w": (_neither_pair_nor_t1w, PLAIN),
    "two subjects, all placebos": (
        _two_subjects,
        ["--null-checks", "--n-ensemble", "2", "--roi-grow"],
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
            "--baselines",
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
            "--anat-align",
            "template-warp",
            "--anat-mask",
            "intracranial",
            "--lesion-template",
            "{root}/lesions.nii.gz",
        ],
    ),
    "structural scans, deformed": (
        _scans_and_edited_mask,
        ["--sr-target", "anat", "--anat-align", "nonlinear", "--wmh-reference", "{root}/edited"],
    ),
    "structural scans of one resolution": (
        _scans_and_controls,
        [
            "--sr-target",
            "anat",
            "--anat-control",
            "--anat-scale",
            "range",
            "--lesion-template",
            "{root}/lesions.nii.gz",
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
        ["--sr-method", "bspline", "--input-smoothing", "3.5", "--smoothing", "0"],
    ),
    "structural scans of others": (
        _scans_of_three,
        ["--sr-target", "anat", "--train-on", "others"],
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
            "--n-ensemble",
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
        ["--omp-nthreads", "2", "--ignore", "slicetiming", "--overlap", "auto"],
    ),
    "all references": (
        _all_references,
        ["--truth", "{root}/truth", "--n-ensemble", "2", "--precision", "bf16"],
    ),
    "series of other programs": (
        _other_programs,
        [
            *[*PLAIN, *PREPARED, "--truth", "{root}/truth"],
            *[
                "--compare",
                "one={root}/made:desc-denoised",
                "--compare",
                "two={root}/made:desc-finer",
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
        [*PREPARED, "--sr-method", "srgan", "--pair-holdout"],
    ),
    "an older fMRIPrep": (_fmriprep_20, [*PREPARED, "--sr-method", "bspline"]),
    "at rest": (_at_rest, ["--seeds", "motor", "Calcarine_L", "--seed-series", "own"]),
    "echoes at rest without T1w": (_echoes, PLAIN),
    "components, censored": (
        _echoes,
        [*PLAIN, "--fd-censor", "0.5", "--band-pass", "0.01", "0.1"],
    ),
    "at rest with a pair": (_at_rest_with_a_pair, ["--sr-method", "inject"]),
    "task, censored and grown": (
        _two_runs,
        ["--sr-method", "bspline", "--roi-grow", "--fd-censor", "0.5", "--drift", "legendre:3"],
    ),
    "series of other programs, censored": (
        _other_programs,
        [
            *[*PLAIN, *PREPARED, "--truth", "{root}/truth", "--enorm-censor", "0.3"],
            *["--compare", "one={root}/made:desc-denoised"],
        ],
    ),
}


class PlannedCase(NamedTuple):
    """Graph of a case, and what is asked for of its runs, by the name of the run."""

    graph: Graph
    plans: dict[str, RunPlan]


def plan_case(case: str, root: Path) -> PlannedCase:
    """Plan the data set of a case, which is made below `root`."""
    make, options = CASES[case]
    maker = BidsMaker(root / "bids")
    make(maker)
    settings, plan = planned_call(maker, root, *(each.format(root=root) for each in options))
    return PlannedCase(graph_of(settings, plan, VERSION), run_plans(settings, plan))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the data sets of all cases."""
    return tmp_path_factory.mktemp("graphs")


@pytest.fixture(scope="module")
def made(root: Path) -> Callable[[str], PlannedCase]:
    """Plan a case, once."""

    @cache
    def make(case: str) -> PlannedCase:
        return plan_case(case, root / list_file(case).stem)

    return make


@pytest.fixture(params=CASES, scope="module")
def case(request: pytest.FixtureRequest) -> str:
    """Name of a case."""
    return str(request.param)


@pytest.fixture(scope="module")
def graph(case: str, made: Callable[[str], PlannedCase]) -> Graph:
    """Graph of a case."""
    return made(case).graph


@pytest.fixture(scope="module")
def plans(case: str, made: Callable[[str], PlannedCase]) -> dict[str, RunPlan]:
    """What is asked for of the runs of a case."""
    return made(case).plans


def test_the_graph_is_as_listed(case: str, graph: Graph, root: Path) -> None:
    """`python tests/graphlists.py` writes the lists; review what changed in them."""
    folder = root / list_file(case).stem
    expected = list_file(case).read_text(encoding="utf-8")
    assert graph_list(graph, folder).splitlines() == expected.splitlines()


def test_there_is_a_list_of_each_case_and_no_other() -> None:
    assert set(LISTS.iterdir()) == {list_file(case) for case in CASES}


def _stores(graph: Graph) -> Iterator[tuple[Node, dict[str, Any]]]:
    yield from ((node, graph.settings[node]) for node in graph.nodes if node.step is store)


def test_no_two_steps_write_the_same_file(graph: Graph) -> None:
    written: Counter[str] = Counter()
    for node, told in _stores(graph):
        own, [maker] = told["own_entities"], graph.wires[node]["files"].handles
        tells = {} if own is not None else {"by": maker.name, "of": _about(graph, maker.source)}
        # another extension
        card = {"card": maker.name} if own is not None and own["suffix"] == "model" else {}
        names = {**told["entities"], **(own or {}), **tells, **card}
        written[json.dumps(names, sort_keys=True)] += told["in_output"]
        for series in told.get("datasets", ()) if told["exported_as"] is not None else ():
            written[
                json.dumps({**names, **told["exported_as"], "series": series}, sort_keys=True)
            ] += 1
    assert len(written) > 10
    assert [name for name, times in written.items() if times > 1] == []


def test_a_name_in_both_kinds_of_data_sets_is_one_file(graph: Graph) -> None:
    """A program that is pointed at all results finds no other series or brain than in the data set
    made for it.
    """
    makers: dict[str, set[Handle]] = {}
    for node, told in _stores(graph):
        own = told["own_entities"]
        names = [told["entities"] | own] if own is not None and told["in_output"] else []
        if own is not None and told["exported_as"] is not None:
            names.append(
                {
                    key: label
                    for key, label in {**told["entities"], **own, **told["exported_as"]}.items()
                    if label
                }
            )
        for name in names:
            makers.setdefault(json.dumps(name, sort_keys=True), set()).update(
                graph.wires[node]["files"].handles
            )
    assert {name: len(found) for name, found in makers.items() if len(found) > 1} == {}


OF_RUN = {
    "desc-preproc_bold",
    "desc-brain_mask",
    "boldref",
    "desc-confounds_timeseries",
    "from-orig_to-boldref_mode-image_desc-hmc_xfm",
}
OF_RUN_WITH_T1W = {
    f"from-{a}_to-{b}_mode-image_desc-coreg_xfm"
    for a, b in (("T1w", "boldref"), ("boldref", "T1w"))
}
IN_FUNC = {"desc-preproc_bold", "desc-brain_mask", "boldref"}
OF_T1W = {"desc-preproc_T1w", "desc-brain_mask", "dseg", "tissue_maps"}


def test_other_programs_find_all_that_they_ask_for(
    graph: Graph, plans: dict[str, RunPlan]
) -> None:
    """Of each run, and of the anatomy in every data set that has a run of the participant."""
    found: dict[tuple[str, str], set[str]] = {}  # by data set and scope
    for node, told in _stores(graph):
        for series in told.get("datasets", ()) if told["exported_as"] is not None else ():
            named = {
                **(told["own_entities"] or {"suffix": node.name.removeprefix("keep_")}),
                **told["exported_as"],
            }
            own = "_".join(v if k == "suffix" else f"{k}-{v}" for k, v in named.items() if v)
            of_series = node.scope.name in (series, f"{series}_shown")
            place = node.scope.outer if of_series else node.scope
            found.setdefault((series, place.path if place else ""), set()).add(own)
    runs = {scope.run: scope for scope in graph.scope.inward() if scope.run}
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
        of_run |= {"space_series"} if plan.elsewhere else set()
        assert found.pop((series, run.path)) == of_run | (OF_RUN_WITH_T1W if anat else set())
        shown = [space for space in plan.spaces if space.name != FUNC and not space.is_surface]
        for entities in (dict(each.entities) for each in shown):
            space = "_".join(f"{key}-{label}" for key, label in entities.items())
            scope = "_".join(["shown_in", *entities.values()])
            assert found.pop((series, f"{run.path}.{scope}_wf")) == {
                f"{space}_boldref",
                f"{space}_desc-brain_mask",
            }
            if anat is not None and not space.startswith("space-T1w"):
                scope = "_".join(["anat_in", *entities.values()])
                assert found[series, f"{anat.path}.{scope}_wf"] == {f"{space}_desc-brain_mask"}, (
                    "XCP-D asks for it"
                )
        if anat is not None:
            there = found[series, anat.path]
            assert there >= OF_T1W
            assert len(there - OF_T1W) == 2, "to the template and back"
    assert all(
        scope.endswith("anat_wf") or scope.split(".")[-1].startswith(("template_", "anat_in_"))
        for _, scope in found
    )


@pytest.mark.parametrize(
    ("options", "spaces"), [([], 0), (["--output-spaces", *SPACES], 4)], ids=["func", "several"]
)
def test_results_in_the_spaces_that_are_asked_for(
    tmp_path: Path, options: list[str], spaces: int
) -> None:
    """Of the primary series alone, of the maps of all series; nipype finds an order in which the
    scopes can run.
    """
    (maker := BidsMaker(tmp_path / "bids")).subject()
    call = planned_call(maker, tmp_path, "--sr-method", "bspline", "zerofill", *options)
    graph, plans = graph_of(*call, VERSION), run_plans(*call)
    assert workflow_of(graph, base_dir=tmp_path, need_gb=lambda need: 0.1).list_node_names()
    assert all(plan.in_func == (not options) for plan in plans.values())
    grids = [
        node for step in ("grid_in_t1w", "grid_in_template") for node in nodes_of(graph, step)
    ]
    assert len(grids) == spaces * len(plans)
    for node in nodes_of(graph, "super_resolve"):
        _, run = node.scope.owner
        wanted = spaces if node.scope.name == plans[run].primary else 0
        assert len(made_by(graph, node, "space_grids")) == wanted
    assert len(nodes_of(graph, "maps_to_spaces")) == (
        len(nodes_of(graph, "map_series")) if spaces else 0
    )
    assert len(nodes_of(graph, "normalize_t1w")) == (2 if spaces else 1), "once for each template"


@pytest.mark.parametrize("spheres", [True, False])
def test_maps_alone_come_to_surfaces(tmp_path: Path, spheres: bool) -> None:
    """By the participant's own spheres where there are some; the series stays in its space."""
    (maker := BidsMaker(tmp_path / "bids")).subject()
    made = prepared(maker)
    made.surfaces(maker.path("sub-01_T1w.nii.gz", "anat"))
    for sphere in () if spheres else made.root.rglob("*_sphere.surf.gii"):
        sphere.unlink()
    for path in [*made.root.rglob("*MNI152NLin2009cAsym*_xfm.h5")]:
        path.rename(str(path).replace("NLin2009cAsym", "NLin6Asym"))
    options = [each.format(root=tmp_path) for each in (*PREPARED, "--output-spaces", *SURFACES)]
    call = planned_call(maker, tmp_path, "--sr-method", "bspline", *options)
    graph = graph_of(*call, VERSION)
    assert workflow_of(graph, base_dir=tmp_path, need_gb=lambda need: 0.1).list_node_names()
    mapped = nodes_of(graph, "map_series")
    onto = nodes_of(graph, "maps_to_surfaces")
    assert len(onto) == 2 * len(mapped)
    assert all(len(made_by(graph, node, "maps")) == 1 for node in onto)
    assert {graph.settings[each]["space_entities"].get("den", "") for each in onto} == {"", "10k"}
    uris = {uri for each in onto for uri in graph.settings[each]["surface_uris"]}
    assert {uri.partition(":")[0] for uri in uris} == {"bids", "https"}
    assert len(uris) == 4, "of each hemisphere"
    [placing] = nodes_of(graph, "place_fsaverage")
    assert ("given_spheres" in graph.wires[placing]) == spheres
    assert bool(nodes_of(graph, "normalize_t1w")) != spheres, "only what leads to fsaverage"
    [drawn, other] = nodes_of(graph, "draw_surfaces")
    assert drawn.scope.outer is other.scope.outer, "of the primary series"
    assert all(plan.in_func for plan in run_plans(*call).values())
    assert not nodes_of(graph, "maps_to_spaces")


def test_spheres_without_the_whole_ribbon_are_not_used(tmp_path: Path) -> None:
    """Pial surfaces that are missing: fsaverage is node through MNI152."""
    (maker := BidsMaker(tmp_path / "bids")).subject()
    made = prepared(maker)
    made.surfaces(maker.path("sub-01_T1w.nii.gz", "anat"))
    for pial in made.root.rglob("*_pial.surf.gii"):
        pial.unlink()
    options = [each.format(root=tmp_path) for each in (*PREPARED, "--output-spaces", SURFACES[-1])]
    graph = planned_graph(maker, tmp_path, "--sr-method", "bspline", *options)
    [placing] = nodes_of(graph, "place_fsaverage")
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
    ids=lambda each: getattr(each, "__name__", str(each)),
)
def test_the_primary_series_is_of_the_last_method(
    tmp_path: Path, make: Callable[[BidsMaker], None], options: list[str], primary: str
) -> None:
    """B-spline where no method was asked for, and the last baseline where that was not asked for
    either.
    """
    make(maker := BidsMaker(tmp_path / "bids"))
    call = planned_call(maker, tmp_path, *options)
    assert primary_series(*call, VERSION) == [primary]
    graph = graph_of(*call, VERSION)
    [*means] = nodes_of(graph, "average_series")
    assert {node.scope.name for node in means} == {f"{primary}_shown"}


def _about(graph: Graph, node: Node) -> list[str]:
    """What the names of its files tell: series, smoothing and method, its own or those of the maps
    that it moves.
    """
    known = graph.settings[node]
    moves = node.step.__name__ in ("maps_to_spaces", "maps_to_surfaces")
    moved = made_by(graph, node, "maps") if moves else []
    own = [str(known[name]) for name in TELLS_APART if name in known]
    return own + [word for each in moved for word in _about(graph, each)]


def test_everything_that_is_stored_names_what_it_is_made_of(graph: Graph) -> None:
    """Files of the data sets that it is made from, or what another step stores, never itself."""
    for node, told in _stores(graph):
        [maker] = graph.wires[node]["files"].handles
        if maker.port is None or maker.port.kind.drawn:
            continue
        assert told["sources"], str(node)
        assert all(
            uri.split(":")[0] in ("bids", "pkg", "https", "file") for uri in told["sources"]
        ), str(node)
        assert len(told["sources"]) == len(set(told["sources"])), str(node)


def test_every_fixed_name_can_be_made(graph: Graph) -> None:
    """An entity that no pattern knows would stop the run at its very end."""
    for _, told in _stores(graph):
        if (own := told["own_entities"]) is not None:
            full = {
                **told["entities"],
                **own,
                "extension": EXTENSIONS.get(own["suffix"], ".nii.gz"),
            }
            assert derivative_path(full).startswith(("sub-", "sourcedata/models/sub-"))


def test_dummies_are_told_to_every_step_that_leaves_them_out(graph: Graph) -> None:
    """A step that is not told would take it that there are none."""
    for node in graph.nodes:
        if "n_dummy" in node.step.settings:
            assert [each.step.__name__ for each in made_by(graph, node, "n_dummy")] == [
                "count_dummies"
            ]


@dataclass
class Seen:
    """Names over the graphs of all cases, as ``step.name``: inputs, outputs and settings of steps,
    and those that a call gives, or that another step takes.
    """

    inputs: set[str] = field(default_factory=set)
    connected: set[str] = field(default_factory=set)
    outputs: set[str] = field(default_factory=set)
    taken: set[str] = field(default_factory=set)
    settings: set[str] = field(default_factory=set)
    given: set[str] = field(default_factory=set)

    def look(self, graph: Graph) -> None:
        """Add the names of a graph."""
        for node in graph.nodes:
            step, wires = node.step.__name__, graph.wires[node]
            self.inputs |= {f"{step}.{name}" for name in node.step.inputs}
            self.connected |= {f"{step}.{name}" for name in wires}
            self.outputs |= {f"{step}.{name}" for name in node.step.outputs}
            self.settings |= {f"{step}.{name}" for name in node.step.settings}
            self.given |= {f"{step}.{name}" for name in {*node.settings, *wires}}
            self.taken |= {
                f"{handle.node.step.__name__}.{handle.name}"
                for wire in wires.values()
                for handle in wire.handles
                if handle.node is not None
            }


@pytest.fixture(scope="module")
def seen(made: Callable[[str], PlannedCase]) -> Seen:
    """All cases together."""
    names = Seen()
    for case in CASES:
        names.look(made(case).graph)
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
    made = planned_graph(maker, tmp_path, "--slice-time-ref", "0.25")
    for name in ("map_series", "measure_effects"):
        (start_time,) = {made.settings[one]["start_time"] for one in nodes_of(made, name)}
        assert start_time == pytest.approx(moment)


def test_every_setting_with_a_default_is_given_by_some_workflow(seen: Seen) -> None:
    """What a call leaves out has its default, which no type checker reports."""
    assert seen.settings - seen.given == OF_PYTHON_ALONE


def test_every_input_that_may_be_missing_is_given_for_some_data_set(seen: Seen) -> None:
    assert seen.inputs - seen.connected == GIVEN_IN_PYTHON_ALONE


def test_what_a_step_makes_is_stored_or_taken_by_another(seen: Seen) -> None:
    assert seen.outputs - seen.taken == NOBODY_TAKES


def test_every_step_is_called_for_some_data_set(seen: Seen) -> None:
    """And pickle finds its interface, and those of what it takes and makes, as a worker asks for
    them.
    """
    every = {**dict(_every_step()), "store": store}
    assert set(every) == {name.partition(".")[0] for name in seen.outputs} | STEPS_OF_PYTHON_ALONE
    for step in every.values():
        for kind in (step.interface, step.interface.input_spec, step.interface.output_spec):
            assert pickle.loads(pickle.dumps(kind)) is kind


def _every_step() -> Iterator[tuple[str, Step[..., Any]]]:
    for module in pkgutil.walk_packages(bids_sr.steps.__path__, "bids_sr.steps."):
        for name, value in vars(import_module(module.name)).items():
            if isinstance(value, Step) and value.__module__ == module.name:
                assert name == value.__name__
                yield name, value


IN_ORDER = (
    "T1-weighted (T1w) image was",
    "pair of T2*-weighted images",
    "Head-motion parameters",
    "acquired series was resampled",
    "following confounds were",
    "All other series were resampled",
    "following baselines were",
    "with a Gaussian prior",
    "was mapped in all series",
    "split into two halves",
    "compared with known activation",
)


def test_the_methods_text_cites_what_exists_says_nothing_twice_and_follows_the_processing(
    graph: Graph,
) -> None:
    text = graph.methods_text()
    assert text.startswith("Results included in this manuscript come from *bids-sr* 0, ")
    html = methods_html(text, bibliography()).partition('id="ref-')[0]
    assert "@" not in html, "a citation that was not resolved"
    assert _missing_keys(text, bibliography()) == []
    shown = re.sub(r"<[^>]+>", "", html)
    assert re.findall(r".{30}\([^()]*\(|.{30}\) \(.{9}", shown) == [], (
        "parentheses in or behind parentheses"
    )
    sentences = [
        each
        for paragraph in text.split("\n\n")
        for each in re.split(r"(?<=[a-z)]\.) (?=[A-Z])", paragraph)
    ]
    assert [sentence for sentence, times in Counter(sentences).items() if times > 1] == []
    assert (
        text.count("aseline")
        <= text.count("All other series were resampled")
        == text.count("following baselines were")
    )
    places = [text.index(words) for words in IN_ORDER if words in text]
    assert places == sorted(places)


@pytest.mark.parametrize(
    ("make", "options", "said", "not_said"),
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
            "Slice-timing correction was performed",
        ),
        (_interleaved_slices, (), "Slice-timing correction was performed", "was not performed"),
    ],
)
def test_the_methods_text_says_what_was_done_and_nothing_else(
    make: Callable[[BidsMaker], None],
    options: tuple[str, ...],
    said: str,
    not_said: str,
    tmp_path: Path,
) -> None:
    maker = BidsMaker(tmp_path / "bids")
    make(maker)
    text = planned_graph(maker, tmp_path, *PLAIN, *options).methods_text()
    assert said in text
    assert not_said not in text


def test_every_methods_text_has_its_part(graph: Graph) -> None:
    """What has none would stand in the opening."""
    passages = graph.scope.texts
    texts = [one.text for one in passages if one.part is Part.OPENING and one.text]
    assert len(texts) == 1


def test_another_subjects_map_is_a_placebo_where_there_is_one(tmp_path: Path) -> None:
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
    others = [node for node in nodes_of(graph, "super_resolve") if node.scope.name == "sblOther"]
    given = {str(node).split(".")[1]: made_by(graph, node, "model_file") for node in others}
    assert given == {"sub_01_wf": [weights]}, "a participant's own maps are no placebo"


def test_a_control_is_made_like_a_method_and_judged_like_a_baseline(tmp_path: Path) -> None:
    maker = BidsMaker(tmp_path / "bids")
    maker.subject()
    graph = planned_graph(maker, tmp_path, "--null-checks", "--n-ensemble", "2")
    scopes = {node.scope.name for node in nodes_of(graph, "estimate_variance")}
    assert {"sdmod", "sbl"} <= scopes
    kept = {node.scope.name for node in graph.nodes if node.name == "keep_model_file"}
    assert "sbl" in kept
    assert not kept & {"sdmod", "sblSeed1"}
    assert not any(
        scope.name.startswith("sdmod") and scope.name != "sdmod" for scope in graph.scope.inward()
    )


@pytest.mark.parametrize("options", [(), ("--baselines", "all")])
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
    [gathered] = nodes_of(graph, "gather_tested")
    assert [made.scope.name for made in made_by(graph, gathered, "tested")] == ["sdmod", "sbl"]


def test_no_network_is_trained_on_the_pair_of_a_single_slice(tmp_path: Path) -> None:
    """The run is worked on all the same."""
    maker = BidsMaker(tmp_path / "bids")
    maker.subject()
    maker.bold(zooms=(6.0, 6.0, 24.0))
    maker.star("sub-01_acq-lowres", (6.0, 6.0, 24.0))
    maker.star("sub-01_acq-highres", (3.0, 3.0, 24.0))
    graph = planned_graph(maker, tmp_path)
    assert "estimate_variance" in steps_of(graph)
    assert "train_on_pair" not in steps_of(graph)


def test_every_training_of_srgan_is_alike(tmp_path: Path) -> None:
    """That of the method, of its ensemble and of its placebo: what begins otherwise differs by
    that too.
    """
    maker = BidsMaker(tmp_path / "bids")
    maker.subject()
    graph = planned_graph(maker, tmp_path, "--null-checks", "--n-ensemble", "2")
    trained = nodes_of(graph, "train_on_pair")
    assert sorted(node.scope.name for node in trained) == ["srgan", "srganSeed1", "srganT1w"]
    seeds = {node.scope.name: graph.settings[node]["random_seed"] for node in trained}
    assert seeds == {"srgan": 0, "srganSeed1": 1, "srganT1w": 0}


def test_a_network_trained_on_others_never_sees_its_own_head(tmp_path: Path) -> None:
    maker = BidsMaker(tmp_path / "bids")
    _scans_of_three(maker)
    graph = planned_graph(maker, tmp_path, "--sr-target", "anat", "--train-on", "others")
    trained = nodes_of(graph, "train_on_scans")
    assert len(trained) == 3
    for node in trained:
        own, _ = node.scope.owner
        others = {f"sub-{label}" for label in ("01", "02", "03") if label != own}
        for name in ("heads_fine", "heads_coarse", "heads_masks"):
            assert {f"sub-{each.scope.owner[0]}" for each in made_by(graph, node, name)} == others
        assert set(graph.wires[node]["heads_masks"].names) == others


def test_the_first_screen_knows_of_a_calibration_and_the_viewer_of_other_runs(
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


def test_the_listing_has_every_step_and_none_before_what_it_is_made_of(graph: Graph) -> None:
    lines = who_makes_what(graph)
    assert {line.name for line in lines if line.makes} == {
        each.name for each in graph.nodes if each.step is not store
    }
    order = [line.name for line in lines]
    for earlier, later in (("load_template", "define_region"), ("super_resolve", "compare_maps")):
        assert later not in order or order.index(earlier) < order.index(later)


def test_a_held_out_pair_is_in_the_log_of_training_and_no_source_of_the_model(
    made: Callable[[str], PlannedCase],
) -> None:
    graph, _ = made("some of fMRIPrep, pair held out")
    (training,) = nodes_of(graph, "train_on_pair")
    (scoring,) = nodes_of(graph, "score_pair")
    for shown, scored in (
        ("second_highres", "train_highres"),
        ("second_lowres", "train_lowres"),
        ("second_mask", "pair_mask"),
    ):
        assert made_by(graph, training, shown) == made_by(graph, scoring, scored)
        assert made_by(graph, training, shown) != made_by(graph, training, scored)
    (stored,) = (known for node, known in _stores(graph) if node.name == "keep_model_file")
    assert any("acq-highres" in uri for uri in stored["sources"])
    assert not any("run-2" in uri for uri in stored["sources"])
