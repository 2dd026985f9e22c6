"""Interfaces that draw: they run on files, name what they wrote, and the sink and the report know those names."""

import json
import re
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import yaml

from bids_sr import boilerplate
from bids_sr.interfaces.derivatives_sink import derivative_path
from bids_sr.interfaces.reporting import figure_data as tools
from bids_sr.interfaces.reporting import map_reportlets, reportlet_figures

SHAPE, LOW, FINE, COARSE = (24, 24, 6), (12, 12, 6), np.diag([-3.0, 3, 4, 1]), np.diag([-6.0, 6, 4, 1])
COARSE[:3, 3] = [-1.5, 1.5, 0]
SPEC = yaml.safe_load(boilerplate.path("reports-spec.yml").read_text().replace("{subject}", "01"))


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, str]:
    """Small images of everything a run has, on the acquired and on the high-resolution grid."""
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(3)
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in SHAPE), indexing="ij")
    mask = (x**2 + y**2 + 0.3 * z**2 < 0.8).astype(np.float32)
    image = mask * (400 + 200 * (x**2 + y**2 < 0.1)).astype(np.float32)
    low = lambda a: a.reshape(12, 2, 12, 2, 6).mean(axis=(1, 3)).astype(np.float32)  # noqa: E731
    roi = np.zeros(SHAPE, dtype=np.float32)
    roi[5:11, 6:16, 2:5] = 1
    series = low(image)[..., None] * (1 + 0.02 * rng.standard_normal((*LOW, 30)))
    made = {
        "mask_hr": (mask, FINE),
        "image_hr": (image, FINE),
        "roi_hr": (roi * mask, FINE),
        "mask": (low(mask) > 0.5, COARSE),
        "image": (low(image), COARSE),
        "gm": (low(mask) * (low(image) < 450), COARSE),
        "wm": (low(image) > 450, COARSE),
        "csf": (np.zeros(LOW), COARSE),
        "raw": (series, COARSE),
        "bspline": (np.kron(series, np.ones((2, 2, 1, 1))), FINE),
        "srgan": (np.kron(series, np.ones((2, 2, 1, 1))) + 5, FINE),
    }
    paths = {}
    for name, (data, affine) in made.items():
        nifti = nib.Nifti1Image(np.asarray(data, dtype=np.float32), affine)
        nifti.header.set_xyzt_units("mm", "sec")
        if nifti.ndim == 4:
            nifti.header["pixdim"][4] = 2.0
        nib.save(nifti, folder / f"{name}.nii")
        paths[name] = str(folder / f"{name}.nii")
    lines = [
        "#Insight Transform File V1.0",
        "#Transform 0",
        "Transform: AffineTransform_double_3_3",
        "Parameters: 1 0 0 0 1 0 0 0 1 3 0 0",
        "FixedParameters: 0 0 0",
        "",
    ]
    text = {
        "xfm.txt": "\n".join(lines),
        "confounds.tsv": "trans_x\tframewise_displacement\n"
        + "".join(f"{k / 100}\t{'n/a' if not k else 0.1}\n" for k in range(30)),
        "log.tsv": "phase\titeration\tloss\tpsnr\nsearch\t0\t1\t30\nsearch\t50\t.5\t31\n",
        "card.json": json.dumps(
            {"method": "srgan", "held_out": {"iteration": 50, "network": {"psnr": 31.0, "ssim": 0.9}}}
        ),
        "pair.json": json.dumps({"offset_mm": 0.1, "resampled": False}),
        "table.tsv": "series\tfwhm_mm\tcontrast\tmeasure\tvalue\tunit\nraw\t0\tthumb\tpeak_t\t4.5\t1\n",
    }
    for name, content in text.items():
        (folder / name).write_text(content)
        paths[name] = str(folder / name)
    return paths


@pytest.fixture(scope="module")
def maps(files, tmp_path_factory) -> tuple[list[str], list[dict[str, str]]]:
    """Maps and regions of two conditions of three series, entities as the activation stage gives them."""
    folder = tmp_path_factory.mktemp("maps")
    rng = np.random.default_rng(4)
    paths, entities = [], []
    for series in ("raw", "bspline", "srgan"):
        shape, affine = (LOW, COARSE) if series == "raw" else (SHAPE, FINE)
        own = {} if series == "raw" else {"res": "hr"}
        for fwhm in ("", "Fwhm50"):
            for name in ("thumb", "little", "thumbMinusLittle"):
                t = 3 * rng.standard_normal(shape)
                for kind, data in (("t", t), ("Quarter", t > 5), ("Fdr", t > 6)):
                    path = folder / f"{series}{fwhm}{name}{kind}.nii.gz"
                    nib.save(nib.Nifti1Image(data.astype(np.float32), affine), path)
                    paths.append(str(path))
                    entities.append(
                        {**own, "contrast": name, "stat": "t", "desc": series + fwhm, "suffix": "statmap"}
                        if kind == "t"
                        else {**own, "label": name, "desc": series + fwhm + kind, "suffix": "mask"}
                    )
    return paths, entities


def known_to_the_report(entities: dict[str, str]) -> list[str]:
    """Sections whose queries find a file of these entities."""
    found = []
    for section in SPEC["sections"]:
        for each in section["reportlets"]:
            query = dict(each.get("bids", {"desc": "-"}))
            desc, extensions = query["desc"], query.get("extension", [])
            same = re.fullmatch(desc, entities["desc"]) if query.get("regex_search") else desc == entities["desc"]
            if same and query["suffix"] == entities["suffix"] and entities["extension"] in extensions:
                found.append(section["name"])
    return found


def run(interface, tmp_path) -> list[dict[str, str]]:
    """Run it and check what holds for all: files beside entities, names that sink and report know."""
    outputs = interface.run(cwd=str(tmp_path)).outputs
    assert len(outputs.out_files) == len(outputs.out_entities) > 0
    for path, entities in zip(outputs.out_files, outputs.out_entities, strict=True):
        assert path.startswith(str(tmp_path))
        assert path.endswith(entities["extension"])
        assert entities["datatype"] == "figures"
        task = {"task": "tap"} if entities["suffix"] == "bold" else {}
        name = derivative_path({"subject": "01", **task, **entities})
        assert name.startswith("sub-01/figures/sub-01_")
        assert len(known_to_the_report(entities)) == 1
        content = Path(path).read_text(encoding="utf-8")
        assert len(content) > 20
        if path.endswith(".svg"):
            assert "data:image/png" in content or "<path" in content
    return outputs.out_entities


def descs(entities) -> list[str]:
    return [each["desc"] for each in entities]


def test_anatomy(files, tmp_path):
    tpms = [files[name] for name in ("gm", "wm", "csf")]
    found = run(
        reportlet_figures.AnatReport(t1w=files["image"], mask=files["mask"], tpms=tpms, roi=files["mask"]), tmp_path
    )
    assert descs(found) == ["brain"]
    assert "region of interest" not in (tmp_path / "brain_T1w.svg").read_text()  # it would repeat the brain
    part = reportlet_figures.AnatReport(t1w=files["image_hr"], mask=files["mask_hr"], roi=files["roi_hr"])
    run(part, tmp_path)
    assert "region of interest" in (tmp_path / "brain_T1w.svg").read_text()


def test_normalization(files, tmp_path):
    interface = reportlet_figures.NormReport(
        t1w=files["image"], std_t1w=files["image_hr"], template=files["image_hr"], template_mask=files["mask_hr"]
    )
    assert descs(run(interface, tmp_path)) == ["norm"]


def test_pair(files, tmp_path):
    interface = reportlet_figures.PairReport(
        train_highres=files["image_hr"],
        train_lowres=files["image"],
        pair_mask=files["mask"],
        highres=files["image_hr"],
        pair_json=files["pair.json"],
    )
    assert descs(run(interface, tmp_path)) == ["pair", "pairreg", "pairinfo"]
    assert "<td>0.1</td>" in (tmp_path / "pairinfo_T2starw.html").read_text()


@pytest.mark.parametrize(("method", "expected"), [("", ["training", "card"]), ("tv", ["trainingTv", "cardTv"])])
def test_training(files, tmp_path, method, expected):
    interface = reportlet_figures.TrainingReport(log_file=files["log.tsv"], card_file=files["card.json"], method=method)
    assert descs(run(interface, tmp_path)) == expected


def test_registration_to_t1w_uses_the_transform(files, tmp_path):
    interface = reportlet_figures.CoregReport(
        boldref=files["image"],
        t1w_preproc=files["image_hr"],
        t1w_mask=files["mask_hr"],
        t1w_tpms=[files["mask_hr"]] * 3,
        boldref2t1w_xfm=files["xfm.txt"],
    )
    assert descs(run(interface, tmp_path)) == ["coreg"]
    assert np.allclose(tools.first_matrix(files["xfm.txt"])[:3, 3], [-3, 0, 0])


def test_a_display_shift_goes_the_right_way(files):
    image = tools.load(files["image_hr"])
    shift = np.eye(4)
    shift[0, 3] = 3.0  # a grid point lies 3 mm to the right in the image: the picture moves one voxel to the left
    shown = tools.onto(image, SHAPE, FINE, shift)
    assert np.allclose(shown[1:], image.data[:-1])


def test_guide(files, tmp_path):
    interface = reportlet_figures.GuideReport(
        boldref=files["image"], guide_hr=files["image_hr"], highres=files["image_hr"], mask_hr=files["mask_hr"]
    )
    assert descs(run(interface, tmp_path)) == ["highres"]


def test_motion(files, tmp_path):
    interface = reportlet_figures.MotionReport(
        confounds_tsv=files["confounds.tsv"],
        preproc_file=files["raw"],
        mask=files["mask"],
        n_dummy=2,
        tpms=[files[name] for name in ("gm", "wm", "csf")],
    )
    assert descs(run(interface, tmp_path)) == ["motion", "carpet"]


def test_the_carpet_is_thin_and_grouped(files, monkeypatch):
    monkeypatch.setattr(tools, "MAX_CARPET_ROWS", 20)
    tissues = {name: tools.load(files[name]).data for name in ("gm", "wm", "csf")}
    mask = tools.load(files["mask"]).data
    rows, groups, tr = tools.carpet(files["raw"], mask, tissues)
    assert rows.shape == (sum(count for _, count in groups), 30)
    assert 10 < len(rows) <= 22
    assert [name for name, _ in groups] == ["gm", "wm"]
    assert tr == 2.0
    series = np.asarray(nib.load(files["raw"]).dataobj, dtype=np.float32)
    first = np.flatnonzero((mask > 0) & (tissues["gm"] > 0.5))[0]
    assert np.array_equal(rows[0], series.reshape(-1, 30)[first])


def test_one_slice(files, tmp_path):
    interface = map_reportlets.SuperresReport(
        series_files=[files["bspline"], files["srgan"]],
        series_names=["bspline", "srgan"],
        raw_file=files["raw"],
        roi_hr=files["roi_hr"],
        mask_hr=files["mask_hr"],
    )
    assert descs(run(interface, tmp_path)) == ["srslice"]


@pytest.mark.parametrize("background", [pytest.param("image_hr", marks=pytest.mark.slow), "image"])
def test_activation_of_every_contrast_and_smoothing(files, maps, tmp_path, background):
    interface = map_reportlets.ActivationReport(
        maps=maps[0],
        entities=maps[1],
        background=files[background],
        mask_hr=files["mask_hr"],
        roi_hr=files["roi_hr"],
        series_names=["raw", "bspline", "srgan"],
    )
    found = run(interface, tmp_path)
    assert sorted((each["contrast"], each["desc"]) for each in found) == sorted(
        (name, f"activation{fwhm}") for name in ("thumb", "little", "thumbMinusLittle") for fwhm in ("", "Fwhm50")
    )


def test_regions_of_single_conditions(files, maps, tmp_path):
    interface = map_reportlets.RegionsReport(
        maps=[[path] for path in maps[0]],
        entities=[[each] for each in maps[1]],
        background=files["image_hr"],
        mask_hr=files["mask_hr"],
        roi_hr=files["roi_hr"],
    )
    found = run(interface, tmp_path)
    assert [(e["contrast"], e["desc"]) for e in found] == [
        ("thumbVersusLittle", "regions"),
        ("thumbVersusLittle", "regionsFwhm50"),
    ]


def test_no_regions_no_files(files, maps, tmp_path):
    only = [k for k, each in enumerate(maps[1]) if each["suffix"] == "statmap"]
    interface = map_reportlets.RegionsReport(
        maps=[maps[0][k] for k in only],
        entities=[maps[1][k] for k in only],
        background=files["image_hr"],
        mask_hr=files["mask_hr"],
        roi_hr=files["roi_hr"],
    )
    outputs = interface.run(cwd=str(tmp_path)).outputs
    assert (outputs.out_files, outputs.out_entities) == ([], [])


def test_tables_and_summary(files, tmp_path):
    assert descs(run(map_reportlets.MetricsReport(activation_tsv=files["table.tsv"]), tmp_path)) == ["metrics"]
    summary = reportlet_figures.SummaryReport(summary={"Run": "x"}, n_dummy=3, desc="runsummary", suffix="bold")
    assert descs(run(summary, tmp_path)) == ["runsummary"]
    assert "<td>3</td>" in (tmp_path / "runsummary_bold.html").read_text()


def test_events_and_design_matrix_are_those_of_the_model(tmp_path):
    rng = np.random.default_rng(0)
    names = [f"{kind}_{axis}{end}" for end in ("", "_derivative1") for kind in ("trans", "rot") for axis in "xyz"]
    table = np.round(rng.standard_normal((60, 12)), 3)
    lines = ["\t".join(names), *("\t".join(map(str, row)) for row in table)]
    (tmp_path / "confounds.tsv").write_text("\n".join(lines) + "\n")
    (tmp_path / "events.tsv").write_text("onset\tduration\ttrial_type\n20\t16\tface\n60\t16\t<house>\n")
    interface = map_reportlets.DesignReport(
        events_file=str(tmp_path / "events.tsv"), confounds_tsv=str(tmp_path / "confounds.tsv"), n_dummy=2,
        timing={"tr": 2.0, "high_pass": 0.01},
    )  # fmt: skip
    assert descs(run(interface, tmp_path)) == ["design"]
    text = (tmp_path / "design_bold.svg").read_text()
    for word in ("face", "&lt;house&gt;", "conditions", "head motion", "drift", "design matrix: 17 columns"):
        assert word in text
    (drawn,) = map_reportlets.DesignReport.draw(**interface.inputs.get_traitsfree())
    events, matrix = drawn.content.axes
    assert matrix.images[0].get_array().shape == (58, 17)
    bars = events.collections[events.get_yticks().tolist().index(1)]  # face comes second
    assert bars.get_paths()[0].get_extents().intervalx.tolist() == [20, 36]
    course = events.lines[1].get_xdata()[np.argmin(events.lines[1].get_ydata())]
    assert 26 < course < 40  # the response follows its block


def test_maps_in_a_template_space_are_left_out():
    found = tools.sort_maps(
        ["a"], [{"space": "MNI", "contrast": "thumb", "stat": "t", "desc": "raw", "suffix": "statmap"}]
    )
    assert not found.stats


def test_a_run_at_rest_has_connectivity_and_amplitudes(files, maps, tmp_path):
    own = [{"stat": "alff", "desc": name, "suffix": "boldmap"} for name in ("bspline", "srgan")]
    first = maps[0][0]
    interface = map_reportlets.ActivationReport(
        maps=[*maps[0], first, first], entities=[*maps[1], *own], background=files["image_hr"],
        mask_hr=files["mask_hr"], roi_hr=files["roi_hr"], at_rest=True,
    )  # fmt: skip
    found = run(interface, tmp_path)
    assert {each["desc"] for each in found} == {"connectivity", "connectivityFwhm50", "amplitude"}
    assert "contrast" not in next(each for each in found if each["desc"] == "amplitude")
    run(map_reportlets.MetricsReport(activation_tsv=files["table.tsv"], at_rest=True), tmp_path)
    page = (tmp_path / "metrics_bold.html").read_text()
    assert "Connectivity measures" in page
    assert "Activation measures" not in page
