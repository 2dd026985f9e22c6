"""Steps as functions, their interfaces, and the graph that follows from names."""

import os
import pickle
from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from bids_sr.config.machine import Need
from bids_sr.io.nifti import SeriesReader, save_image
from bids_sr.pipeline.artifacts import (
    Derivative,
    Facts,
    File,
    Image,
    Map,
    Mask,
    Series,
    Table,
    Volume,
)
from bids_sr.pipeline.graph import Graph
from bids_sr.pipeline.nipype_workflow import workflow_of
from bids_sr.pipeline.nodes import GraphError, Scope
from bids_sr.pipeline.step import Keep, Part, step
from bids_sr.pipeline.store import store


@step(makes="count", part=Part.PREPROCESSING, text="Volumes were counted.")
def count_volumes(bold: Series) -> int:
    """A plain value, a setting of others."""
    return bold.shape[3]


@step(
    makes="boldref",
    keep={"boldref": Keep({"desc": "hmc", "suffix": "boldref"}, {"SkullStripped": False})},
)
def average(bold: Series, *, count: int) -> Image:
    """The mean of the series."""
    return Volume(sum(bold.volumes()) / count, bold.affine, bold.header)


@step(makes="mask")
def threshold(boldref: Image, *, level: float = 1.0) -> Mask:
    """Where the mean is at least a level."""
    return boldref.like(boldref.data >= level)


@step(
    makes="maps",
    text=lambda setting: f"Effects of {setting('task')} were mapped.\n",
    part=Part.MAPS,
    keep={"maps": Keep()},
    memory=Need(always=2.0),
)
def map_effects(boldref: Image, mask: Mask, *, series_name: str, task: str) -> list[Map]:
    """Two maps."""
    own = {"contrast": task, "desc": series_name, "suffix": "statmap"}
    found = boldref.like(boldref.data * mask.data)
    return [Derivative(found, {**own, "stat": stat}, {"Units": stat}) for stat in ("t", "z")]


@step(makes="series")
def double(bold: Series, here: Path) -> Series:
    """A series is a file."""
    values = 2 * np.stack(list(bold.volumes()), -1)
    save_image(values, bold.affine, here / "double.nii", tr=2.0)
    return SeriesReader(here / "double.nii")


@step(small=True)
def summary(series: dict[str, Series], maps: list[Map], notes: Facts | None = None) -> Table:
    """Named series, and maps of all inner scopes."""
    import pandas as pd

    rows = [(name, float(one.volume(0).mean())) for name, one in series.items()]
    rows += [
        (each.entities["desc"] + each.entities["stat"], float(each.volume.data.sum()))
        for each in maps
    ]
    return pd.DataFrame(rows, columns=["name", "value"])


@step()
def list_names(smooth: list[Map]) -> Facts:
    """All maps of inner scopes, whatever these are called."""
    return {"names": [each.name for each in smooth]}


@step()
def name_them(fine: dict[str, Series]) -> Facts:
    """Series by the names of their scopes."""
    return {"names": list(fine)}


@step(resumes=True, makes="model_file")
def train(boldref: Image, here: Path, *, device: str, omp_nthreads: int) -> File:
    """Goes on from its checkpoint."""
    (here / "model.txt").write_text(device)
    return here / "model.txt"


@step()
def told(*, weights: Path | None = None) -> str:
    """A file as a setting."""
    return "none" if weights is None else weights.name


@pytest.fixture
def bold(tmp_path) -> Path:
    values = np.arange(4 * 4 * 2 * 3, dtype=np.float32).reshape(4, 4, 2, 3)
    save_image(values, np.diag([2.0, 2, 3, 1]), tmp_path / "bold.nii", tr=2.0)
    return tmp_path / "bold.nii"


def scope_of_run(bold: Path, out: Path) -> Scope:
    root = Scope(
        "all_wf",
        {
            "output_dir": out,
            "sources": ["bids:raw:x"],
            "provenance": {},
            "axis_order": (0, 1, 2),
            "output_dtype": "float32",
            "task": "tap",
            "device": "cpu",
        },
        store=store,
    )
    run = root.within(
        "run_wf", entities={"subject": "01", "task": "tap", "datatype": "func"}, omp_nthreads=1
    )
    run.give(bold=bold)
    run.add(count_volumes, average, threshold)
    for name in ("bspline", "sbl"):
        own = run.within(name, series_name=name)
        own.add(double)
        own.add(map_effects, keep=name == "sbl")
    run.add(summary)
    run.add(train)
    return root


def test_a_workflow_follows_from_names_and_stores_what_is_kept(bold, tmp_path):
    graph = Graph(scope_of_run(bold, tmp_path / "out"))
    flow = workflow_of(graph, base_dir=tmp_path / "work", need_gb=lambda need: need.always)
    done = {node.fullname: node for node in flow.run().nodes()}
    table = Path(done["all_wf.run_wf.summary"].result.outputs.summary).read_text().split()
    mean = np.arange(96).reshape(4, 4, 2, 3)
    sums = [f"{mean.mean(-1)[mean.mean(-1) >= 1].sum():.1f}"] * 4
    doubled = f"{2 * mean[..., 0].mean():.1f}"
    assert table == [
        "name",
        "value",
        "bspline",
        doubled,
        "sbl",
        doubled,
        "bsplinet",
        sums[0],
        "bsplinez",
        sums[1],
        "sblt",
        sums[2],
        "sblz",
        sums[3],
    ]
    func = tmp_path / "out" / "sub-01" / "func"
    kept = sorted(path.name for path in func.iterdir())
    stem = "sub-01_task-tap"
    maps = [
        f"{stem}_contrast-tap_stat-{stat}_desc-sbl_statmap{end}"
        for stat in "tz"
        for end in (".json", ".nii.gz")
    ]
    assert kept == sorted(
        [f"{stem}_desc-hmc_boldref.json", f"{stem}_desc-hmc_boldref.nii.gz", *maps]
    )
    assert '"Units": "z"' in (func / maps[2]).read_text()
    assert nib.load(func / f"{stem}_desc-hmc_boldref.nii.gz").shape == (4, 4, 2)
    assert done["all_wf.run_wf.sbl.map_effects"].mem_gb == 2.0


def test_one_word_is_one_artifact_and_a_mistake_is_told_before_anything_runs(bold, tmp_path):
    root = scope_of_run(bold, tmp_path)
    run = root.inner[0]
    with pytest.raises(
        GraphError,
        match=r"all_wf\.run_wf\.average and all_wf\.run_wf\.again both have an output",
    ):
        run.add(average, name="again")
    with pytest.raises(GraphError, match="has no levle"):
        run.within("a").add(threshold, levle=2.0)
    alone = Scope("alone", {"level": 1.0})
    alone.give(boldreff=bold)
    alone.add(threshold)
    with pytest.raises(
        GraphError, match=r"no step has an output named boldref.* Similar names are boldreff"
    ):
        Graph(alone)
    other = Scope("other", {"level": 1.0})
    other.give(bold=bold)
    other.add(double, rename={"series": "boldref"})
    other.add(threshold)
    with pytest.raises(
        GraphError, match=r"has type Volume, but other\.double provides type Series"
    ):
        Graph(other)
    less = Scope("less")
    less.give(boldref=bold, mask=bold)
    less.add(map_effects, quiet=True, series_name="raw")
    with pytest.raises(GraphError, match="no setting task"):
        Graph(less)


def test_names_can_be_told_otherwise(bold, tmp_path):
    root = Scope("all", {"level": 1.0})
    pair = root.within("pair")
    pair.give(bold=bold)
    pair.add(count_volumes, average)
    run = root.within("run", beside=(pair,), alias={"mask": "brain"})
    run.add(threshold, rename={"mask": "brain"})
    run.add(
        threshold,
        name="again",
        rename={"mask": "mask_again"},
        wires={"boldref": pair["boldref"]},
        level=50.0,
    )
    inner = run.within("sbl", series_name="sbl", task="rest")
    inner.add(map_effects)
    graph = Graph(root)
    placed = {str(each): each for each in graph.placed}
    [maker] = graph.wires[placed["all.run.sbl.map_effects"]]["mask"].makers
    assert (maker.source.name, maker.name) == ("threshold", "mask")
    assert graph.settings[placed["all.run.again"]] == {"level": 50.0}
    assert run.gather("maps") == {"sbl": inner["maps"]}


def test_a_list_takes_all_and_a_dictionary_tells_scopes_apart(bold, tmp_path):
    root = scope_of_run(bold, tmp_path)
    for series in root.inner[0].inner:
        series.within("fwhm050").add(map_effects, rename={"maps": "smooth"})
    root.inner[0].add(
        summary,
        name="twice",
        rename={"summary": "twice"},
        wires={"maps": [*root.inner[0].gather("maps").values()]},
    )
    root.inner[0].add(list_names)
    graph = Graph(root)
    placed = {each.name: each for each in graph.placed}
    assert len(graph.wires[placed["list_names"]]["smooth"].makers) == 2
    for series in root.inner[0].inner:
        series.inner[0].add(double, rename={"series": "fine"})
    root.inner[0].add(name_them)
    with pytest.raises(
        GraphError,
        match="several scopes with the same name have an output fine: fwhm050, fwhm050",
    ):
        Graph(root)


def test_the_methods_text_has_each_sentence_once_in_the_order_of_the_parts(bold, tmp_path):
    root = scope_of_run(bold, tmp_path)
    root.say(Part.OPENING, "Opening.\n")
    assert (
        Graph(root).methods_text()
        == "Opening.\n\nVolumes were counted.\n\nEffects of tap were mapped.\n"
    )


def _counted(setting, folders, unfinished):
    names = [folder.name for folder in folders]
    return f"Of {setting('task')}, {names} were counted, {unfinished} were not."


@step(
    makes="counted",
    part=Part.SERIES,
    text=lambda setting: f"Volumes of {setting('task')} will be counted.",
    text_after=_counted,
)
def count_later(*, task: str) -> int:
    return len(task)


def test_the_methods_text_describes_what_ended_steps_did_and_marks_what_is_to_come():
    root = Scope("wf", {"task": "tap"})
    for name in ("run1", "run2"):
        root.within(name).add(count_later)
    root.within("rest", task="rest").add(count_later)
    root.within("member").add(count_later, quiet=True)
    graph = Graph(root)
    future = "Sentences in the future tense describe steps that were not completed"
    planned = "Volumes of tap will be counted. Volumes of rest will be counted."
    before = graph.methods_text()
    assert before.startswith(planned)
    assert before.split("\n\n")[-1].startswith(future)

    def ended(*names):
        return lambda placed: Path(placed.scope.name) if placed.scope.name in names else None

    half = graph.methods_text(ended("run2"))
    assert half.startswith("Of tap, ['run2'] were counted, 1 were not. Volumes of rest will")
    assert future in half
    whole = graph.methods_text(ended("run1", "run2", "rest"))
    assert whole == (
        "Of tap, ['run1', 'run2'] were counted, 0 were not. Of rest, ['rest'] were counted, 0 were"
        " not.\n"
    )


def test_an_interface_is_found_by_pickle_and_resumes_where_the_step_does():
    interface = train.interface(device="cuda", omp_nthreads=2)
    again = pickle.loads(pickle.dumps(interface))
    assert type(again) is type(interface)
    assert again.inputs.device == "cuda"
    assert again.inputs.use_gpu is False
    assert again._can_resume
    assert not average.interface()._can_resume
    assert average.interface().step is average


def test_the_interface_of_a_step_reads_and_writes_files(bold, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = average.interface(bold=str(bold), count=3).run(cwd=os.getcwd()).outputs.boldref
    np.testing.assert_allclose(
        nib.load(made).get_fdata(), np.arange(96).reshape(4, 4, 2, 3).mean(-1)
    )
    found = threshold.interface(boldref=made, level=50.0).run(cwd=os.getcwd()).outputs.mask
    assert nib.load(found).get_data_dtype() == np.uint8


@step()
def halves(boldref: Image, *, parts: int) -> list[Image]:
    """As many images, each half of the one before."""
    return [boldref.like(boldref.data / 2**k) for k in range(parts)]


@step()
def total(halves: Sequence[Image] | None = None) -> float:
    """The sum over all; -1 where none is given."""
    return -1.0 if halves is None else sum(float(each.data.sum()) for each in halves)


def test_a_list_is_one_file_and_an_empty_one_is_not_given(tmp_path):
    save_image(np.full((2, 2, 2), 4.0), np.eye(4), tmp_path / "boldref.nii")
    sums = []
    for parts in (3, 0):
        (here := tmp_path / f"{parts}").mkdir()
        given = {"boldref": str(tmp_path / "boldref.nii"), "parts": parts}
        made = halves.on_files(given, here)["halves"]
        assert len(Path(made).read_text().split()) == parts
        sums.append(total.on_files({"halves": [made]}, here)["total"])
    assert sums == [8 * (4 + 2 + 1), -1]


def test_the_content_of_a_file_that_is_a_setting_counts(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "weights.txt").write_text("one")
    first = told.interface(weights=tmp_path / "weights.txt")
    before = first.inputs.get_hashval(hash_method="content")[1]
    assert first.run(cwd=os.getcwd()).outputs.told == "weights.txt"
    (tmp_path / "weights.txt").write_text("two")
    assert (
        told.interface(weights=tmp_path / "weights.txt").inputs.get_hashval(hash_method="content")[
            1
        ]
        != before
    )
    assert told.interface().run(cwd=os.getcwd()).outputs.told == "none"


def test_seeds_and_events_are_told_apart_by_their_files(tmp_path) -> None:
    from bids_sr.glm.design import Events, Seeds
    from bids_sr.pipeline.artifacts import Regressors

    kind = Regressors.__metadata__[0]
    path = kind.save(
        Seeds.of(pd.DataFrame({"motor": [np.nan, 1.0, 3.0]})), tmp_path / "regressors"
    )
    assert path.name == "regressors_timeseries.tsv"
    assert list(kind.load(path).table["motor"])[1:] == [-1.0, 1.0]
    (tmp_path / "events.tsv").write_text("onset\tduration\ttrial_type\n1\t2\ttap\n")
    assert isinstance(kind.load(tmp_path / "events.tsv"), Events)
