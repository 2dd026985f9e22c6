"""Group level of structural scans: tables, page and errors, from participants' tables."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from bids_sr.cli import main
from bids_sr.engine.metric_rows import MetricRow, table_text
from bids_sr.structural.group.inputs import find_scan_tables, read_values
from bids_sr.structural.group.report import write_headline
from bids_sr.structural.group.values import (
    agreement_table,
    compare_methods,
    methods_table,
    protocols_table,
    variability_table,
)

SERIES = {"bspline": 20.0, "linear": 18.0, "attunet": 21.0}
PROVENANCE = {"GeneratedByVersion": "1", "SettingsDigest": "abc"}


def row(series: str, name: str, value: float, **labels: str) -> MetricRow:
    return MetricRow(series=series, statistic=name, value=value, **labels)


def write_scans(
    out: Path, label: str, shift: float, session: str = "", facts: dict[str, str] = PROVENANCE
) -> Path:
    """Write the metrics table of one participant, whose values differ by `shift`."""
    rows = []
    for name, psnr in SERIES.items():
        rows.append(
            row(
                name,
                "psnr",
                psnr + shift * (1.5 if name == "attunet" else 1),
                reference="heldOut",
                region="brain",
                contrast="T1w",
            )
        )
    for name, offset in {"measured": 0.0, "bspline": 0.3, "linear": -0.5, "attunet": 0.1}.items():
        rows += [
            row(name, "cjv", 1.0 + offset + offset * shift, region="brain", contrast="T1w"),
            row(
                name, "tissue_volume", 600 + 100 * offset + 5 * shift, region="gm", contrast="all"
            ),
        ]
    folder = out / f"sub-{label}" / (f"ses-{session}" if session else "") / "anat"
    folder.mkdir(parents=True)
    stem = f"sub-{label}" + (f"_ses-{session}" if session else "")
    path = folder / f"{stem}_desc-anat_metrics.tsv"
    path.write_text(table_text(rows))
    path.with_suffix(".json").write_text(json.dumps(facts))
    return path


@pytest.fixture
def directories(tmp_path: Path) -> tuple[Path, Path]:
    bids_dir, out = tmp_path / "in", tmp_path / "out"
    bids_dir.mkdir()
    listing = "participant_id\tscanner\n" + "".join(
        f"sub-{n:02d}\t{'A' if n < 3 else 'B'}\n" for n in range(1, 6)
    )
    (bids_dir / "participants.tsv").write_text(listing)
    for number in range(1, 5):
        write_scans(out, f"{number:02d}", 0.1 * number)
    return bids_dir, out


def values_of(out: Path, protocols: dict[str, str] | None = None) -> pd.DataFrame:
    return read_values(find_scan_tables(out), protocols or {})


def group(directories: tuple[Path, Path], *options: str) -> int:
    return main.main([str(directories[0]), str(directories[1]), "group", *options])


def test_a_call_names_the_participants_whose_results_it_replaces(
    directories: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert group(directories, "--participant-label", "01", "02") == 0
    capsys.readouterr()
    assert group(directories, "--participant-label", "03", "04", "--dry-run") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.count("2 participants") for line in lines if "sub-01, sub-02" in line] == [1]


def test_methods_are_compared_with_the_better_interpolation(
    directories: tuple[Path, Path],
) -> None:
    table = methods_table(values_of(directories[1])).set_index("series")
    assert set(table.index) == set(SERIES)
    assert table.loc["bspline", "mean"] == pytest.approx(20.25)
    assert "minus" not in table
    comparisons = compare_methods(values_of(directories[1])).set_index("series")
    assert list(comparisons.index) == ["attunet"]
    attunet = comparisons.loc["attunet"]
    assert attunet["minus"] == "bspline"
    assert (attunet["n"], attunet["word"]) == (4, "unclear")
    # differences 1.05, 1.10, 1.15, 1.20
    assert attunet["difference"] == pytest.approx(1.125)
    assert attunet["p_wilcoxon"] == pytest.approx(0.125)


def test_quality_errors_are_absolute_and_per_protocol(directories: tuple[Path, Path]) -> None:
    protocols = {f"sub-{n:02d}": "A" if n < 3 else "B" for n in range(1, 5)}
    table = protocols_table(values_of(directories[1], protocols)).set_index(["protocol", "series"])
    # |extra (1 + shift)| with shifts .1, .2 and .3, .4
    assert table.loc[("A", "linear"), "mae"] == pytest.approx(0.5 * 1.15)
    assert table.loc[("B", "attunet"), "mae"] == pytest.approx(0.1 * 1.35)
    assert table.loc[("B", "attunet"), "mae_sd"] == pytest.approx(0.01 / math.sqrt(2))
    assert (table["n"] == 2).all()


def test_metrics_as_printed_have_errors_next_to_corrected_metrics(tmp_path: Path) -> None:
    rows = []
    for name, sign in (("measured", -1.0), ("bspline", -1.1), ("attunet", 0.9)):
        rows += [
            row(name, statistic, value, region="brain", contrast="T2w")
            for statistic, value in (
                ("cjv", abs(sign)),
                ("cjv_signed", sign),
                ("efc_sum", -7 * abs(sign)),
                ("half_maximum", 0.5 * abs(sign)),
                ("wm2max_p95", 0.8 * abs(sign)),
            )
        ]
    for label in ("01", "02"):
        folder = tmp_path / f"sub-{label}" / "anat"
        folder.mkdir(parents=True)
        (folder / f"sub-{label}_desc-anat_metrics.tsv").write_text(table_text(rows))
    table = protocols_table(values_of(tmp_path)).set_index(["statistic", "series"])["mae"]
    assert table["cjv", "attunet"] == pytest.approx(0.1)
    # the contrast of gray and white matter is inverted, which the absolute value hides
    assert table["cjv_signed", "attunet"] == pytest.approx(1.9)
    assert table["cjv_signed", "bspline"] == pytest.approx(0.1)
    assert table["efc_sum", "bspline"] == pytest.approx(0.7)
    assert table["half_maximum", "bspline"] == pytest.approx(0.05)
    assert table["wm2max_p95", "attunet"] == pytest.approx(0.08)


def test_scan_and_brain_are_compared_separately(directories: tuple[Path, Path]) -> None:
    values = values_of(directories[1])
    psnr = values[values["statistic"] == "psnr"]
    with_scan = pd.concat([values, psnr.assign(region="scan", value=psnr["value"] + 10)])
    table = compare_methods(with_scan)
    brain = compare_methods(values)
    brain_rows = table[table["region"] == "brain"].reset_index(drop=True)
    pd.testing.assert_frame_equal(brain_rows, brain, check_dtype=False)
    (scan,) = table[table["region"] == "scan"].itertuples()
    assert scan.difference == pytest.approx(1.125)
    assert (scan.p_holm, scan.family) == (brain.loc[0, "p_holm"], 1)
    assert write_headline(table, 4) == write_headline(brain, 4)


def test_agreement_of_volumes_is_their_bias(directories: tuple[Path, Path]) -> None:
    table = agreement_table(values_of(directories[1])).set_index(["series", "unit"])
    assert table.loc[("bspline", "ml"), "bias"] == pytest.approx(30)
    assert table.loc[("bspline", "ml"), "high_limit"] == pytest.approx(30)
    assert table.loc[("linear", "percent"), "bias"] < -8


def test_sessions_are_averaged_and_give_the_variability_within_a_participant(
    directories: tuple[Path, Path],
) -> None:
    assert variability_table(values_of(directories[1])).empty
    write_scans(directories[1], "05", 0.0, "1")
    write_scans(directories[1], "05", 1.0, "2")
    table = variability_table(values_of(directories[1])).set_index("series")
    assert table.loc["measured", "n"] == 1
    # 600 and 605 ml
    assert table.loc["measured", "sd_within"] == pytest.approx(5 / math.sqrt(2))
    assert table.loc["measured", "cv_percent"] == pytest.approx(100 * 5 / 602.5 / math.sqrt(2))
    means = methods_table(values_of(directories[1])).set_index("series")
    assert means.loc["linear", "n"] == 5
    assert means.loc["linear", "maximum"] == pytest.approx(18.5)
    # differences between participants do not count: 800 and 805 ml
    write_scans(directories[1], "06", 40.0, "1")
    write_scans(directories[1], "06", 41.0, "2")
    table = variability_table(values_of(directories[1])).set_index("series")
    assert table.loc["measured", "n"] == 2
    assert table.loc["measured", "sd_within"] == pytest.approx(5 / math.sqrt(2))


def replace_psnr(values: pd.DataFrame, change: Callable[[pd.Series], pd.Series]) -> pd.DataFrame:
    """Return values with another PSNR of attunet."""
    is_attunet = (values["series"] == "attunet") & (values["statistic"] == "psnr")
    return values.assign(value=values["value"].mask(is_attunet, change(values["value"])))


def test_the_headline_claims_no_more_than_the_test(directories: tuple[Path, Path]) -> None:
    headline, state = write_headline(compare_methods(values_of(directories[1])), 4)
    assert state == "idle"
    assert "4 participants cannot reach" in headline
    for number in range(5, 10):
        write_scans(directories[1], f"{number:02d}", 0.1 * number)
    values = values_of(directories[1])
    better, state = write_headline(compare_methods(values), 9)
    assert (better.split()[0], better.split()[-1], state) == ("attunet", "T1w", "good")
    below, state = write_headline(compare_methods(replace_psnr(values, lambda psnr: 30 - psnr)), 9)
    assert (below.split()[0], below.split()[-1], state) == ("attunet", "T1w", "bad")
    assert below != better


def test_the_command_writes_tables_and_a_page(
    directories: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    write_scans(directories[1], "05", 0.0, "1")
    write_scans(directories[1], "05", 1.0, "2")
    assert group(directories, "--set", "anat.protocol=scanner") == 0
    assert (
        "Combining 6 metrics tables of structural scans from 5 participants"
        in capsys.readouterr().out
    )
    for name in ("metrics", "methods", "stats", "protocols", "agreement", "variability", "change"):
        table = pd.read_csv(directories[1] / f"group_scans_{name}.tsv", sep="\t")
        described = json.loads((directories[1] / f"group_scans_{name}_columns.json").read_text())
        assert len(table)
        assert set(table) == set(described)
    page = (directories[1] / "group_scans.html").read_text()
    for text in ("5 participants · reference", "protocol B", "limits of agreement", ">session<"):
        assert text in page
    assert "group_scans.html" in (directories[1] / "index.html").read_text()


def test_participants_that_networks_were_trained_on_are_left_out(
    directories: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    sets = {"01": "training", "02": "test", "03": "test", "04": "validation"}
    for label, name in sets.items():
        file = directories[1] / f"sub-{label}" / "anat" / f"sub-{label}_desc-anat_metrics.json"
        file.write_text(json.dumps({**PROVENANCE, "Split": name}))
    assert group(directories) == 0
    assert "in the training set of the networks: sub-01" in capsys.readouterr().out
    assert "in the validation set" in (directories[1] / "group_scans.html").read_text()
    table = pd.read_csv(directories[1] / "group_scans_methods.tsv", sep="\t")
    assert set(table["n"]) == {2}
    file.write_text(json.dumps({**PROVENANCE, "Split": "test"}))
    for label in ("02", "03"):
        other = directories[1] / f"sub-{label}" / "anat" / f"sub-{label}_desc-anat_metrics.json"
        other.write_text(json.dumps({**PROVENANCE, "Split": "training"}))
    assert group(directories) == 2
    assert "only one participant (sub-04)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("--set", "anat.protocol=scaner"), "did you mean 'scanner'?"),
        (("--set", "anat.protocol=zzz"), "fix: choose one of scanner"),
        (("--participant-label", "01"), "at least two"),
        (("--participant-label", "09"), "run the participant level with --sr-target anat"),
    ],
)
def test_errors_of_input_that_cannot_be_combined(
    directories: tuple[Path, Path],
    capsys: pytest.CaptureFixture[str],
    options: tuple[str, ...],
    text: str,
) -> None:
    assert group(directories, *options, "--sr-target", "anat") == 2
    assert text in capsys.readouterr().err
    assert not (directories[1] / "group_scans.html").exists()


@pytest.mark.parametrize(
    ("encoding", "options"),
    [
        ("latin-1", ()),
        ("utf-16", ("--set", "anat.protocol=scanner")),
        ("latin-1", ("--dry-run",)),
    ],
)
def test_a_list_of_participants_in_another_encoding_is_refused(
    directories: tuple[Path, Path],
    capsys: pytest.CaptureFixture[str],
    encoding: str,
    options: tuple[str, ...],
) -> None:
    listing = directories[0] / "participants.tsv"
    listing.write_bytes(listing.read_text().replace("A", "Köln").encode(encoding))
    assert group(directories, *options) == 2
    message = " ".join(capsys.readouterr().err.split())
    assert str(listing) in message
    assert "UTF-8" in message
    assert not (directories[1] / "group_scans.html").exists()


def test_mixed_versions_and_damaged_tables_are_rejected(
    directories: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    table = write_scans(directories[1], "05", 0.0, facts={**PROVENANCE, "GeneratedByVersion": "2"})
    assert group(directories) == 2
    assert "different versions" in capsys.readouterr().err
    table.with_suffix(".json").write_text(json.dumps(PROVENANCE))
    table.write_text("series\tvalue\nx\t1\n")
    assert group(directories) == 2
    assert table.name in capsys.readouterr().err


def test_the_dry_run_shows_protocols_and_writes_nothing(
    directories: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(directories[1].rglob("*"))
    assert group(directories, "--set", "anat.protocol=scanner", "--dry-run") == 0
    output = capsys.readouterr().out
    assert "protocols: A (2 tables), B (2 tables)" in output
    assert "missing: no metrics table found for sub-05" in output
    assert sorted(directories[1].rglob("*")) == before


def test_a_sidecar_key_can_define_protocols(directories: tuple[Path, Path]) -> None:
    bids_dir, out = directories
    for number in range(1, 5):
        name = f"sub-{number:02d}"
        anat = bids_dir / name / "anat"
        anat.mkdir(parents=True)
        for acquisition, model in (("highres", "Fine"), ("lowres", f"M{number % 2}")):
            (anat / f"{name}_acq-{acquisition}_T1w.json").write_text(
                json.dumps({"ManufacturersModelName": model})
            )
        sources = [
            f"bids:raw:{name}/anat/{name}_acq-{a}_T1w.nii.gz" for a in ("highres", "lowres")
        ]
        (out / name / "anat" / f"{name}_res-hr_desc-bspline_T1w.json").write_text(
            json.dumps({"Sources": sources})
        )
    assert group(directories, "--set", "anat.protocol=ManufacturersModelName") == 0
    table = pd.read_csv(out / "group_scans_protocols.tsv", sep="\t")
    assert set(table["protocol"]) == {"M0", "M1"}


MONTHS = {"01": (0.0, 1.1, 2.9), "02": (0.0, 0.8), "03": (0.0, 3.2), "04": (0.0,)}
"""Sessions per participant in months; session labels count from 1."""
VOLUMES = {"01": (100.0, 104.0, 90.0), "02": (200.0, 196.0), "03": (50.0, 55.0), "04": (80.0,)}


def write_sessions(bids_dir: Path, out: Path) -> None:
    """Write sessions with high-resolution scans only, and their dates."""
    for label, months in MONTHS.items():
        lines = []
        for number, (month, volume) in enumerate(zip(months, VOLUMES[label], strict=True), 1):
            folder = out / f"sub-{label}" / f"ses-{number}" / "anat"
            folder.mkdir(parents=True)
            path = folder / f"sub-{label}_ses-{number}_desc-anat_metrics.tsv"
            rows = [row("measured", "tissue_volume", volume, region="veins", contrast="all")]
            path.write_text(table_text(rows))
            path.with_suffix(".json").write_text(json.dumps(PROVENANCE))
            date = pd.Timestamp("1925-03-01") + pd.Timedelta(days=month * 30.4375)
            lines.append(f"ses-{number}\t{date.isoformat()}\t{month + 100:g}\n")
        (bids_dir / f"sub-{label}").mkdir(parents=True)
        (bids_dir / f"sub-{label}" / f"sub-{label}_sessions.tsv").write_text(
            "session_id\tacq_time\tage_months\n" + "".join(lines)
        )


@pytest.fixture
def longitudinal(tmp_path: Path) -> tuple[Path, Path]:
    bids_dir, out = tmp_path / "in", tmp_path / "out"
    write_sessions(bids_dir, out)
    return bids_dir, out


def change_of(directories: tuple[Path, Path]) -> pd.DataFrame:
    table = pd.read_csv(
        directories[1] / "group_scans_change.tsv", sep="\t", na_values="n/a", dtype={"time": str}
    )
    return table.set_index("time")


def test_volumes_change_from_baseline_by_month(longitudinal: tuple[Path, Path]) -> None:
    assert group(longitudinal) == 0
    table = change_of(longitudinal)
    assert list(table.index) == ["0", "1", "3"]
    assert table.loc["0", "n"] == 4
    assert table.loc["0", "median"] == pytest.approx(90)
    assert table.loc["0", ["n_change", "minimum", "maximum"]].tolist() == [0, 50, 200]
    # +4 % and -2 % at one month, -10 % and +10 % at three
    assert table.loc["1", ["change_median", "change_q1", "change_q3"]].tolist() == pytest.approx(
        [1, -0.5, 2.5]
    )
    assert table.loc["1", "absolute_median"] == pytest.approx(3)
    assert table.loc["3", "change_median"] == pytest.approx(0, abs=1e-9)
    assert table.loc["3", ["absolute_q1", "absolute_q3"]].tolist() == pytest.approx([10, 10])
    page = (longitudinal[1] / "group_scans.html").read_text()
    assert "Change from baseline" in page
    assert "veins and sinuses" in page
    assert (longitudinal[1] / "group" / "figures" / "group_scans_desc-change.svg").exists()


def test_participants_with_only_high_resolution_scans_are_not_compared(
    directories: tuple[Path, Path],
) -> None:
    """Four participants have pairs, a fifth has two sessions of high-resolution scans."""
    bids_dir, out = directories
    with (bids_dir / "participants.tsv").open("a") as listing:
        listing.write("sub-09\tB\n")
    for session, volume in (("1", 100.0), ("2", 110.0)):
        folder = out / "sub-09" / f"ses-{session}" / "anat"
        folder.mkdir(parents=True)
        path = folder / f"sub-09_ses-{session}_desc-anat_metrics.tsv"
        rows = [row("measured", "tissue_volume", volume, region="gm", contrast="all")]
        path.write_text(table_text(rows))
        path.with_suffix(".json").write_text(json.dumps(PROVENANCE))
    assert group(directories) == 0
    page = (out / "group_scans.html").read_text()
    assert "4 participants cannot reach" in page
    assert "across 4 participants" in page
    methods = pd.read_csv(out / "group_scans_methods.tsv", sep="\t")
    assert set(methods["n"]) == {4}
    assert change_of(directories).loc["2", "change_median"] == pytest.approx(10)


def test_dates_of_scans_replace_missing_dates_of_sessions(longitudinal: tuple[Path, Path]) -> None:
    for label, months in MONTHS.items():
        folder = longitudinal[0] / f"sub-{label}"
        (folder / f"sub-{label}_sessions.tsv").unlink()
        for number, month in enumerate(months, 1):
            date = pd.Timestamp("2020-01-31T23:00:00") + pd.Timedelta(days=month * 30.4375)
            (folder / f"ses-{number}").mkdir()
            (folder / f"ses-{number}" / f"sub-{label}_ses-{number}_scans.tsv").write_text(
                f"filename\tacq_time\nanat/a.nii.gz\t{date.isoformat()}\nanat/b.nii.gz\tn/a\n"
            )
    assert group(longitudinal) == 0
    assert list(change_of(longitudinal).index) == ["0", "1", "3"]


def test_a_column_of_months_can_be_named(longitudinal: tuple[Path, Path]) -> None:
    for table in longitudinal[0].glob("*/*_sessions.tsv"):
        lines = table.read_text().splitlines()
        cells = [line.split("\t") for line in lines[1:]]
        table.write_text(
            "session_id\tmonths\n"
            + "".join(f"{name}\t{float(age) - 99:g}\n" for name, _, age in cells)
        )
    assert group(longitudinal, "--set", "anat.months=months") == 0
    # months are counted from the baseline of the study, when no scan was acquired
    assert list(change_of(longitudinal).index) == ["1", "2", "4"]
    assert change_of(longitudinal)["change_median"].isna().all()


@pytest.mark.parametrize(
    ("table", "options", "text"),
    [
        ("session_id\tacq_time\nses-1\tyesterday\n", (), "acq_time is 'yesterday'"),
        (
            "session_id\tage\nses-1\t3\n",
            ("--set", "anat.months=month"),
            "available columns: age",
        ),
        ("session_id\tmonth\nses-1\tx\n", ("--set", "anat.months=month"), "must be numbers"),
        ("session_id\tacq_time\nses-1\t\xff\n", (), "cannot be read"),
        ("session_id\tacq_time\nses-1\t\xff\n", (), "not encoded in UTF-8: line 2"),
        ("session_id,acq_time\nses-1,1925-03-01\n", (), "column session_id is missing"),
    ],
)
def test_invalid_session_times_are_rejected(
    longitudinal: tuple[Path, Path],
    capsys: pytest.CaptureFixture[str],
    table: str,
    options: tuple[str, ...],
    text: str,
) -> None:
    for path in longitudinal[0].glob("*/*_sessions.tsv"):
        path.write_bytes(table.encode("latin-1"))
    assert group(longitudinal, *options) == 2
    assert text in capsys.readouterr().err
    assert not (longitudinal[1] / "group_scans.html").exists()


def test_session_times_that_were_not_downloaded_are_refused(
    longitudinal: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """Otherwise, the sessions would be compared by their labels without a word."""
    table = longitudinal[0] / "sub-02" / "sub-02_sessions.tsv"
    table.unlink()
    table.symlink_to("../.git/annex/objects/aa/bb/MD5E-s9--00.tsv")
    assert group(longitudinal) == 2
    message = capsys.readouterr().err
    assert str(table) in message
    assert "datalad get" in message
