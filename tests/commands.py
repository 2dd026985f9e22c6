"""Commands on pages of the documentation, read by a shell.

Each block of a page is given to bash, with one function per program of ours that records its
arguments. Quotes, variables, patterns, loops, continued lines and job scripts therefore mean the
same as for a reader. Programs of others are also recorded, and no program is started.

Pages may use these forms, which a shell does not understand:

- ``[--option VALUE]`` is optional: the command is tried without and with it.
- ``...`` means more of the same. Directly after ``bids-sr``, ``...`` or ``…`` means the positional
  arguments.
- ``METHOD|FOLDER`` is a choice: the first word is taken.
- Text after two spaces explains the command.

A block that is not code for a shell has to name its language, ``text`` if it has none. A word in
capitals that stands for a value needs a line in `WORDS`.
"""

import configparser
import glob
import itertools
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from pages import ROOT, blocks

SHELL = ("", "bash", "sh", "shell", "console")
"""Languages of the blocks that a shell runs."""
OPERATORS = r"(?:^\s*|&& |\|\| |; |\| |do )"


def entry_points() -> dict[str, str]:
    """Module and function of each of our programs, by its name."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    lines = setup["options.entry_points"]["console_scripts"].strip().splitlines()
    return {name.strip(): place.strip() for name, place in (line.split("=") for line in lines)}


PROGRAMS = tuple(entry_points())
OURS = "|".join(sorted(map(re.escape, PROGRAMS), key=len, reverse=True))
STARTERS = {
    "apptainer exec",
    "apptainer run",
    "docker run",
    "podman run",
    "qsub",
    "sbatch",
    "singularity exec",
    "singularity run",
    "srun",
}
"""Programs of others whose last arguments are a command of ours."""
WORDS: Mapping[str, Mapping[str, str]] = {
    "": {"METHOD": "srgan", "MODEL": "a.safetensors"},
    "docs/usage.md": {"FILE": "denoised_bold.nii.gz"},
    "docs/models.md": {
        "A": "fine_T2starw.nii.gz",
        "B": "fine_T1w.nii.gz",
        "FILE": "fine_T2starw.nii.gz",
        "K": "3",
        "METHODS": "unet,attunet",
        "IMAGE": "coarse_T2starw.nii.gz",
        "REFERENCE": "fine_T2starw.nii.gz",
    },
}
"""Replacements of words in capitals by page; "" is for all pages."""
VARIABLES = {"NSLOTS": "4", "PBS_ARRAY_INDEX": "1", "PBS_O_WORKDIR": ".", "SGE_TASK_ID": "1"}
"""Environment variables of a job in a batch system."""


class Call(NamedTuple):
    """A call of a program on a page: its words after expansion by bash, and the working
    directory.
    """

    words: tuple[str, ...]
    folder: Path

    @property
    def is_ours(self) -> bool:
        """True if this is one of our programs."""
        return self.words[0] in PROGRAMS

    def with_files(self) -> "Call":
        """Return the call after expanding patterns.

        An earlier command of the page may have made the files.
        """
        words: list[str] = []
        for word in self.words:
            matches = sorted(glob.glob(word, root_dir=self.folder)) if "*" in word else []
            words += matches or [word]
        return self._replace(words=tuple(words))


class NotAShellScript(Exception):
    """Bash cannot run a block of a page."""


def codes_of(text: str) -> list[str]:
    """Return the shell code of a page in order: blocks, and commands of ours within sentences.

    Within a sentence, a program with at most a subcommand (`bids-sr-models train`) is a name.
    """
    codes = []
    for part in re.split(r"(^ *```\w*\n.*?^ *```$)", text, flags=re.DOTALL | re.MULTILINE):
        if code_blocks := blocks(f"{part}\n"):
            codes += [
                _typed(code) if language == "console" else code
                for language, code in code_blocks
                if language in SHELL
            ]
            continue
        for _, span in re.findall(r"(`+)(.+?)\1", part.replace("\\|", "|"), re.DOTALL):
            line = " ".join(span.split())
            if re.match(rf"(?:\w+=\S* )*(?:{OURS}) (?!\w+$)", line):
                codes.append(f"{line}\n")
    return codes


def _typed(console: str) -> str:
    """Return the lines of a console that were typed; the others are output."""
    return "\n".join(re.findall(r"^\$ (.*)", console, re.MULTILINE)) + "\n"


def forms(line: str) -> list[str]:
    """Return the commands that a line of a page stands for."""
    if not re.search(rf"{OPERATORS}(?:\w+=\S* )*(?:{OURS}) ", line):
        return [line]
    line = re.split(r"(?<=\S) {2,}(?=\S)", line)[0]
    line = re.sub(rf"\b({OURS}) (?:\.\.\.|…)", r"\1 DATA OUT participant", line)
    line = re.sub(r"(?<![\w|])([A-Z]+)(?:\|[A-Z]+)+(?![\w|])", r"\1", line)
    shortest = re.sub(r" \[[^][]*\]", "", line)
    longest = re.sub(r" \[([^][]*)\]", r" \1", line)
    return [
        re.sub(r" (?:\.\.\.|…)(?= |$)", "", form) for form in dict.fromkeys((shortest, longest))
    ]


def script_of(code: str) -> str:
    """Return code of a page as a script of bash."""
    lines = re.sub(r" *\\\n *", " ", code).splitlines()
    return "\n".join(form for line in lines for form in forms(line))


def with_values(page: str, script: str) -> str:
    """Return code of a page with values instead of words in capitals."""
    for words in (WORDS.get(page, {}), WORDS[""]):
        for word, value in words.items():
            script = re.sub(rf"(?<![\w/.]){word}(?![\w/.])", value, script)
    return script


PREAMBLE = """
record() { printf '%s\\0' "$#" "$PWD" "$@" >>"$RECORD"; }
command_not_found_handle() { record "$@"; }
cd() { builtin cd "$@" 2>/dev/null || { /bin/mkdir -p "$1" && builtin cd "$1"; }; }
.() { record . "$@"; }
awk() { /usr/bin/awk "$@"; }
id() { /usr/bin/id "$@"; }
"""


def calls_of(code: str, folder: Path, variables: Mapping[str, str] | None = None) -> list[Call]:
    """Return the calls of a script that is run in a folder, without starting a program.

    `variables`: environment of the script. Raises `NotAShellScript`.
    """
    record = folder / ".calls"
    record.unlink(missing_ok=True)
    ours = "".join(f'{name}() {{ record {name} "$@"; }}\n' for name in PROGRAMS)
    done = subprocess.run(
        ["/bin/bash", "-u", "-c", f"{PREAMBLE}{ours}{code}"],
        cwd=folder,
        env={"RECORD": str(record), "HOME": str(folder), "PATH": "/none", **(variables or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode or "syntax error" in done.stderr or "unbound variable" in done.stderr:
        raise NotAShellScript(f"{done.stderr.strip()}\n{code}")
    if not record.exists():
        return []
    fields = iter(record.read_text(encoding="utf-8").split("\0")[:-1])
    record.unlink()
    return [
        Call(folder=Path(next(fields)), words=tuple(next(fields) for _ in range(int(count))))
        for count in fields
    ]


def ours_within(call: Call) -> Call | None:
    """Return the call of a program of ours that a call of `STARTERS` contains, or None.

    Paths of a container are replaced by paths of the host.
    """
    words = call.words
    if not {words[0], " ".join(words[:2])} & STARTERS:
        return None
    places = [
        place
        for place, word in enumerate(words)
        if place and (word in PROGRAMS or word.endswith("bids-sr.sif"))
    ]
    if not places or places[-1] == len(words) - 1:
        return None
    mounts = dict(_mounts(words[: places[-1]]))
    program, *rest = words[places[-1] :]
    return Call(
        (
            "bids-sr" if program.endswith(".sif") else program,
            *(_on_host(word, mounts) for word in rest),
        ),
        call.folder,
    )


def _mounts(words: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield folders in the container with the folders of the host that are mounted there."""
    for flag, value in itertools.pairwise(words):
        if flag in ("-v", "--volume", "-B", "--bind"):
            for mount in value.split(","):
                host, _, target = mount.partition(":")
                yield target.partition(":")[0], host


def _on_host(word: str, mounts: Mapping[str, str]) -> str:
    for target, host in mounts.items():
        if word == target or word.startswith(f"{target}/"):
            return host + word.removeprefix(target)
    return word


def all_pages() -> list[str]:
    """Return names of the pages in the repository whose commands are tested."""
    docs = sorted((ROOT / "docs").rglob("*.md"))
    generated = ROOT / "docs" / "examples"  # generated from Python scripts when the docs are built
    docs = [path for path in docs if generated not in path.parents]
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *docs]
    return [path.relative_to(ROOT).as_posix() for path in pages]
