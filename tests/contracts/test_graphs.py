"""The whole graph for data sets of every shape: it can be built, and no two steps write the same file."""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from bidsmaker import BidsMaker
from graphmaker import planned_graph
from nipype.interfaces import utility as niu
from nipype.interfaces.base import Undefined, isdefined

from bids_sr.boilerplate import bibliography
from bids_sr.interfaces.derivatives_sink import WriteDerivatives, derivative_path
from bids_sr.interfaces.head_motion import EstimateDummies
from bids_sr.reports.text.methods_text import methods_html, missing_keys
from bids_sr.workflows.base import methods_text
from bids_sr.workflows.node_names import texts_of
from bids_sr.workflows.wiring import Part

HIGH, LOW = (3.0, 3.0, 4.0), (6.0, 6.0, 4.0)
EXTENSIONS = {"xfm": ".txt", "model": ".safetensors", "log": ".tsv", "metrics": ".tsv", "timeseries": ".tsv"}
TELLS_APART = ("series", "fwhm_mm", "method", "space", "desc", "suffix")


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
    maker.bold(sidecar={"SliceTiming": [0.0, 0.5, 0.2, 0.7, 0.3, 0.8]})


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
    """One fine image and two BOLD resolutions: two pairs that share their high-resolution member and the session."""
    maker.subject()
    maker.bold("sub-01_task-rhythm", zooms=(4.0, 4.0, 4.0), n_volumes=150)  # too many for a calibration
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


PLAIN = ["--sr-method", "bspline", "zerofill", "--sr-factor", "2"]
CASES: dict[str, tuple[Callable[[BidsMaker], None], list[str]]] = {
    "two subjects, baselines all": (_two_subjects, ["--baselines", "all", "--contrasts", "thumb-little"]),
    "two sessions, output space": (_two_sessions, ["--output-spaces", "MNI152NLin2009aSym"]),
    "two sessions, one of them": (_two_sessions, ["--session-label", "b", "--roi", "brain"]),
    "slice timing": (_interleaved_slices, ["--sr-method", "bspline"]),
    "two runs, reuse": (_two_runs_and_a_model, ["--model-source", "reuse", "--activation", "glm"]),
    "two resolutions": (_two_tasks_of_two_resolutions, ["--smoothing", "paper"]),
    "no T1w": (_no_t1w_and_room_for_patches, ["--activation", "cc", "--recipe", "paper-mse"]),
    "fine image alone": (_fine_only, ["--threshold", "quarter", "3.1"]),
    "fine image alone, without acq": (_unnamed_fine_only, ["--data-consistency", "enforce"]),
    "no pair": (_no_pair, [*PLAIN, "--output-spaces", "MNI152NLin2009aSym"]),
    "pair and interpolation alone": (_two_runs, ["--sr-method", "zerofill"]),
    "guided baselines without a network": (_two_runs, ["--sr-method", "inject", "ratio", "--dummy-scans", "2"]),
    "neither pair nor T1w": (_neither_pair_nor_t1w, PLAIN),
    "two subjects, all placebos": (_two_subjects, ["--null-checks", "3", "--n-ensemble", "2", "--roi-grow"]),
    "variance maps, no pair": (_no_pair, ["--sr-method", "sbl", "--sr-factor", "2", "--null-checks", "3"]),
    "variance maps of every kind, by the run alone": (
        _neither_pair_nor_t1w,
        ["--sr-method", "wmn", "focuss", "sbl", "--sr-factor", "2", "--null-checks", "3"],
    ),
    "control alone": (_no_pair, ["--sr-method", "sdmod", "--sr-factor", "2"]),
    "structural scans": (_scans, ["--sr-target", "anat"]),
    "structural scans, two methods": (
        _scans,
        ["--sr-target", "anat", "--sr-method", "attunet", "unet", "--baselines", "all", "--recipe", "paper"],
    ),
    "structural scans, deformed": (_scans, ["--sr-target", "anat", "--anat-align", "nonlinear"]),
    "structural scans of others": (_scans_of_three, ["--sr-target", "anat", "--train-on", "others"]),
    "trained on the run's volumes": (
        _own_volumes,
        ["--sr-method", "tv", "dip", "sbl", "--sr-factor", "2", "--n-ensemble", "2", "--null-checks", "3"],
    ),
    "many methods": (_no_t1w_and_room_for_patches, ["--sr-method", "srgan", "li-agnostic", "tv", "cpce", "resnet3d"]),
    "every entity": (_all_entities, ["--omp-nthreads", "2", "--ignore", "slicetiming"]),
}


@pytest.fixture(params=CASES, scope="module")
def graph(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    make, options = CASES[request.param]
    root = tmp_path_factory.mktemp("graph")
    maker = BidsMaker(root / "bids")
    make(maker)
    return planned_graph(maker, root, *options)


def _makers(flat: Any, node: Any, field: str) -> Iterator[Any]:
    """The nodes that make what comes to an input, through merges and the ends of workflows; "" is any input."""
    for source, _, data in flat.in_edges(node, data=True):
        for out, into in data["connect"]:
            if field in ("", into):
                if isinstance(source.interface, niu.IdentityInterface | niu.Merge):
                    yield from _makers(flat, source, "" if isinstance(source.interface, niu.Merge) else out)
                else:
                    yield source


def _names(flat: Any, node: Any) -> Iterator[str]:
    """What a sink writes: entities of each file, or what makes the files where their entities are only known later."""
    common = dict(node.inputs.common)
    if isdefined(node.inputs.entities):
        for number, own in enumerate(node.inputs.entities):
            card = {"card": number} if own["suffix"] == "model" else {}  # the same name with another extension
            yield json.dumps({**common, **own, **card}, sort_keys=True)
        return
    for maker in set(_makers(flat, node, "in_file")):
        traits = {name: str(getattr(maker.inputs, name, "")) for name in TELLS_APART}
        sources = {each for field in ("in_files", "effects_file") for each in _makers(flat, maker, field)}
        traits["of"] = " ".join(sorted({str(each.inputs.series) for each in sources}))
        yield json.dumps({"by": type(maker.interface).__name__, **traits, "common": common}, sort_keys=True)


def test_no_two_steps_write_the_same_file(graph: Any) -> None:
    flat = graph._create_flat_graph()
    sinks = [node for node in flat.nodes() if isinstance(node.interface, WriteDerivatives)]
    written = Counter(name for sink in sinks for name in _names(flat, sink))
    assert len(written) > 10
    assert [name for name, times in written.items() if times > 1] == []


def test_every_fixed_name_can_be_made(graph: Any) -> None:
    """An entity that no pattern knows would stop the run at its very end."""
    for node in graph._create_flat_graph().nodes():
        if not isinstance(node.interface, WriteDerivatives):
            continue
        figures = not isdefined(node.inputs.entities) and "datatype" not in node.inputs.common
        own = [{"datatype": "figures", "desc": "x", "suffix": "bold"}] if figures else node.inputs.entities
        for entities in own if isdefined(own) else [{"contrast": "c", "stat": "t", "desc": "x", "suffix": "statmap"}]:
            suffix = entities["suffix"]
            extension = {"xfm": ".txt", "model": ".safetensors", "log": ".tsv", "metrics": ".tsv", "timeseries": ".tsv"}
            full = {
                **node.inputs.common,
                **entities,
                "extension": ".svg" if figures else extension.get(suffix, ".nii.gz"),
            }
            assert derivative_path(full).startswith(("sub-", "sourcedata/models/sub-"))


def test_dummies_are_told_to_every_step_that_leaves_them_out(graph: Any) -> None:
    """A step that is not told takes it that there are none, and nothing fails."""
    flat = graph._create_flat_graph()
    steps = [node for node in flat.nodes() if isdefined(getattr(node.inputs, "n_dummy", Undefined))]
    deaf = {type(node.interface) for node in steps if not any(_makers(flat, node, "n_dummy"))}
    assert deaf <= {EstimateDummies}, "only these may be given their number by the user"


def test_every_stage_gets_what_it_reads(graph: Any) -> None:
    """nipype runs a step whose optional input leads nowhere; only these two are optional for their stage."""
    flat = graph._create_flat_graph()
    for node in (each for each in flat.nodes() if isinstance(each.interface, niu.IdentityInterface)):
        ends = (data["connect"] for _, _, data in flat.in_edges(node, data=True))
        given = {into for connected in ends for _, into in connected}
        given |= {name for name in node.inputs.copyable_trait_names() if isdefined(getattr(node.inputs, name))}
        starts = (data["connect"] for _, _, data in flat.out_edges(node, data=True))
        read = {out if isinstance(out, str) else out[0] for connected in starts for out, _ in connected}
        assert read - given <= {"tpms_bold", "lowres"}, f"{node.fullname} lacks {sorted(read - given)}"


IN_ORDER = (
    "T1-weighted image was", "pair of T2*-weighted images", "Rigid head motion", "acquired series was resampled",
    "Confounds were", "Every other series was brought", "Baselines:", "under a Gaussian prior", "was mapped in every",
    "split into two halves",
)  # fmt: skip


def test_the_methods_text_cites_what_exists_says_nothing_twice_and_follows_the_processing(graph: Any) -> None:
    text = methods_text(graph)
    assert text.startswith("Results included in this manuscript come from *bids-sr* 0, ")
    html = methods_html(text, bibliography()).partition('id="ref-')[0]
    assert "@" not in html, "a citation that was not resolved"
    assert missing_keys(text, bibliography()) == []
    shown = re.sub(r"<[^>]+>", "", html)
    assert re.findall(r".{30}\([^()]*\(|.{30}\) \(.{9}", shown) == [], "parentheses in or behind parentheses"
    sentences = [each for paragraph in text.split("\n\n") for each in re.split(r"(?<=[a-z)]\.) (?=[A-Z])", paragraph)]
    assert [sentence for sentence, times in Counter(sentences).items() if times > 1] == []
    assert text.count("aseline") <= text.count("Every other series was brought") == text.count("Baselines:")
    places = [text.index(words) for words in IN_ORDER if words in text]
    assert places == sorted(places)


def test_every_methods_text_has_its_part(graph: Any) -> None:
    """What has none would stand in the opening."""
    assert [text for part, text in texts_of(graph, Part.OPENING) if part is Part.OPENING] == [graph.__desc__]


def test_another_subjects_map_is_a_placebo_where_there_is_one(tmp_path: Any) -> None:
    maker = BidsMaker(tmp_path / "bids")
    _two_subjects(maker)
    folder = tmp_path / "out" / "sourcedata" / "models" / "sub-02"
    folder.mkdir(parents=True)
    weights = folder / "sub-02_task-tap_desc-sbl_model.safetensors"
    weights.write_bytes(b"")
    weights.with_suffix(".json").write_text('{"factor": [2, 2, 1], "resolution": {"lowres_mm": [6, 6, 4]}}')
    graph = planned_graph(maker, tmp_path, "--null-checks", "2")
    given = {
        name.split(".")[0]: graph.get_node(name).inputs.model_file
        for name in graph.list_node_names() if name.endswith("extra_sblOther_wf.series_wf.inputnode")
    }  # fmt: skip
    assert given == {"sub_01_wf": str(weights)}, "a participant's own maps are no placebo"


def test_a_control_is_made_like_a_method_and_judged_like_a_baseline(tmp_path: Any) -> None:
    maker = BidsMaker(tmp_path / "bids")
    maker.subject()
    graph = planned_graph(maker, tmp_path, "--null-checks", "2", "--n-ensemble", "2")
    names = graph.list_node_names()
    assert any(name.endswith("variance_sdmod_wf.estimate") for name in names)
    assert any("keep_model_sbl_wf" in name for name in names)
    assert not any(part in name for name in names for part in ("keep_model_sdmod_wf", "extra_sdmod"))


def test_no_network_is_trained_on_the_pair_of_a_single_slice(tmp_path: Any) -> None:
    """The run is worked on all the same."""
    maker = BidsMaker(tmp_path / "bids")
    maker.subject()
    maker.bold(zooms=(6.0, 6.0, 24.0))
    maker.star("sub-01_acq-lowres", (6.0, 6.0, 24.0))
    maker.star("sub-01_acq-highres", (3.0, 3.0, 24.0))
    graph = planned_graph(maker, tmp_path)
    assert any("variance_sbl_wf" in name for name in graph.list_node_names())
    assert not any("srgan" in name for name in graph.list_node_names())


@pytest.mark.parametrize("warm", [True, False])
def test_every_training_of_srgan_begins_alike(tmp_path: Any, warm: bool) -> None:
    """That of the method, of its ensemble and of its placebo: what begins otherwise differs by that too."""
    maker = BidsMaker(tmp_path / "bids")
    maker.subject()
    graph = planned_graph(maker, tmp_path, "--null-checks", "2", "--n-ensemble", "2", *["--warm-start"] * warm)
    trained = {name: graph.get_node(name).inputs for name in graph.list_node_names() if name.endswith(".train")}
    starts = {name: inputs.start for name, inputs in trained.items() if inputs.trait("start") is not None}
    assert len(starts) == 3
    assert sum("srganT1w" in name for name in starts) == sum("srganSeed1" in name for name in starts) == 1
    if warm:
        assert {Path(start).name for start in starts.values()} == {"srgan_start.safetensors"}
    else:
        assert not any(map(isdefined, starts.values()))
    assert ("training began with weights learned from simulated heads" in methods_text(graph)) == warm


def test_a_network_trained_on_others_never_sees_its_own_head(tmp_path: Any) -> None:
    maker = BidsMaker(tmp_path / "bids")
    _scans_of_three(maker)
    graph = planned_graph(maker, tmp_path, "--sr-target", "anat", "--train-on", "others")
    flat = graph._create_flat_graph()
    trained = [node for node in flat.nodes() if node.name == "train"]
    assert len(trained) == 3
    for node in trained:
        heads = {maker.inputs.head for maker in _makers(flat, node, "heads")}
        assert heads == {"sub-01", "sub-02", "sub-03"} - {node.inputs.head}
