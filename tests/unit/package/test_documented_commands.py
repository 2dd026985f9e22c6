"""Commands of bids-sr on a page are run literally, each page in its own folder.

Long commands are only checked: `--dry-run` is appended to commands that have it, and training ends
after its first step. `tests/e2e/test_documented_runs.py` runs them to the end.
"""

import importlib
import re
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
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
from data.dataset import BidsMaker
from pages import ROOT, loaded
from sandbox import VARIABLES, Sandbox, finish, noise
from slurmmaker import program
from torch import nn

from bids_sr.io.grids import Factor
from bids_sr.sr import recipe

PARSERS = dict(loaded(ROOT / "docs/options_page.py").commands())
TEXTS = {page: (ROOT / page).read_text(encoding="utf-8") for page in all_pages()}
FIRST_STEP = ("--max-minutes", "0.0001")
"""Options that end `bids-sr-models train` after its first step."""
FROM_OUTSIDE = {"bids-sr-models rate"}
"""Commands that need files unavailable in tests: super-resolved scans and rating sheets.
Their words are only parsed, as are commands with ``--vgg-weights``.
"""
Attempt = Callable[[str, str], list[str]]


def parser_of(words: Sequence[str]) -> tuple[str, set[str]]:
    """Return heading and flags of the command that a call runs."""
    name = next(
        name for name in (" ".join(words[:2]), words[0], "") if name in PARSERS or not name
    )
    return name, set(PARSERS[name]._option_string_actions) if name else set()


def quick(words: Sequence[str]) -> list[str]:
    """Return a command with the option that stops it before long computations."""
    name, flags = parser_of(words)
    options = {word.partition("=")[0].replace("_", "-") for word in words}
    if options & {"--help", "--help-all", "--version", "--dry-run", "group"} or "slurm" in name:
        return [*words]
    if "--dry-run" in flags:
        return [*words, "--dry-run"]
    if "--max-minutes" in flags:
        return [*words, *FIRST_STEP]
    return [*words]


def simulated(out: Path, study: object, **_: object) -> None:
    """Write a dataset of noise with the scans requested from `bids-sr-phantom`."""
    noise(out)
    if study.anat:
        maker = BidsMaker(out)
        for contrast in ("T1w", "T2w", "FLAIR"):
            maker.image(f"sub-01_acq-highres_{contrast}.nii.gz", "anat", (3.0, 3.0, 3.0))
            maker.image(f"sub-01_acq-lowres_{contrast}.nii.gz", "anat", (6.0, 6.0, 6.0))


def _narrow(network: recipe._Network, channels: int, factor: Factor | None = None) -> nn.Module:
    """Build a network with few channels and blocks, so that a step takes little time."""
    settings = dict(network.settings)
    if "blocks" in settings:
        settings["blocks"] = 2
    widths = settings.get("widths")
    if "width" in settings or network.build.__name__ == "guiding_critic":
        settings["width"] = 4
    elif isinstance(widths, tuple):
        settings["widths"] = tuple(max(4, width // 16) for width in widths)
    return network.build(channels, **settings)


def _refuse(*_: object) -> None:
    raise OSError("no test has a network")


@pytest.fixture
def attempt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Attempt:
    """Return a function that runs the commands of a page and returns one error per failure."""
    slurm = tmp_path / "slurm"
    program(slurm / "sbatch", f'echo x >>"{slurm}/jobs"; grep -c . "{slurm}/jobs"')
    program(slurm / "squeue", f'cat "{slurm}/queue"')
    (slurm / "queue").write_text("1_1|PENDING|None\n")
    program(slurm / "scancel", "exit 0")
    program(slurm / "scontrol", "echo 'MaxArraySize = 1001'")
    monkeypatch.setenv("PATH", f"{slurm}:/usr/bin:/bin")
    monkeypatch.setenv("TEMPLATEFLOW_HOME", str(tmp_path / "templateflow"))
    monkeypatch.setattr("bids_sr.phantom.simulated_dataset.make_dataset", simulated)
    monkeypatch.setattr(recipe._Network, "__call__", _narrow)
    monkeypatch.setattr("socket.socket.connect", _refuse)  # nothing is downloaded

    def run(call: Call) -> str:
        """Run a command; return its error message, or "" on success."""
        heading, _ = parser_of(call.words)
        if heading in FROM_OUTSIDE or "--vgg-weights" in call.words:
            PARSERS[heading].parse_args(call.words[len(heading.split()) :])
            return ""
        _prepare(call, run, slurm)
        call = call.with_files()
        module, _, function = entry_points()[call.words[0]].partition(":")
        monkeypatch.chdir(call.folder)
        code = getattr(importlib.import_module(module), function)(quick(call.words)[1:])
        message = capsys.readouterr().err
        return f"{shlex.join(call.words)}\nexit code {code}\n{message}" if code else ""

    def run_page(page: str, text: str) -> list[str]:
        (tmp_path / "box").mkdir()
        box = Sandbox(tmp_path / "box", page, text)
        return [message for call in box.calls() if (message := run(call))]

    return run_page


def _prepare(call: Call, run: Callable[[Call], str], slurm: Path) -> None:
    """Do the steps that precede a command on a page.

    This is a finished output.
    """
    program_name, *arguments = call.words
    if len(arguments) < 2:
        return
    if program_name == "bids-sr" and ("--reports-only" in arguments or "group" in arguments):
        output_dir = call.folder / arguments[1]
        if not output_dir.exists():
            finish(output_dir)


@pytest.mark.parametrize(
    "page",
    [
        # the commands of this page train most networks
        pytest.param(page, marks=[pytest.mark.slow] * (page == "docs/models.md"))
        for page, text in TEXTS.items()
        if codes_of(text)
    ],
)
def test_commands_of_a_page_succeed(page: str, attempt: Attempt) -> None:
    errors = attempt(page, TEXTS[page])
    assert not errors, "\n".join(errors)


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
    "an optional part": (
        "bids-sr DATA OUT participant --compare NORDIC=FILE [--thruth FINE]",
        "--thruth",
    ),
    "a preset that is none": ("bids-sr-phantom demo --preset large", "large"),
    "an option of SLURM": ("bids-sr-slurm DATA OUT --partitoin long", "--partitoin"),
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
"""Invalid commands and patterns of their error messages."""


@pytest.mark.parametrize("kind", MUTANTS)
def test_an_invalid_command_is_detected(kind: str, attempt: Attempt) -> None:
    code, pattern = MUTANTS[kind]
    errors = attempt("docs/compare.md", f"Try:\n\n```\n{code}\n```\n")
    assert len(errors) >= 1
    assert all(re.search(pattern, text) for text in errors), errors


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
def test_an_invalid_command_within_a_sentence_is_detected(sentence: str, attempt: Attempt) -> None:
    [error] = attempt("README.md", f"# Title\n\n{sentence}\n")
    assert "unrecognized arguments: --smothing" in error


def test_names_and_options_without_a_command_are_not_commands() -> None:
    text = "`bids-sr`, `bids-sr-models train`, `--sr-method srgan`, `bids-sr.sif`, [bids-sr](x.md)"
    assert codes_of(text) == []


def words_in(code: str, folder: Path, **variables: str) -> list[tuple[str, ...]]:
    """Return the words of the calls in a code block."""
    return [call.words for call in calls_of(script_of(code), folder, variables)]


def test_commands_are_split_as_by_the_shell(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}_bold.nii").touch()
    code = """\
# bids-sr is not called here
bids-sr *_bold.nii "two words" $WHO participant  # nor here --x
WHO=02 && bids-sr DATA OUT participant \\
    --contrasts='-a+b' --participant-label "$WHO" >log
for who in 1 2; do bids-sr-models list "$who"; done
cd inner && bids-sr DATA "$PWD/OUT" group
bids-sr-phantom -  what it does, in words
"""
    assert words_in(code, tmp_path, WHO="01") == [
        ("bids-sr", "a_bold.nii", "b_bold.nii", "two words", "01", "participant"),
        ("bids-sr", "DATA", "OUT", "participant", "--contrasts=-a+b", "--participant-label", "02"),
        ("bids-sr-models", "list", "1"),
        ("bids-sr-models", "list", "2"),
        ("bids-sr", "DATA", f"{tmp_path}/inner/OUT", "group"),
        ("bids-sr-phantom", "-"),
    ]


def test_output_of_a_console_is_not_run() -> None:
    text = "```console\n$ bids-sr --version\nbids-sr 1; done\n```\n"
    assert codes_of(text) == ["bids-sr --version\n"]


def test_usage_lines_are_expanded_without_and_with_optional_parts() -> None:
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


def test_a_pattern_matches_files_of_an_earlier_command(tmp_path: Path) -> None:
    [call] = calls_of("bids-sr-models evaluate x.nii --model tv-*.safetensors", tmp_path)
    assert call.with_files() == call
    for name in ("tv-2", "tv-1", "other"):
        (tmp_path / f"{name}.safetensors").touch()
    assert call.with_files().words[-2:] == ("tv-1.safetensors", "tv-2.safetensors")


@pytest.mark.parametrize("code", ["a table; then (words", 'echo "$UNKNOWN_VARIABLE"'])
def test_a_block_that_is_not_shell_code_is_rejected(code: str, tmp_path: Path) -> None:
    with pytest.raises(NotAShellScript):
        calls_of(code, tmp_path)


def test_parsing_a_page_starts_no_program(tmp_path: Path) -> None:
    (tmp_path / "kept").touch()
    assert words_in("rm -rf kept && touch made", tmp_path) == [
        ("rm", "-rf", "kept"),
        ("touch", "made"),
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


def test_container_paths_are_mapped_to_the_host(tmp_path: Path) -> None:
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


OTHER_PROGRAMS = {
    ".": "CONTRIBUTING README index usage",
    "apptainer": "container",
    "docker": "container",
    "fitlins": "downstream",
    "fmriprep": "orders",
    "git": "CONTRIBUTING",
    "pip": "CONTRIBUTING README container index usage",
    "podman": "container",
    "pytest": "CONTRIBUTING README",
    "python": "container",
    "python3": "CONTRIBUTING README index usage",
    "tensorboard": "models",
    "xcp_d": "downstream orders",
}
"""Other programs in blocks of commands, with their pages.

They are not run here.
"""


def test_other_programs_on_pages_are_listed(tmp_path: Path) -> None:
    pages_by_program: dict[str, set[str]] = {}
    for page, text in TEXTS.items():
        folder = tmp_path / page.replace("/", "-")
        folder.mkdir()
        for code in codes_of(text):
            for call in calls_of(script_of(code), folder, VARIABLES):
                if not call.is_ours:
                    pages_by_program.setdefault(call.words[0], set()).add(Path(page).stem)
    assert {
        name: " ".join(sorted(pages)) for name, pages in sorted(pages_by_program.items())
    } == OTHER_PROGRAMS


def test_no_blocks_of_other_languages_have_our_commands() -> None:
    assert not {
        (page, name) for page, text in TEXTS.items() for name in blocks_of_other_languages(text)
    }


OTHER_OPTIONS = {
    "--build-arg",
    "--env",
    "--no-home",
    "--read-only",
    "--strict-skips",
    "--upgrade",
}
"""Options of other programs within sentences."""


def unknown_options(text: str) -> set[str]:
    """Return options within sentences of a page that none of our commands has."""
    sentences = re.sub(r"^ *```.*?^ *```$", "", text, flags=re.DOTALL | re.MULTILINE)
    flags = {flag for parser in PARSERS.values() for flag in parser._option_string_actions}
    return set(re.findall(r"`(--[a-z][\w-]*)[^`]*`", sentences)) - flags - OTHER_OPTIONS


def test_options_within_sentences_exist() -> None:
    unknown = {page: options for page in TEXTS if (options := unknown_options(TEXTS[page]))}
    assert unknown == {}
    assert unknown_options("Give `--sr-factor 2` or `--sr-fctor`.\n") == {"--sr-fctor"}
