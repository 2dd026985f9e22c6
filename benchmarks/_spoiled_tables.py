"""Damage tables, names, sizes and options at random; see `_spoiled_files`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from _spoiled_files import HOSTILE, KINDS, Kind, Rng, json_thing, kind, pick
from data.dataset import EVENTS, BidsMaker
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError

HEADER = "onset\tduration\ttrial_type"
NUMBERS = (
    "",
    "n/a",
    "x",
    "nan",
    "inf",
    "-inf",
    "1e308",
    "-1e308",
    "-5",
    "1,5",
    "0x1",
    "1_0",
    "1e400",
    " 2 ",
    "²",
    "1e-9",
)


def _events(maker: BidsMaker) -> Path:
    return maker.path("sub-01_task-tap_events.tsv", "func")


def _lines(rows: Any = EVENTS, header: str = HEADER) -> str:
    return "\n".join([header, *("\t".join(map(str, row)) for row in rows)]) + "\n"


@kind
def table_text(rng: Rng, maker: BidsMaker) -> None:
    good = _lines()
    _events(maker).write_bytes(
        pick(
            rng,
            (
                b"",
                b"\n",
                b"\n\n\n",
                HEADER.encode(),
                good.replace("\n", "\r\n").encode(),
                good.replace("\n", "\r").encode(),
                good.replace("\t", "  ").encode(),
                good.replace("\t", ",").encode(),
                good.encode("utf-16"),
                rng.bytes(500),
                b"\xef\xbb\xbf" + good.encode(),
                good.replace("thumb", "d\xe4umen").encode("latin-1"),
                good.encode() * 2,
                good.replace("thumb", "th\0umb").encode(),
                good.replace("thumb", '"thumb').encode(),
                b"\0" * 1000,
                good.replace("thumb", '"' + "x" * 200_000).encode(),
                good.encode() + b"\t\t\t\t\t\n",
                good[:20].encode(),
                _lines(header="onset\tonset\tduration\ttrial_type").encode(),
                _lines(header="").encode(),
                _lines(header="Onset\tDuration\tTrial_Type").encode(),
                _lines(header=HEADER + "\t\t").encode(),
                (good + "1\t1\n2\n\n3\t1\tthumb\tmore\tcells\n").encode(),
                ("\n" * 50 + good).encode(),
            ),
        )
    )


@kind
def table_columns(rng: Rng, maker: BidsMaker) -> None:
    names = ["onset", "duration", "trial_type", "onset", "x", ""]
    rng.shuffle(names)
    names = names[: int(rng.integers(1, 6))]
    cells = {"onset": "2.0", "duration": "4.0", "trial_type": "thumb"}
    _events(maker).write_text(
        _lines([[cells.get(name, "1") for name in names]] * 4, "\t".join(names))
    )


@kind
def table_numbers(rng: Rng, maker: BidsMaker) -> None:
    rows = [[str(cell) for cell in row] for row in EVENTS]
    for _ in range(int(rng.integers(1, 6))):
        rows[int(rng.integers(len(rows)))][int(rng.integers(2))] = pick(rng, NUMBERS)
    _events(maker).write_text(_lines(rows))


@kind
def table_types(rng: Rng, maker: BidsMaker) -> list[str]:
    names = [pick(rng, HOSTILE) for _ in range(3)]
    rows = [(2 + 3.0 * n, 2.0, names[n % 3]) for n in range(8)]
    _events(maker).write_text(_lines(rows), encoding="utf-8", errors="surrogatepass")
    return ["--contrasts", "all"] if rng.random() < 0.2 else []


@kind
def table_long(rng: Rng, maker: BidsMaker) -> None:
    count, kinds = pick(rng, ((1_000_000, 2), (20_000, 20_000), (500, 300), (50_000, 1)))
    onsets = np.linspace(-10, pick(rng, (20, 1e6)), count)
    _events(maker).write_text(
        _lines((f"{t:.4f}", "0.01", f"t{n % kinds}") for n, t in enumerate(onsets))
    )


@kind
def table_timing(rng: Rng, maker: BidsMaker) -> None:
    first, length = pick(
        rng,
        (
            (-1e9, 1),
            (-30, 1),
            (28, 1e9),
            (1e9, 1),
            (0, 0),
            (29.999, 0),
            (0, 30),
            (-20, 45),
            (1, -1),
        ),
    )
    _events(maker).write_text(
        _lines([(first, length, "thumb"), (first, length, "little"), (first, length, "thumb")])
    )


def _rename(path: Path, name: str) -> None:
    path.rename(path.with_name(name))


@kind
def names(rng: Rng, maker: BidsMaker) -> None:
    """Give odd names to all files of the run, or to one of them."""
    label = pick(
        rng,
        (
            "",
            " ",
            "a b",
            "ä",
            "\u202e",
            "..",
            "%s",
            "{x}",
            "$(id)",
            "'",
            '"',
            "\n",
            "<b>",
            "x" * 150,
            "-",
            "1",
            "tap_",
            "tap-tap",
            "&",
            "*",
            "?",
            "[a",
            "\\",
            "\udcff",
            "tap_run-1_run-2",
            "tap_ses-x",
            "tap_echo-1",
            "tap_part-phase",
            "tap_sub-02",
            "tap_run-abc",
            "tap_run--1",
            "tap_run-" + "9" * 30,
            "tap_dir-",
        ),
    )
    paths = sorted(maker.root.rglob("*task-tap*"))
    for path in paths if rng.random() < 0.7 else [pick(rng, paths)]:
        _rename(path, path.name.replace("task-tap", f"task-{label}"))


@kind
def names_of_one(rng: Rng, maker: BidsMaker) -> None:
    path = Path(pick(rng, sorted(maker.root.rglob("*.nii.gz"))))
    stem = path.name.removesuffix(".nii.gz")
    _rename(
        path,
        pick(
            rng,
            (
                stem + ".NII.GZ",
                stem + ".nii",
                stem + ".nii.gz.nii.gz",
                "." + path.name,
                stem.replace("sub-01", "sub-02") + ".nii.gz",
                stem.replace("sub-01_", "") + ".nii.gz",
                stem.replace("_", "__") + ".nii.gz",
                stem.replace("_", "-") + ".nii.gz",
                stem.replace("sub-01", "sub-01_ses-x") + ".nii.gz",
                "sub-01_bold.nii.gz",
                "bold.nii.gz",
                "_bold.nii.gz",
                stem.replace("sub", "SUB") + ".nii.gz",
                "x.nii.gz",
                stem + "\n.nii.gz",
                "sub-01_T1w_bold.nii.gz",
            ),
        ),
    )


@kind
def folders(rng: Rng, maker: BidsMaker) -> None:
    variant = int(rng.integers(8))
    folder = maker.root / "sub-01"
    if variant == 0:
        folder.rename(
            maker.root
            / pick(
                rng,
                (
                    "sub-",
                    "sub-01 copy",
                    "sub-0_1",
                    "sub-ä",
                    "sub-01\n",
                    "sub-..",
                    "sub-<b>",
                    "sub-02",
                ),
            )
        )
    elif variant == 1:
        (folder / "func").rename(folder / pick(rng, ("Func", "func ", "anat2", "dwi")))
    elif variant == 2:
        for number in range(3):
            (folder / f"ses-{number}").symlink_to(folder)
            (folder / "func" / f"x{number}").symlink_to(maker.root)
    elif variant == 3:
        maker.subject("01", session=pick(rng, ("a", "B" * 60, "1")))
    elif variant == 4:
        (folder / "ses-..").mkdir()
        (maker.root / "sub-03").symlink_to("/")
        (maker.root / "sub-04").write_text("")
    elif variant == 5:
        for number in range(30):
            (folder / f"ses-{number}" / "func").mkdir(parents=True)
    elif variant == 6:
        (maker.root / "layout_config.json").write_text(
            '{"name": "x", "entities": [{"name": "subject", "pattern": "((a+)+)+$"}]}'
        )
        (folder / "layout_config.json").write_text("[")
    else:
        maker.events("sub-01_task-tap_run-1")
        maker.bold("sub-01_task-tap_run-1")
        maker.bold("sub-01_task-tap_run-01")


@kind
def sizes(rng: Rng, maker: BidsMaker) -> None:
    """Write pairs with odd factors, other fields of view, few or many volumes, tiny and long
    voxels.
    """
    zooms = tuple(
        float(pick(rng, (1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 12.0, 24.0, 0.5))) for _ in range(3)
    )
    shift = tuple(float(rng.normal(0, 30)) for _ in range(3))
    variant = int(rng.integers(5))
    if variant == 0:
        maker.star("sub-01_acq-highres", zooms, shift=shift)
    elif variant == 1:
        maker.star("sub-01_acq-lowres", zooms)
    elif variant == 2:
        maker.star("sub-01_acq-highres", (3.0, 3.0, 4.0), n_volumes=int(rng.integers(1, 4)))
    elif variant == 3:
        count = int(pick(rng, (1, 2, 3, 5, 17, 400)))
        maker.bold(n_volumes=count, tr=float(pick(rng, (0.001, 0.5, 1.0, 30.0, 99.0))))
    else:
        maker.bold(
            zooms=zooms,
            dtype=pick(rng, ("uint8", "int16", "float32", "float64", "complex64", "uint32")),
            shift=shift,
        )


@kind
def several(rng: Rng, maker: BidsMaker) -> list[str]:
    """Combine two or three other kinds."""
    options: list[str] = []
    for _ in range(int(rng.integers(2, 4))):
        name = pick(rng, [name for name in KINDS if name != "several"])
        try:
            options += KINDS[name](rng, maker) or []
        except OSError:
            continue  # an earlier kind has removed the file
        except (
            ValueError,
            EOFError,
            IndexError,
            TypeError,
            AttributeError,
            ImageFileError,
            HeaderDataError,
        ):
            continue  # or its content
    maker.expected, maker.accepted = "", False  # one kind may undo the expectation of another
    return options


@kind
def filter_file(rng: Rng, maker: BidsMaker) -> list[str]:
    path = maker.root.parent / "filter.json"
    entity = pick(
        rng,
        (
            "echo",
            "session",
            "task",
            "nothing",
            "suffix",
            "extension",
            "datatype",
            "subject",
            "scope",
            "target",
            "return_type",
            "regex_search",
            "invalid_filters",
            "run",
            "RepetitionTime",
            "self",
            "",
        ),
    )
    value = pick(
        rng,
        (
            json_thing(rng),
            "../x",
            ["a", {"b": 1}],
            "Query.NONE",
            "query.any",
            "query.bad",
            1,
            [1, "1"],
            "bold",
            ".nii",
        ),
    )
    content = pick(
        rng,
        ({pick(rng, ("bold", "t1w", "t2starw", "x")): {entity: value}}, {"bold": value}, value),
    )
    path.write_text(json.dumps(content))
    return ["--bids-filter-file", str(path)]


@kind
def config_file(rng: Rng, maker: BidsMaker) -> list[str]:
    path = maker.root.parent / "config.toml"
    key = pick(
        rng,
        (
            "selection.participant_label",
            "selection.task_id",
            "paths.output_dir",
            "run.run_uuid",
            "activation.roi",
            "anat.protocol",
            "preprocessing.output_spaces",
            "activation.smoothing",
            "resources.nprocs",
            "x.y",
            "superres.factor",
            "evaluation.truth",
            "activation.contrasts",
            "resources.mem_gb",
        ),
    )
    section, name = key.split(".")
    value = pick(
        rng,
        (
            '"../../x"',
            '["../../x"]',
            "-1",
            "1e400",
            "nan",
            "[]",
            "{}",
            "true",
            '["a", 1]',
            '""',
            "9" * 400,
            '"\\u0000"',
            "1979-05-27",
            '["<b>"]',
        ),
    )
    text = pick(
        rng,
        (f"[{section}]\n{name} = {value}\n",) * 6
        + ("", "[", "\0", "a = 1", "[[run]]\n", "x" * 100_000),
    )
    path.write_text(text)
    return ["--config-file", str(path)]


@kind
def options(rng: Rng, maker: BidsMaker) -> list[str]:
    return list(
        pick(
            rng,
            (
                ["--participant-label", "../.."],
                ["--participant-label", "99"],
                ["--task-id", "<b>"],
                ["--run-id", "9" * 30],
                ["--contrasts", "../../x=thumb"],
                ["--contrasts", "x" * 5000],
                ["--contrasts", "1e400*thumb"],
                ["--contrasts", "a+" * 3000],
                ["--contrasts", "(" * 3000],
                ["--contrasts", "nan*thumb"],
                ["--contrasts", "thumb*0"],
                ["--roi", "/dev/zero"],
                ["--roi", "/"],
                ["--roi", "../../x"],
                ["--set", "anat.lesion_template=../../x"],
                ["--output-spaces", "../../x"],
                ["--sr-factor", "1e30"],
                ["--sr-factor", "nan"],
                ["--sr-factor", "0"],
                ["--smoothing", "nan"],
                ["--smoothing", "1e30"],
                ["--smoothing", "-1"],
                ["--truth", "/dev/null"],
                ["--truth", "/"],
                ["--mem", "0"],
                ["--mem", "9" * 400],
                ["--nprocs", "0"],
                ["--nprocs", "-1"],
                ["--pretrained", "/dev/zero"],
                ["--pretrained", "/"],
                ["--set", "superres.model_dir=/dev/zero"],
                ["--dummy-scans", "1000000"],
                ["--random-seed", "-1"],
                ["--random-seed", "9" * 50],
                ["--slice-time-ref", "7"],
                ["--set", "activation.high_pass=inf"],
                ["--set", "activation.low_pass=nan"],
                ["--bids-database-dir", "/dev/null"],
                ["--bids-database-dir", str(maker.root.parent / "db")],
                ["--set", "evaluation.margin=nan"],
                ["--bids-filter-file", "/dev/zero"],
                ["--config-file", "/"],
                ["-w", "/dev/null"],
                ["-w", "/proc/x"],
                ["--set", "activation.thresholds=nan"],
                ["--vgg-weights", "/dev/zero"],
                ["--max-train-minutes", "nan"],
                ["--retrospective"],
                ["--derivatives", "fmriprep=/"],
                ["--derivatives", "/dev/null"],
                ["--derivatives", "fmriprep=../../x"],
            ),
        )
    )


ALL: dict[str, Kind] = KINDS
