"""Claim, flags, grown region and verdict on files, and their workflows run end to end on a small series."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from planmaker import ACTIVATION, UNTIMED, run_of

from bids_sr.interfaces.evaluation.verdicts import ClaimTable, Flags, GrowRoi, Verdict, correlation_maps
from bids_sr.interfaces.statmap_interfaces import ActivationMaps
from bids_sr.interfaces.steps import MergeEvaluation
from bids_sr.io.nifti import SeriesWriter, load_image, save_image
from bids_sr.metrics.long_tables import MetricRow, read_table, table_text
from bids_sr.stats.regions.attribution import attribution_widths
from bids_sr.workflows.evaluation.attribute import THRESHOLDS, init_claim_wf, init_roi_growth_wf
from bids_sr.workflows.plans import EvaluationPlan

CONTRASTS = {"thumb": {"thumb": 1.0}, "little": {"little": 1.0}, "thumbMinusLittle": {"thumb": 1.0, "little": -1.0}}
SHAPE, FINE = (12, 10, 4), (24, 20, 4)
AFFINE = np.diag([4.0, 4.0, 4.0, 1.0])
FINE_AFFINE = np.diag([2.0, 2.0, 4.0, 1.0])
FINE_AFFINE[:2, 3] = -1.0
VOXEL, FACTOR = (4.0, 4.0, 4.0), (2.0, 2.0, 1.0)
MODEL = {"tr": 2.0, "low_pass": 0.1, "high_pass": 1 / 128, "slice_time_ref": 0.5, "has_stc": False}
ACQUIRED = replace(UNTIMED, voxel=VOXEL, factor=FACTOR)
MAPPED = replace(ACTIVATION, contrasts=CONTRASTS, high_pass=MODEL["high_pass"])


def course(phase):
    """Blocks of 16 s every 64 s, 5 s late as the response is."""
    times = np.arange(80) * 2.0 - 4
    return ((times - 8 - phase) % 64 < 16) & (times >= 8 + phase)


def write_series(path, shape, affine, scale):
    rng = np.random.default_rng(0)
    with SeriesWriter(path, (*shape, 80), affine, 2.0) as writer:
        for t in range(80):
            volume = 1000 + 4 * rng.standard_normal(shape)
            volume[4 * scale : 8 * scale, 3 * scale : 5 * scale, 1] += 60 * course(0)[t]
            volume[6 * scale : 9 * scale, 5 * scale : 7 * scale, 2] += 60 * course(32)[t]
            writer.append(volume)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("in")
    for name, shape, affine, scale in (("lr", SHAPE, AFFINE, 1), ("hr", FINE, FINE_AFFINE, 2)):
        write_series(folder / f"{name}.nii", shape, affine, scale)
        save_image(np.ones(shape, dtype=np.uint8), affine, folder / f"mask_{name}.nii.gz")
        roi = np.zeros(shape, dtype=np.uint8)
        roi[3 * scale : 7 * scale, 2 * scale : 8 * scale, 1:3] = 1  # its border cuts both activations
        save_image(roi, affine, folder / f"roi_{name}.nii.gz")
    lines = "".join(f"{8 + k * 32}\t16\t{('thumb', 'little')[k % 2]}\n" for k in range(5))
    (folder / "events.tsv").write_text("onset\tduration\ttrial_type\n" + lines)
    return folder


@pytest.fixture(scope="module")
def raw_maps(files, tmp_path_factory):
    cwd = tmp_path_factory.mktemp("raw")
    return ActivationMaps(
        in_file=files / "lr.nii", mask=files / "mask_lr.nii.gz", roi=files / "roi_lr.nii.gz",
        events_file=files / "events.tsv", n_dummy=0, series="raw", fwhm_mm=0.0, contrasts=CONTRASTS,
        kinds=["cc", "glm"], thresholds=list(THRESHOLDS), factor=FACTOR, **MODEL,
    ).run(cwd=cwd).outputs  # fmt: skip


def test_correlation_maps_are_those_of_raw_at_its_widest_smoothing():
    def own(desc, contrast="thumb", stat="cc"):
        return {"contrast": contrast, "stat": stat, "desc": desc, "suffix": "statmap"}

    entities = [own("raw"), own("rawFwhm50"), own("bsplineFwhm132"), own("rawFwhm50", stat="t"), own("raw", "all"),
                {"label": "thumb", "desc": "rawQuarter", "suffix": "mask"}]  # fmt: skip
    assert correlation_maps(list("abcdef"), entities, ["thumb"]) == {"thumb": "b"}


def test_grown_region_takes_in_what_the_border_cut(files, raw_maps, tmp_path):
    grown = GrowRoi(
        in_files=raw_maps.out_files, in_entities=raw_maps.out_entities, contrasts=CONTRASTS,
        **{name: files / f"{name if '_' in name else name + '_lr'}.nii.gz" for name in
           ("mask", "roi", "mask_hr", "roi_hr")},
    ).run(cwd=tmp_path).outputs  # fmt: skip
    before, after = load_image(files / "roi_lr.nii.gz")[0] > 0, load_image(grown.roi)[0] > 0
    added = np.argwhere(after & ~before)
    assert {tuple(v) for v in added} == {(7, 3, 1), (7, 4, 1), (7, 5, 2), (7, 6, 2), (8, 5, 2), (8, 6, 2)}
    fine_before, fine_after = load_image(files / "roi_hr.nii.gz")[0] > 0, load_image(grown.roi_hr)[0] > 0
    assert int((fine_after & ~fine_before).sum()) == 4 * len(added)
    assert fine_after[14:16, 6:10, 1].all()
    assert json.loads(Path(grown.out_json).read_text())["roi_grown_voxels"] == len(added)


def test_empty_region_names_file_reason_and_fix(files, raw_maps, tmp_path):
    save_image(np.zeros(SHAPE, dtype=np.uint8), AFFINE, tmp_path / "empty.nii.gz")
    grow = GrowRoi(
        in_files=raw_maps.out_files, in_entities=raw_maps.out_entities, contrasts=CONTRASTS,
        mask=files / "mask_lr.nii.gz", roi=tmp_path / "empty.nii.gz", mask_hr=files / "mask_hr.nii.gz",
        roi_hr=files / "roi_hr.nii.gz",
    )  # fmt: skip
    with pytest.raises(ValueError, match=r"empty\.nii\.gz.*no voxel in the brain.*--roi"):
        grow.run(cwd=tmp_path)


def test_flags_are_rows_and_words(files, raw_maps, tmp_path):
    rng = np.random.default_rng(2)
    high = np.zeros((32, 32, 8), dtype=np.float32)
    high[8:24, 8:24] = 100
    high += rng.standard_normal(high.shape).astype(np.float32)
    low = high.reshape(16, 2, 16, 2, 8).mean(axis=(1, 3))
    low[:, :, 3] += 40 * rng.standard_normal((16, 16))
    mask = np.zeros(low.shape, dtype=np.uint8)
    mask[5:11, 5:11] = 1
    for name, data, affine in (("high", high, FINE_AFFINE), ("low", low, AFFINE), ("head", mask, AFFINE)):
        save_image(data, affine, tmp_path / f"{name}.nii.gz")
    (tmp_path / "edges.tsv").write_text(table_text([MetricRow(series="run", measure="edge_mismatch", value=2.5)]))
    found = Flags(
        in_files=raw_maps.out_files, in_entities=raw_maps.out_entities, contrasts=CONTRASTS, factor=FACTOR,
        mask=files / "mask_lr.nii.gz", roi=files / "roi_lr.nii.gz", train_highres=tmp_path / "high.nii.gz",
        train_lowres=tmp_path / "low.nii.gz", pair_mask=tmp_path / "head.nii.gz", tables=[tmp_path / "edges.tsv"],
    ).run(cwd=tmp_path).outputs  # fmt: skip
    rows = {(r.measure, r.contrast): r.value for r in read_table(found.out_file)}
    assert rows["flag_task_not_done", "thumb"] == 0.0
    assert rows["flag_artifact", "n/a"] == 1.0
    assert rows["flag_distortion", "n/a"] == 1.0
    assert len(rows) == 8
    words = {each["name"]: each for each in json.loads(Path(found.flags_json).read_text())}
    assert "slices 3 " in words["artifact"]["text"]
    assert words["distortion"]["remedy"]


def test_flags_without_pair_and_tables(files, raw_maps, tmp_path):
    found = Flags(
        in_files=raw_maps.out_files, in_entities=raw_maps.out_entities, contrasts=CONTRASTS, factor=FACTOR,
        mask=files / "mask_lr.nii.gz", roi=files / "roi_lr.nii.gz",
    ).run(cwd=tmp_path).outputs  # fmt: skip
    assert {r.measure for r in read_table(found.out_file)} == {
        "flag_task_not_done", "flag_broad", "flag_roi_misplaced"
    }  # fmt: skip


def test_a_flag_that_was_raised_elsewhere_is_not_repeated(files, raw_maps, tmp_path):
    edges = [MetricRow(series="run", measure=m, value=1.0) for m in ("edge_mismatch", "flag_distortion")]
    (tmp_path / "edges.tsv").write_text(table_text(edges))
    found = Flags(
        in_files=raw_maps.out_files, in_entities=raw_maps.out_entities, contrasts=CONTRASTS, factor=FACTOR,
        mask=files / "mask_lr.nii.gz", roi=files / "roi_lr.nii.gz", tables=[tmp_path / "edges.tsv"],
    ).run(cwd=tmp_path).outputs  # fmt: skip
    assert "flag_distortion" not in {r.measure for r in read_table(found.out_file)}
    words = {each["name"]: each["raised"] for each in json.loads(Path(found.flags_json).read_text())}
    assert words["distortion"] is True


def test_a_method_that_does_harm_is_flagged_unless_it_was_not_applied(files, raw_maps, tmp_path):
    rows = [MetricRow(series=one, against="measured", measure="split_ev_beyond", value=-1.6, lower=-1.9, upper=-1.3,
                      contrast="all", region="brain") for one in ("srgan", "sbl")]  # fmt: skip
    (tmp_path / "halves.tsv").write_text(table_text(rows))
    (tmp_path / "sbl.json").write_text(json.dumps({"applied": False}))
    found = Flags(
        in_files=raw_maps.out_files, in_entities=raw_maps.out_entities, contrasts=CONTRASTS, factor=FACTOR,
        mask=files / "mask_lr.nii.gz", roi=files / "roi_lr.nii.gz", tables=[tmp_path / "halves.tsv"],
        methods=["srgan", "sbl"], card_files=[tmp_path / "sbl.json"], card_names=["sbl"],
    ).run(cwd=tmp_path).outputs  # fmt: skip
    assert [(r.series, r.value) for r in read_table(found.out_file) if r.measure == "flag_harm"] == [("srgan", 1.0)]
    (said,) = [each for each in json.loads(Path(found.flags_json).read_text()) if each["name"] == "harm"]
    assert said["raised"]
    assert "worse than adding no detail" in said["text"]


def test_large_motion_and_the_test_one_level_down_reach_the_verdict(tmp_path):
    (tmp_path / "rows.tsv").write_text(table_text([]))
    (tmp_path / "confounds.tsv").write_text("framewise_displacement\ttrans_x\nn/a\t0\n0.8\t0\n0.9\t0\n")
    facts = {"from_mm": [12, 12, 3], "to_mm": [6, 6, 3], "series": {"sbl": {"reason": "the matrix is too small"}}}
    (tmp_path / "level.json").write_text(json.dumps(facts))
    found = Verdict(in_files=[tmp_path / "rows.tsv"], methods=["sbl"], baselines=["bspline"],
                    confounds_tsv=tmp_path / "confounds.tsv", one_level_down_json=tmp_path / "level.json").run(
        cwd=tmp_path
    ).outputs  # fmt: skip
    said = json.loads(Path(found.verdict_json).read_text())
    assert said["motion_text"].startswith("Head motion is large: 100 % of the volumes")
    assert said["headline"] == (
        "Accuracy at 3 mm was not measured. sbl was not tested one level down (12 → 6 mm): the matrix is too small."
    )


def test_verdict_on_files(tmp_path):
    rows = [
        MetricRow(series="sbl", against=other, measure="gain_split_ev_beyond", value=0.1, lower=0.05, upper=0.15,
                contrast="all", region="brain") for other in ("bspline", "inject")
    ]  # fmt: skip
    rows.append(MetricRow(series="sbl", against="measured", measure="split_ev_beyond", value=0.3, lower=0.2, upper=0.4,
                        contrast="all", region="brain"))  # fmt: skip
    (tmp_path / "rows.tsv").write_text(table_text(rows))
    found = Verdict(in_files=[tmp_path / "rows.tsv"], methods=["sbl"], baselines=["bspline", "inject"]).run(
        cwd=tmp_path
    ).outputs  # fmt: skip
    assert json.loads(Path(found.verdict_json).read_text())["headline"].startswith("sbl recovers real detail finer")
    assert {r.measure for r in read_table(found.out_file)} == {
        "verdict", "verdict_margin", "verdict_function", "verdict_image", "verdict_specific", "verdict_applied"
    }  # fmt: skip


@pytest.mark.parametrize(
    "card", [{"applied": False}, {"held_out": {"model": "zero filling: less than 2% of its error was explained"}}]
)
def test_a_card_that_says_zero_filling_takes_its_method_out_of_all_comparisons(tmp_path, card):
    rows = [
        MetricRow(series=one, against=other, measure="gain_split_ev_beyond", value=0.1, lower=0.05, upper=0.15,
                contrast="all", region="brain")
        for one, other in (("sbl", "bspline"), ("sbl", "sblMirror"), ("srgan", "sbl"), ("srgan", "bspline"))
    ]  # fmt: skip
    rows.append(MetricRow(series="sbl", against="measured", measure="split_ev_beyond", value=0.0))
    (tmp_path / "rows.tsv").write_text(table_text(rows))
    (tmp_path / "sbl.json").write_text(json.dumps(card))
    (tmp_path / "focuss.json").write_text(json.dumps({"applied": True, "held_out": {"model": "it is the one here"}}))
    found = Verdict(
        in_files=[tmp_path / "rows.tsv"], methods=["srgan", "sbl", "focuss"], baselines=["bspline"],
        card_files=[tmp_path / "sbl.json", tmp_path / "focuss.json"], card_names=["sbl", "focuss"],
    ).run(cwd=tmp_path).outputs  # fmt: skip
    said = json.loads(Path(found.verdict_json).read_text())
    assert said["not_applied_text"].startswith("sbl was not applied: it fell back to zero filling.")
    assert not any("sbl" in (each["series"], each["against"]) for each in said["sentences"])
    own = read_table(found.out_file)
    assert {r.series: r.value for r in own if r.measure == "verdict_applied"} == {
        "srgan": 1.0, "focuss": 1.0, "sbl": 0.0
    }  # fmt: skip
    merged = MergeEvaluation(in_files=[tmp_path / "rows.tsv", found.out_file]).run(cwd=tmp_path).outputs
    left = {(r.series, r.against) for r in read_table(merged.out_file) if r.measure == "gain_split_ev_beyond"}
    assert left == {("srgan", "bspline")}
    assert any(r.measure == "split_ev_beyond" for r in read_table(merged.out_file))


def test_claim_workflow_on_a_small_run(files, raw_maps, tmp_path):
    evaluation = EvaluationPlan(
        pair_conditions=("thumb", "little"), attribution_widths=attribution_widths(VOXEL, FACTOR)[1:]
    )
    workflow = init_claim_wf(run=run_of(acquisition=ACQUIRED, activation=MAPPED, evaluation=evaluation))
    workflow.base_dir = str(tmp_path)
    inputs = workflow.get_node("inputnode").inputs
    inputs.series_files = [str(files / "lr.nii"), str(files / "hr.nii")]
    for name in ("mask", "roi"):
        setattr(inputs, name, str(files / f"{name}_lr.nii.gz"))
        setattr(inputs, f"{name}_hr", str(files / f"{name}_hr.nii.gz"))
    inputs.events_file, inputs.n_dummy = str(files / "events.tsv"), 0
    rng = np.random.default_rng(3)
    names = [f"{a}_{b}{d}" for d in ("", "_derivative1") for a in ("trans", "rot") for b in "xyz"]
    body = "\n".join("\t".join(f"{v:.4f}" for v in line) for line in rng.standard_normal((80, 12)))
    (tmp_path / "confounds.tsv").write_text("\t".join(names) + "\n" + body + "\n")
    inputs.confounds_tsv, inputs.activation_tsv = str(tmp_path / "confounds.tsv"), raw_maps.metrics_tsv
    graph = workflow.run()
    table = next(node for node in graph.nodes() if node.name == "table").result.outputs.out_file
    rows = {(r.series, r.measure, r.region, r.fwhm_mm): r.value for r in read_table(table)}
    assert ("raw", "claim_size", "quarter", 0.0) in rows  # from the run's own table
    assert ("bspline", "claim_size", "quarter", 0.0) not in rows
    own = 7.1
    parts = [rows["bspline", f"claim_{part}_size", "quarter", own] for part in
             ("part_grid", "part_smoothing", "part_method", "total")]  # fmt: skip
    assert parts[0] * parts[1] * parts[2] == pytest.approx(parts[3], rel=1e-4)
    assert parts[1] < 1  # half the smoothing leaves smaller regions
    assert parts[2] == 1.0


def test_growth_workflow_on_a_small_run(files, tmp_path):
    workflow = init_roi_growth_wf(run=run_of(acquisition=ACQUIRED, activation=replace(MAPPED, smoothing=(0.0, 4.0))))
    workflow.base_dir = str(tmp_path)
    inputs = workflow.get_node("inputnode").inputs
    inputs.preproc_file, inputs.events_file, inputs.n_dummy = str(files / "lr.nii"), str(files / "events.tsv"), 0
    for field, name in (("bold_mask", "mask"), ("roi_bold", "roi")):
        setattr(inputs, field, str(files / f"{name}_lr.nii.gz"))
        setattr(inputs, f"{field}_hr", str(files / f"{name}_hr.nii.gz"))
    graph = workflow.run()
    grown = next(node for node in graph.nodes() if node.name == "grow").result.outputs
    assert load_image(grown.roi)[0].sum() > load_image(files / "roi_lr.nii.gz")[0].sum()
    assert load_image(grown.roi_hr)[0].shape == FINE


def test_claim_table_reads_several_tables(raw_maps, tmp_path):
    found = ClaimTable(
        in_files=[raw_maps.metrics_tsv, raw_maps.metrics_tsv], pair=["thumb", "little"], voxel_mm=VOXEL, factor=FACTOR
    ).run(cwd=tmp_path).outputs  # fmt: skip
    rows = read_table(found.out_file)
    assert {r.series for r in rows} == {"raw", "run"}
    assert len([r for r in rows if r.measure == "claim_dice"]) == 3
