"""Every command of ours on a page is run as it stands there, on files of its own.

What takes long is checked, not computed: `--dry-run` is appended to commands that have it, and
training ends after its first step. `tests/e2e/test_documented_runs.py` runs them to the end.
"""

import importlib
import json
import re
import shlex
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from bidsmaker import BidsMaker
from commands import (
    Call,
    NotAShellScript,
    all_pages,
    blocks_of_other_languages,
    calls_of,
    codes_of,
    entry_points,
    forms,
    ours_within,
    script_of,
)
from pages import ROOT, loaded
from sandbox import VARIABLES, Sandbox, finish, noise
from slurmmaker import program

from bids_sr.slurm.submission import submissions
from bids_sr.sr.models.model import TrainedModel
from bids_sr.sr.models.request import TrainingRequest
from bids_sr.sr.training.trainer import fit

PARSERS = {
    heading: parser for heading, parser, _ in loaded(ROOT / "docs/options_page.py").commands()
}
TEXTS = {page: (ROOT / page).read_text(encoding="utf-8") for page in all_pages()}
FIRST_STEP = ("--max-minutes", "0.0001")
"""Ends `bids-sr-models train` after its first step."""
FROM_OUTSIDE = {"bids-sr-models rate-make", "bids-sr-models rate-score", "bids-sr-models vgg19"}
"""Commands that need what no test has: a file of others, super-resolved scans, sheets of raters.
Their words are parsed, no more.
"""
Attempt = Callable[[str, str], list[str]]


def parser_of(words: Sequence[str]) -> tuple[str, set[str]]:
    """Heading and flags of the command that a call means."""
    name = next(
        name for name in (" ".join(words[:2]), words[0], "") if name in PARSERS or not name
    )
    return name, set(PARSERS[name]._option_string_actions) if name else set()


def quick(words: Sequence[str]) -> list[str]:
    """A command with the option that makes it stop before what takes long."""
    name, flags = parser_of(words)
    given = {word.partition("=")[0].replace("_", "-") for word in words}
    if given & {"--help", "--help-all", "--version", "--dry-run", "group"} or "slurm" in name:
        return [*words]
    if "--dry-run" in flags:
        return [*words, "--dry-run"]
    if "--trials" in flags and "--grid" not in given:
        return [*words, "--trials", "1"]
    if "--max-minutes" in flags:
        return [*words, *FIRST_STEP]
    return [*words]


def simulated(out: Path, study: object, **_: object) -> None:
    """A data set of noise with the scans that `bids-sr-phantom` was asked for."""
    noise(out)
    if study.anat:
        maker = BidsMaker(out)
        for contrast in ("T1w", "T2w", "FLAIR"):
            maker.image(f"sub-01_acq-highres_{contrast}.nii.gz", "anat", (3.0, 3.0, 3.0))
            maker.image(f"sub-01_acq-lowres_{contrast}.nii.gz", "anat", (6.0, 6.0, 6.0))


def _first_step(training: TrainingRequest, *where: Any) -> TrainedModel:
    """Train for a step, as a search has no limit of time."""
    return fit(replace(training, max_train_minutes=1e-4), *where)


def _refuse(*_: object) -> None:
    raise OSError("no test has a network")


@pytest.fixture
def attempt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Attempt:
    """Run the commands of a page and return what went wrong, one text for each command."""
    slurm = tmp_path / "slurm"
    program(slurm / "sbatch", f'echo x >>"{slurm}/jobs"; grep -c . "{slurm}/jobs"')
    program(slurm / "squeue", f'cat "{slurm}/queue"')
    (slurm / "queue").write_text("1_1|PENDING|None\n")
    program(slurm / "scancel", "exit 0")
    program(slurm / "scontrol", "echo 'MaxArraySize = 1001'")
    monkeypatch.setenv("PATH", f"{slurm}:/usr/bin:/bin")
    monkeypatch.setenv("TEMPLATEFLOW_HOME", str(tmp_path / "templateflow"))
    monkeypatch.setattr("bids_sr.phantom.simulated_dataset.make_dataset", simulated)
    monkeypatch.setattr("bids_sr.cli.models.search.fit", _first_step)
    monkeypatch.setattr("socket.socket.connect", _refuse)  # nothing is downloaded

    def run(call: Call) -> str:
        """What a command says if it fails, else ""."""
        heading, _ = parser_of(call.words)
        if heading in FROM_OUTSIDE:
            PARSERS[heading].parse_args(call.words[len(heading.split()) :])
            return ""
        _prepare(call, run, slurm)
        call = call.with_files()
        module, _, function = entry_points()[call.words[0]].partition(":")
        monkeypatch.chdir(call.folder)
        code = getattr(importlib.import_module(module), function)(quick(call.words)[1:])
        said = capsys.readouterr().err
        return f"{shlex.join(call.words)}\nexit code {code}\n{said}" if code else ""

    def attempts(page: str, text: str) -> list[str]:
        (tmp_path / "box").mkdir()
        box = Sandbox(tmp_path / "box", page, text)
        return [said for call in box.calls() if (said := run(call))]

    return attempts


def _prepare(call: Call, run: Callable[[Call], str], slurm: Path) -> None:
    """Do what the reader has done before a command: a finished output, jobs that were submitted
    and, for `retry`, have failed.
    """
    program_name, *rest = call.words
    if len(rest) < 2:
        return
    if program_name == "bids-sr" and (rest[0] == "report" or "group" in rest):
        output_dir = call.folder / rest[1]
        if not output_dir.exists():
            finish(output_dir)
    elif program_name == "bids-sr-slurm" and rest[0] in ("status", "retry", "cancel"):
        output_dir = call.folder / rest[1]
        if not output_dir.exists():
            noise(call.folder / "submitted")
            run(Call(("bids-sr-slurm", "submitted", str(output_dir)), call.folder))
        if rest[0] == "retry":
            (slurm / "queue").write_text("")
            values = {"participant": "sub-01", "state": "failed", "exit_code": 1, "job": "1_1"}
            status = submissions(output_dir)[0].folder / "status"
            status.mkdir(exist_ok=True)
            (status / "sub-01.json").write_text(json.dumps({**values, "started": 0, "ended": 9}))


@pytest.mark.parametrize("page", [page for page, text in TEXTS.items() if codes_of(text)])
def test_commands_of_a_page_do_their_work(page: str, attempt: Attempt) -> None:
    wrong = attempt(page, TEXTS[page])
    assert not wrong, "\n".join(wrong)


MUTANTS = {
    "an unknown option": ("bids-sr DATA OUT participant --no-such-option", "--no-such-option"),
    "a misspelled option": ("bids-sr DATA OUT participant --smothing 5", "--smothing"),
    "a wrong value": ("bids-sr DATA OUT participant --sr-method srgna", "srgna"),
    "no output directory": ("bids-sr DATA", "OUTPUT_DIR|output_dir"),
    "a file that no reader has": ("bids-sr DATA OUT participant --model other.json", "other.json"),
    "a folder that no reader has": ("bids-sr NOWHERE OUT participant", "NOWHERE"),
    "a wrong subcommand": ("bids-sr-models trian srgan m --fine fine_T1w.nii.gz", "trian"),
    "no method": ("bids-sr-models train --fine fine_T1w.nii.gz", "METHOD|required"),
    "a factor that the method has not": (
        "bids-sr-models train srgan m --fine fine_T2starw.nii.gz --factor 2 2 2",
        "slice by slice",
    ),
    "a factor that the model has not": (
        "bids-sr-models apply a.safetensors coarse_T2starw.nii.gz x.nii.gz --factor 3",
        "factor",
    ),
    "a model of another factor in a run": (
        "bids-sr-models train resnet3d m --fine few_T2starw.nii.gz --factor 2 2 2\n"
        "bids-sr bids OUT participant --sr-method resnet3d --pretrained m.safetensors"
        " --sr-factor 2",
        "trained for a factor of \\(2.0, 2.0, 2.0\\)",
    ),
    "no events": ("bids-sr-evaluate ACQUIRED NORDIC=FILE", "--events"),
    "an optional part": (
        "bids-sr-evaluate ACQUIRED NORDIC=FILE --events EVENTS.tsv [--thruth FINE]",
        "--thruth",
    ),
    "a preset that is none": ("bids-sr-phantom demo --preset large", "large"),
    "an option of SLURM": ("bids-sr-slurm DATA OUT --partitoin long", "--partitoin"),
    "no output": ("bids-sr-slurm status", "OUT"),
    "in a container": (
        "docker run --rm -v /path/to/bids:/data:ro bids-sr /data /out participant --smothing 5",
        "--smothing",
    ),
    "a mount that is missing": ("docker run --rm bids-sr /data /out participant", "/data"),
    "in a job": ("qsub -b y bids-sr DATA OUT participant --smothing 5", "--smothing"),
    "behind another command": ("cd study && bids-sr ../DATA OUT participant --x 5", "--x"),
    "in a loop": ("for n in 1 2; do bids-sr DATA OUT participant --x $n; done", "--x"),
    "on two lines": ("bids-sr DATA OUT participant \\\n    --smothing 5", "--smothing"),
}
"""Wrong commands, each with what is said of it."""


@pytest.mark.parametrize("kind", MUTANTS)
def test_a_wrong_command_is_found(kind: str, attempt: Attempt) -> None:
    code, said = MUTANTS[kind]
    wrong = attempt("docs/compare.md", f"Try:\n\n```\n{code}\n```\n")
    assert len(wrong) >= 1
    assert all(re.search(said, text) for text in wrong), wrong


@pytest.mark.parametrize(
    "sentence",
    [
        "Try `bids-sr DATA OUT participant --smothing 5`.",
        "| try | `bids-sr DATA OUT participant --smothing 5` |",
        "Try `bids-sr DATA OUT\nparticipant --smothing 5`.",
        "`bids-sr … --smothing 5` is tried.",
        "`bids-sr ... --smothing 5` is tried.",
        "`OMP_NUM_THREADS=1 bids-sr DATA OUT participant --smothing 5`",
    ],
)
def test_a_wrong_command_within_a_sentence_is_found(sentence: str, attempt: Attempt) -> None:
    [wrong] = attempt("README.md", f"# Title\n\n{sentence}\n")
    assert "unrecognized arguments: --smothing" in wrong


def test_a_right_command_is_not() -> None:
    """Names, and options without their command, are none."""
    text = "`bids-sr`, `bids-sr-models train`, `--sr-method srgan`, `bids-sr.sif`, [bids-sr](x.md)"
    assert codes_of(text) == []


def words_in(code: str, folder: Path, **variables: str) -> list[tuple[str, ...]]:
    """Words of the calls of a block."""
    return [call.words for call in calls_of(script_of(code), folder, variables)]


def test_words_are_those_of_the_shell(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}_bold.nii").touch()
    code = """\
# bids-sr is not called here
bids-sr *_bold.nii "two words" $WHO participant  # nor here --x
WHO=02 && bids-sr DATA OUT participant \\
    --contrasts='-a+b' --participant-label "$WHO" >log
for who in 1 2; do bids-sr-models card "$who"; done
cd inner && bids-sr DATA "$PWD/OUT" group
bids-sr-phantom -  what it does, in words
"""
    assert words_in(code, tmp_path, WHO="01") == [
        ("bids-sr", "a_bold.nii", "b_bold.nii", "two words", "01", "participant"),
        ("bids-sr", "DATA", "OUT", "participant", "--contrasts=-a+b", "--participant-label", "02"),
        ("bids-sr-models", "card", "1"),
        ("bids-sr-models", "card", "2"),
        ("bids-sr", "DATA", f"{tmp_path}/inner/OUT", "group"),
        ("bids-sr-phantom", "-"),
    ]


def test_output_of_a_console_is_not_run() -> None:
    text = "```console\n$ bids-sr --version\nbids-sr 1; done\n```\n"
    assert codes_of(text) == ["bids-sr --version\n"]


def test_a_form_is_tried_without_and_with_its_optional_parts() -> None:
    assert forms("bids-sr-models list [DIR ...]   methods") == [
        "bids-sr-models list",
        "bids-sr-models list DIR",
    ]
    assert forms("bids-sr-models list [METHOD|DIR ...]") == [
        "bids-sr-models list",
        "bids-sr-models list METHOD",
    ]
    assert forms("pip install -e '.[tests]'  # two spaces") == [
        "pip install -e '.[tests]'  # two spaces"
    ]


def test_a_pattern_matches_what_an_earlier_command_made(tmp_path: Path) -> None:
    [call] = calls_of("bids-sr-models evaluate x.nii --model tv-*.safetensors", tmp_path)
    assert call.with_files() == call
    for name in ("tv-2", "tv-1", "other"):
        (tmp_path / f"{name}.safetensors").touch()
    assert call.with_files().words[-2:] == ("tv-1.safetensors", "tv-2.safetensors")


@pytest.mark.parametrize("code", ["a table; then (words", 'echo "$UNKNOWN_VARIABLE"'])
def test_a_block_that_no_shell_can_run_is_refused(code: str, tmp_path: Path) -> None:
    with pytest.raises(NotAShellScript):
        calls_of(code, tmp_path)


def test_nothing_that_a_page_calls_is_started(tmp_path: Path) -> None:
    (tmp_path / "kept").touch()
    assert words_in("rm -rf kept && touch made", tmp_path) == [
        ("rm", "-rf", "kept"),
        ("touch", "made"),
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


def test_a_command_in_a_container_has_the_paths_of_the_host(tmp_path: Path) -> None:
    mounts = "-v /home/a:/data:ro -v /home/b:/out"
    [call] = calls_of(f"docker run --rm {mounts} bids-sr /data/x /out participant", tmp_path)
    assert ours_within(call).words == ("bids-sr", "/home/a/x", "/home/b", "participant")
    [call] = calls_of("apptainer run -B /a:/data,/b:/out bids-sr.sif /data /out group", tmp_path)
    assert ours_within(call).words == ("bids-sr", "/a", "/b", "group")
    [call] = calls_of("docker run --entrypoint x bids-sr bids-sr-phantom demo", tmp_path)
    assert ours_within(call).words == ("bids-sr-phantom", "demo")
    for code in ("docker build -t bids-sr .", "docker save bids-sr -o bids-sr.tar"):
        [call] = calls_of(code, tmp_path)
        assert ours_within(call) is None


OTHERS = {
    ".": "CONTRIBUTING README index usage",
    "apptainer": "container",
    "aws": "aws",
    "babs": "babs",
    "bosh": "boutiques",
    "datalad": "babs",
    "docker": "container",
    "fitlins": "downstream",
    "fmriprep": "orders",
    "git": "CONTRIBUTING",
    "nipoppy": "nipoppy",
    "pip": "CONTRIBUTING README boutiques container index nipoppy usage",
    "podman": "container",
    "pytest": "CONTRIBUTING README",
    "python": "container usage",
    "python3": "CONTRIBUTING README index usage",
    "qsub": "pbs sge",
    "tensorboard": "models",
    "xcp_d": "downstream orders",
}
"""Programs of others in blocks of commands, with the pages.

They are not run here; `tests/others` and `tests/container` have tests of recipes.
"""


def test_programs_of_others_are_known(tmp_path: Path) -> None:
    named: dict[str, set[str]] = {}
    for page, text in TEXTS.items():
        folder = tmp_path / page.replace("/", "-")
        folder.mkdir()
        for code in codes_of(text):
            for call in calls_of(script_of(code), folder, VARIABLES):
                if not call.is_ours:
                    named.setdefault(call.words[0], set()).add(Path(page).stem)
    assert {name: " ".join(sorted(pages)) for name, pages in sorted(named.items())} == OTHERS


ELSEWHERE = {
    ("docs/recipes/nextflow.md", "groovy"),
    ("docs/recipes/snakemake.md", "python"),
}
"""Blocks in other languages that call our programs; `test_recipes.py` reads the calls."""


def test_commands_in_blocks_of_other_languages_are_read_by_a_test() -> None:
    found = {
        (page, name) for page, text in TEXTS.items() for name in blocks_of_other_languages(text)
    }
    assert found == ELSEWHERE


OTHER_OPTIONS = {
    "--build-arg",
    "--container-overrides",
    "--env",
    "--hpc",
    "--logdir",
    "--no-container",
    "--no-home",
    "--processing-level",
    "--read-only",
    "--strict-skips",
    "--upgrade",
}
"""Options of other programs within sentences."""


def unknown_options(text: str) -> set[str]:
    """Return options within sentences of a page that no command of ours has."""
    sentences = re.sub(r"^ *```.*?^ *```$", "", text, flags=re.DOTALL | re.MULTILINE)
    flags = {flag for parser in PARSERS.values() for flag in parser._option_string_actions}
    return set(re.findall(r"`(--[a-z][\w-]*)[^`]*`", sentences)) - flags - OTHER_OPTIONS


def test_options_within_sentences_exist() -> None:
    pages = TEXTS.keys() - {"docs/field_options.md"}  # options of fMRIPrep, MRIQC and XCP-D
    wrong = {page: found for page in pages if (found := unknown_options(TEXTS[page]))}
    assert wrong == {}
    assert unknown_options("Give `--sr-factor 2` or `--sr-fctor`.\n") == {"--sr-fctor"}
