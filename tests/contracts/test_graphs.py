"""What the graph of a call must contain: steps for this data set and these options, one producer
of each stored file, and no data where they must not be.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from data.dataset import BidsMaker
from data.fmriprep import prepared
from graphmaker import (
    VERSION,
    made_by,
    nodes_of,
    planned_call,
    planned_graph,
    steps_of,
)

from bids_sr.engine.graph import Graph
from bids_sr.engine.nodes import Node
from bids_sr.engine.store import store
from bids_sr.workflows.participant import list_primary_series

HIGH = (3.0, 3.0, 4.0)
TIMES = {"SliceTiming": [0.0, 0.5, 0.2, 0.7, 0.3, 0.8]}
SECONDS = [float(volume) for volume in range(30)]
PREPARED = "-d fmriprep={root}/prep"


def remove(maker: BidsMaker, pattern: str) -> None:
    """Remove files of a data set."""
    for path in maker.root.rglob(pattern):
        path.unlink()


def one_run(maker: BidsMaker) -> None:
    """Write a pair, a T1w image, and a run with slice timing."""
    maker.subject()
    maker.bold(sidecar=TIMES)


def no_pair(maker: BidsMaker) -> None:
    one_run(maker)
    remove(maker, "*_T2starw.*")


def no_t1w(maker: BidsMaker) -> None:
    one_run(maker)
    remove(maker, "*_T1w.*")


def calibration_run(maker: BidsMaker) -> None:
    """Add a high-resolution run."""
    one_run(maker)
    maker.bold("sub-01_task-tap_acq-highres", zooms=HIGH, n_volumes=20)
    maker.events("sub-01_task-tap_acq-highres")


def add_truth(maker: BidsMaker) -> None:
    """Write a series with known activation beside the data set."""
    truth = BidsMaker(maker.root.parent / "truth")
    truth.bold(zooms=HIGH, sidecar=TIMES)
    truth.events()


def known_activation(maker: BidsMaker) -> None:
    one_run(maker)
    add_truth(maker)


def high_resolution_only(maker: BidsMaker) -> None:
    """Write a high-resolution image without its partner, and runs of two resolutions."""
    one_run(maker)
    remove(maker, "*_T2starw.*")
    maker.bold("sub-01_task-rhythm", zooms=(4.0, 4.0, 4.0), n_volumes=150)
    maker.events("sub-01_task-rhythm")
    maker.star("sub-01_acq-highres", (2.0, 2.0, 4.0))


def at_rest(maker: BidsMaker) -> None:
    maker.bold(n_volumes=120, sidecar=TIMES)
    maker.t1w()


def one_slice(maker: BidsMaker) -> None:
    maker.subject()
    zooms = (6.0, 6.0, 24.0)
    maker.bold(zooms=zooms)
    maker.star("sub-01_acq-lowres", zooms)
    maker.star("sub-01_acq-highres", (3.0, 3.0, 24.0))


def echoes_at_rest(maker: BidsMaker) -> None:
    """Write two echoes without events."""
    for number, te in enumerate((0.012, 0.028), 1):
        maker.bold(
            f"sub-01_task-tap_echo-{number}", sidecar={"EchoTime": te, **TIMES}, n_volumes=90
        )


def two_sessions(maker: BidsMaker) -> None:
    """Write two participants, one with two sessions that have a pair each."""
    maker.subject("01", session="a")
    maker.subject("01", session="b")
    maker.subject("02")


def everything(maker: BidsMaker) -> None:
    """Write everything that a run can have: a calibration run, another run of the task,
    derivatives of fMRIPrep with surfaces, and known activation.
    """
    calibration_run(maker)
    maker.bold(sidecar={"PhaseEncodingDirection": "j", "TotalReadoutTime": 0.05, **TIMES})
    maker.bold("sub-01_task-tap_run-2", sidecar=TIMES)
    maker.events("sub-01_task-tap_run-2")
    prepared(maker).surfaces(maker.path("sub-01_T1w.nii.gz", "anat"))
    add_truth(maker)


def scans(maker: BidsMaker) -> None:
    """Write scans of two resolutions of three participants, and a map of lesions."""
    for label in ("01", "02", "03"):
        for contrast in ("T1w", "T2w", "FLAIR"):
            for name, mm in (("fine", 3.0), ("coarse", 6.0)):
                maker.image(
                    f"sub-{label}_ses-a_acq-{name}_{contrast}.nii.gz", "anat", (mm, mm, mm)
                )
    affine = np.diag([10.0, 10, 10, 1])
    affine[:3, 3] = -45
    lesions = nib.Nifti1Image(np.ones((10, 10, 10), np.uint8), affine)
    lesions.to_filename(maker.root.parent / "lesions.nii.gz")


def graph_of(make: Callable[[BidsMaker], None], options: str, root: Path) -> Graph:
    """Return the graph of a data set and the options of a call."""
    make(maker := BidsMaker(root / "bids"))
    return planned_graph(maker, root, *options.format(root=root).split())


CALLS = {
    "two sessions": (
        two_sessions,
        "--sr-method auto all --level full"
        " --output-spaces func MNI152NLin2009cAsym:res-2:res-1 T1w",
    ),
    "everything": (
        everything,
        f"{PREPARED} --truth {{root}}/truth --sr-method sbl inject --output-spaces func T1w"
        " fsnative fsaverage:den-10k --censor enorm:.3",
    ),
    "echoes at rest": (
        echoes_at_rest,
        "--sr-method bspline zerofill --sr-factor 2 --censor fd:.5",
    ),
    "neither pair nor T1w": (no_pair, "--sr-method tv sbl --sr-factor 2"),
    "scans": (
        scans,
        "--sr-target anat --sr-method attunet unet all --set anat.align=template-warp"
        " anat.lesion_template={root}/lesions.nii.gz anat.split=40,11,10",
    ),
}


@pytest.fixture(scope="module", params=CALLS.values(), ids=CALLS)
def graph(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Graph:
    """Graph of a call."""
    return graph_of(*request.param, tmp_path_factory.mktemp("call"))


def stores(graph: Graph) -> Iterator[tuple[Node, dict[str, Any]]]:
    """Yield the nodes that store files, with their settings."""
    yield from ((node, graph.settings[node]) for node in graph.nodes if node.step is store)


LABELS = ("series_name", "fwhm_mm", "method", "method_label", "space_entities")
"""Settings of a step that are in the names of its files."""


def labels_of(graph: Graph, node: Node) -> list[str]:
    """Return the labels in the names of a node's files, also of maps that it resamples."""
    moved = node.step.__name__ in ("maps_to_spaces", "maps_to_surfaces")
    sources = made_by(graph, node, "maps") if moved else []
    names = [str(graph.settings[node][name]) for name in LABELS if name in graph.settings[node]]
    return names + [label for source in sources for label in labels_of(graph, source)]


def test_every_stored_file_has_one_producer_and_lists_its_sources(graph: Graph) -> None:
    """Names count separately in the output and in each exported data set, and a file of both is
    the same artifact.
    """
    written: Counter[tuple[str, str]] = Counter()
    artifacts: dict[str, set[object]] = {}
    for node, settings in stores(graph):
        [maker, *_] = handles = graph.wires[node]["files"].handles
        own, exported = settings["own_entities"], settings["exported_as"]
        # steps that make names of their files: maps and error maps of a series share a sidecar
        name = {"by": maker.name.replace("error_maps", "maps"), "of": labels_of(graph, maker.node)}
        # a model and its card differ in the extension only
        name = {**own, "card": maker.name if own["suffix"] == "model" else ""} if own else name
        places = {"output": {**settings["entities"], **name}} if settings["in_output"] else {}
        for series in settings.get("datasets", ()) if exported is not None else ():
            places[series] = {**settings["entities"], **name, **exported}
        for place, entities in places.items():
            full = json.dumps({k: v for k, v in entities.items() if v}, sort_keys=True)
            written[place, full] += 1
            if own is not None:
                artifacts.setdefault(full, set()).update(handles)
        if maker.port is None or not maker.port.kind.is_figure:
            sources = settings["sources"]
            assert sources, str(node)
            assert len(sources) == len(set(sources)), str(node)
            assert {uri.split(":")[0] for uri in sources} <= {"bids", "pkg", "https", "file"}
    assert len(written) > 10
    assert [name for name, times in written.items() if times > 1] == []
    assert [name for name, handles in artifacts.items() if len(handles) > 1] == []


def test_every_step_that_skips_dummies_gets_their_number(graph: Graph) -> None:
    """Steps without this number would assume that there are no dummies."""
    for node in graph.nodes:
        if "n_dummy" in node.step.settings:
            [source] = made_by(graph, node, "n_dummy")
            assert source.step.__name__ == "count_dummies"


def sentences_of(graph: Graph) -> list[str]:
    """Return the sentences of the methods text."""
    return re.split(r"(?<=[a-z)\]]\.)\s+(?=[A-Z])", graph.methods_text())


PAIR = "compare_edges draw_guide draw_pair register_pair register_to_pair"
TRAINING = "draw_network_overview draw_training train_on_pair"
VARIANCE = "draw_variance estimate_variance"
ERROR = "check_intervals measure_error"
REGIONS = "atlas_to_bold join_regions measure_regions show_regions"
ANATOMY = (
    "correct_brain correct_head draw_brain draw_coregistration draw_normalization invert_coreg"
    " label_tissues load_template mask_brain normalize_t1w register_to_t1w resample_atlas"
    " segment_tissues tissues_to_bold define_region region_to_bold"
    " atlas_to_bold unite_regions"
)
CHANGES: dict[tuple[Callable[[BidsMaker], None], str], tuple[str, str, int]] = {
    (one_run, "--sr-method srgan"): ("", f"{ERROR} {VARIANCE} draw_network_overview", 0),
    (one_run, "--sr-method bspline"): ("", f"{ERROR} {VARIANCE} {TRAINING}", 1),
    (one_run, "--ignore slicetiming"): ("", "correct_slice_timing", 1),
    (one_run, "--set preprocessing.input_smoothing=3.5"): ("smooth_acquired", "", 2),
    (one_run, "--output-spaces T1w"): ("grid_in_t1w maps_to_spaces show_in_space", "", 3),
    (one_run, "--output-spaces MNI152NLin2009aSym"): (
        "grid_in_template maps_to_spaces mask_in_template show_in_space",
        "",
        4,
    ),
    (one_run, "--roi brain"): ("", "", 1),
    (one_run, "--roi Calcarine_L Heschl_L,Heschl_R"): ("unite_masks", "", 2),
    (one_run, "--set evaluation.roi_grow=true"): ("grow_region", "", 2),
    (one_run, "--censor fd:.5"): ("add_temporal_regressors", "", 2),
    (one_run, "--set activation.kinds=cc"): (
        "draw_correlation",
        f"{ERROR} {REGIONS} check_region",
        2,
    ),
    (one_run, "--set activation.kinds=glm"): ("", "draw_overlap", 0),
    (no_pair, "--sr-factor 2"): ("", f"{PAIR} {TRAINING}", 1),
    (no_pair, "--sr-factor 2 --sr-method tv"): (
        "draw_volume_training train_on_volumes",
        f"{PAIR} {TRAINING} {ERROR} {VARIANCE}",
        4,
    ),
    (no_pair, "--sr-factor 2 --sr-method sdmod"): ("", f"{PAIR} {TRAINING} {ERROR}", 5),
    (no_t1w, ""): ("", ANATOMY, 3),
    (known_activation, "--truth {root}/truth"): (
        "compare_halves compare_images compare_with_truth gather_fine_effects measure_effects"
        " place_measured replace_same_volumes",
        "",
        9,
    ),
    (calibration_run, ""): ("draw_calibration measure_calibration register_calibration", "", 8),
    (one_slice, ""): ("", f"correct_slice_timing {TRAINING}", 3),
    (high_resolution_only, ""): ("truncate_pair", "register_pair", 9),
    (at_rest, "--sr-factor 2"): (
        "draw_networks seed_series",
        f"{PAIR} {TRAINING} check_region copy_events draw_overlap select_events",
        13,
    ),
    (echoes_at_rest, "--sr-factor 2"): (
        "combine_echoes component_series draw_networks",
        f"{PAIR} {TRAINING} {ANATOMY} check_region copy_events draw_overlap select_events",
        10,
    ),
}
"""Data set and options → steps that they add to a default call for one run, steps that they
remove, and the number of sentences that only this methods text has.
"""


@pytest.fixture(scope="module")
def default_graph(tmp_path_factory: pytest.TempPathFactory) -> Graph:
    """Graph of a default call for one run."""
    return graph_of(one_run, "", tmp_path_factory.mktemp("default"))


@pytest.mark.parametrize(
    ("make", "options", "added", "removed", "sentences"),
    [(*call, *change) for call, change in CHANGES.items()],
)
def test_data_and_options_add_and_remove_their_steps_and_sentences(
    make: Callable[[BidsMaker], None],
    options: str,
    added: str,
    removed: str,
    sentences: int,
    default_graph: Graph,
    tmp_path: Path,
) -> None:
    graph = graph_of(make, options, tmp_path)
    assert steps_of(graph) - steps_of(default_graph) == set(added.split())
    assert steps_of(default_graph) - steps_of(graph) == set(removed.split())
    assert len({*sentences_of(graph)} - {*sentences_of(default_graph)}) == sentences


@pytest.mark.parametrize(
    ("spaces", "count"), [("", 0), ("func T1w MNI152NLin2009cAsym MNI152NLin2009aSym", 3)]
)
def test_the_primary_series_and_all_maps_are_resampled_to_output_spaces(
    tmp_path: Path, spaces: str, count: int
) -> None:
    options = f"--sr-method bspline zerofill {'--output-spaces ' * bool(spaces)}{spaces}"
    graph = graph_of(one_run, options, tmp_path)
    grids = {
        node.scope.name: len(made_by(graph, node, "space_grids"))
        for node in nodes_of(graph, "super_resolve")
    }
    assert grids.pop("bspline") == count
    assert set(grids.values()) == {0}
    resampled = len(nodes_of(graph, "maps_to_spaces"))
    assert resampled == (len(nodes_of(graph, "map_series")) if spaces else 0)
    # once for each template
    assert len(nodes_of(graph, "normalize_t1w")) == (2 if spaces else 1)


@pytest.mark.parametrize(
    ("missing", "spheres"), [("", True), ("*_sphere.surf.gii", False), ("*_pial.surf.gii", False)]
)
def test_only_maps_are_projected_to_surfaces(tmp_path: Path, missing: str, spheres: bool) -> None:
    """Spheres of the participant are used if they exist, with the whole ribbon."""
    one_run(maker := BidsMaker(tmp_path / "bids"))
    prep = prepared(maker)
    prep.surfaces(maker.path("sub-01_T1w.nii.gz", "anat"))
    for path in prep.root.rglob(missing) if missing else ():
        path.unlink()
    for path in [*prep.root.rglob("*MNI152NLin2009cAsym*_xfm.h5")]:
        path.rename(str(path).replace("NLin2009cAsym", "NLin2009aSym"))
    options = f"{PREPARED} --sr-method bspline --output-spaces fsaverage:den-10k"
    graph = planned_graph(maker, tmp_path, *options.format(root=tmp_path).split())
    projected = nodes_of(graph, "maps_to_surfaces")
    assert len(projected) == len(nodes_of(graph, "map_series"))
    uris = {uri for node in projected for uri in graph.settings[node]["surface_uris"]}
    assert len(uris) == 2, "one of each hemisphere"
    [placing] = nodes_of(graph, "transform_fsaverage")
    assert ("given_spheres" in graph.wires[placing]) == spheres
    assert ("normalize_t1w" in steps_of(graph)) != spheres, "fsaverage through the template"
    assert "maps_to_spaces" not in steps_of(graph)


@pytest.mark.parametrize(
    ("methods", "primary"),
    [
        ("srgan sbl", "sbl"),
        ("sbl srgan", "srgan"),
        ("auto", "sbl"),
        ("bspline zerofill", "bspline"),
        ("inject zerofill", "zerofill"),
        ("sdmod zerofill sbl", "sbl"),
    ],
)
def test_the_primary_series_is_of_the_last_method(
    tmp_path: Path, methods: str, primary: str
) -> None:
    """If only baselines are requested, the primary series is B-spline interpolation, or else the
    last baseline.
    """
    one_run(maker := BidsMaker(tmp_path / "bids"))
    call = planned_call(maker, tmp_path, "--sr-method", *methods.split())
    assert list_primary_series(*call, VERSION) == [primary]


@pytest.mark.parametrize(
    ("sidecar", "moment"),
    [
        (TIMES, 0.25 * 0.8),
        ({}, 0.5),
        ({"DelayTime": 0.2}, 0.4),
        ({"VolumeTiming": SECONDS, "AcquisitionDuration": 0.4}, 0.2),
        ({"VolumeTiming": SECONDS, "FrameAcquisitionDuration": 0.4}, 0.2),
        ({"VolumeTiming": SECONDS, "AcquisitionDuration": 30.0}, 0.5),
        (
            {
                "VolumeTiming": SECONDS,
                "FrameAcquisitionDuration": 30.0,
                "AcquisitionDuration": 0.4,
            },
            0.2,
        ),
        ({"AcquisitionDuration": 0.4}, 0.5),  # may be the duration of the run
        ({"VolumeTiming": SECONDS, "AcquisitionDuration": 0.4, **TIMES}, 0.25 * 0.8),
        ({"SliceTimingCorrected": True, "StartTime": 0.6, **TIMES}, 0.6),
    ],
)
def test_models_have_the_moment_to_which_slice_timing_was_corrected(
    tmp_path: Path, sidecar: dict[str, object], moment: float
) -> None:
    maker = BidsMaker(tmp_path / "bids")
    maker.subject()
    maker.bold(sidecar=sidecar)
    graph = planned_graph(maker, tmp_path, "--slice-time-ref", "0.25")
    for name in ("map_series", "check_intervals"):
        (start_time,) = {graph.settings[node]["start_time"] for node in nodes_of(graph, name)}
        assert start_time == pytest.approx(moment)


def scopes_of(graph: Graph, step: str) -> set[str]:
    """Return the names of the innermost subworkflows with a step."""
    return {node.scope.name for node in nodes_of(graph, step)}


@pytest.mark.parametrize("options", ["", "all"])
def test_the_control_is_made_on_request(tmp_path: Path, options: str) -> None:
    graph = graph_of(one_run, f"--sr-method sbl {options}", tmp_path)
    names = {"sdmod", "sbl"} if options == "all" else {"sbl"}
    assert scopes_of(graph, "estimate_variance") == names
    made = scopes_of(graph, "super_resolve")
    assert ("sdmod" in made & scopes_of(graph, "map_series")) == (options == "all")
    [gathered] = nodes_of(graph, "gather_self_tests")
    assert {node.scope.name for node in made_by(graph, gathered, "self_tests")} == names
    models = {node.scope.name for node, _ in stores(graph) if node.name == "store_model_file"}
    assert "sdmod" not in models


@pytest.mark.parametrize(
    ("make", "options", "mapped", "has_effects"),
    [
        (one_run, "--sr-method sbl", {"acquired", "bspline", "sbl"}, False),
        (one_run, "--sr-method zerofill sbl", {"acquired", "bspline", "zerofill", "sbl"}, False),
        (
            known_activation,
            "--sr-method sbl --truth {root}/truth",
            {"acquired", "bspline", "zerofill", "sdmod", "inject", "ratio", "sbl", "measured"},
            True,
        ),
    ],
)
def test_zero_filling_and_block_effects_are_for_comparisons_with_a_reference(
    make: Callable[[BidsMaker], None],
    options: str,
    mapped: set[str],
    has_effects: bool,
    tmp_path: Path,
) -> None:
    graph = graph_of(make, options, tmp_path)
    assert scopes_of(graph, "map_series") == mapped
    assert scopes_of(graph, "measure_effects") == (mapped - {"acquired"} if has_effects else set())
    assert "zerofill" in scopes_of(graph, "super_resolve")


def test_one_training_of_a_split_serves_every_participant(tmp_path: Path) -> None:
    """A call with one participant has the steps of the training in the call with all."""
    options = "--sr-target anat --set anat.split=40,11,10"
    graphs = {
        label: graph_of(scans, f"{options} {selected}", tmp_path / label)
        for label, selected in (
            ("all", ""),
            *((label, f"--participant-label {label}") for label in ("01", "02", "03")),
        )
    }
    (trained,) = nodes_of(graphs["all"], "train_on_scans")
    heads = {str(source) for source in made_by(graphs["all"], trained, "heads_fine")}
    assert len(heads) == 2  # one participant is for the test
    for label, graph in graphs.items():
        (node,) = nodes_of(graph, "train_on_scans")
        assert {str(source) for source in made_by(graph, node, "heads_fine")} == heads
        applied = nodes_of(graph, "super_resolve_scans")
        assert len(applied) == (3 if label == "all" else 1)
        for application in applied:
            assert made_by(graph, application, "model_file") == [node]
        stored_for = {settings["entities"].get("subject") for _, settings in stores(graph)}
        assert stored_for == {None, *(("01", "02", "03") if label == "all" else (label,))}


def test_a_held_out_pair_is_scored_during_training_but_is_not_a_source_of_the_model(
    tmp_path: Path,
) -> None:
    one_run(maker := BidsMaker(tmp_path / "bids"))
    maker.star("sub-01_acq-highres_run-2", HIGH)
    maker.star("sub-01_acq-lowres_run-2", (6.0, 6.0, 4.0))
    graph = planned_graph(maker, tmp_path, "--sr-method", "srgan")
    (training,) = nodes_of(graph, "train_on_pair")
    (scoring,) = nodes_of(graph, "score_pair")
    for shown, scored in (
        ("second_highres", "train_highres"),
        ("second_lowres", "train_lowres"),
        ("second_mask", "pair_mask"),
    ):
        assert made_by(graph, training, shown) == made_by(graph, scoring, scored)
        assert made_by(graph, training, shown) != made_by(graph, training, scored)
    (stored,) = (settings for node, settings in stores(graph) if node.name == "store_model_file")
    assert any("acq-highres" in uri for uri in stored["sources"])
    assert not any("run-2" in uri for uri in stored["sources"])
