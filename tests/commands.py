"""Commands that pages of the documentation show, as the shell would run them.

A page is given to bash, block by block, with a function in the place of each of our programs that
records its words. So quotes, variables, globs, loops, continued lines and job scripts mean here
what they mean to the reader. Programs of others are recorded, too, and none of them is started.

What a page may write that a shell does not understand:

- ``[--option VALUE]`` in a line of ours may be left out: the line is tried without and with it.
- ``...`` stands for more of the same, and directly behind `bids-sr` (also ``…``) for the
  positional arguments.
- ``METHOD|FOLDER`` is one of several words; the first is taken.
- Behind two spaces a line of ours is explained in words.
- A block that is no code of a shell names its language, `text` if it has none.
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
OPERATORS = r"(?:^|&& |\|\| |; |\| |\$ )"


def entry_points() -> dict[str, str]:
    """Module and function of each of our programs, by its name."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    lines = setup["options.entry_points"]["console_scripts"].strip().splitlines()
    return {name.strip(): place.strip() for name, place in (line.split("=") for line in lines)}


PROGRAMS = tuple(entry_points())
OURS = "|".join(sorted(map(re.escape, PROGRAMS), key=len, reverse=True))
STARTERS = {
    "docker run",
    "podman run",
    "apptainer run",
    "apptainer exec",
    "singularity run",
    "qsub",
}
"""Programs of others that start one of ours, whose words stand at their end."""
STARTERS |= {"singularity exec", "srun", "sbatch"}


class Call(NamedTuple):
    """A program that a page calls: its words as bash makes them, and the working directory."""

    words: tuple[str, ...]
    folder: Path

    @property
    def is_ours(self) -> bool:
        """Whether it is one of our programs."""
        return self.words[0] in PROGRAMS

    def with_files(self) -> "Call":
        """The call with patterns that match by now.

        An earlier command of the page may have made the files.
        """
        words: list[str] = []
        for word in self.words:
            found = sorted(glob.glob(word, root_dir=self.folder)) if "*" in word else []
            words += found or [word]
        return self._replace(words=tuple(words))


class NotAShellScript(Exception):
    """Bash cannot run a block of a page."""


def codes_of(text: str) -> list[str]:
    """Code of a page for a shell, in order: blocks, and commands of ours within sentences.

    A name alone (`bids-sr-models`), also with a subcommand, is a command only in a block.
    """
    codes = []
    for part in re.split(r"(^ *```\w*\n.*?^ *```$)", text, flags=re.DOTALL | re.MULTILINE):
        if found := blocks(f"{part}\n"):
            codes += [code for language, code in found if language in SHELL]
            continue
        for _, span in re.findall(r"(`+)(.+?)\1", part.replace("\\|", "|"), re.DOTALL):
            line = " ".join(span.split())
            if re.match(rf"(?:\w+=\S* )*(?:{OURS}) (?!\w+$)", line):
                codes.append(f"{line}\n")
    return codes


def blocks_of_other_languages(text: str) -> set[str]:
    """Languages of the blocks that call one of our programs and are not for a shell."""
    return {
        language
        for language, code in blocks(text)
        if language not in (*SHELL, "text")
        and re.search(rf"(?<![\w/.-])(?:{OURS}) +['{{$\w-]", code)
    }


def forms(line: str) -> list[str]:
    """The lines for a shell that a line of a page stands for."""
    line = re.sub(r"^\s*\$ ", "", line)
    if not re.search(rf"{OPERATORS}(?:\w+=\S* )*(?:{OURS}) ", line):
        return [line]
    line = re.split(r"(?<=\S) {2,}(?=\S)", line)[0]
    line = re.sub(rf"\b({OURS}) (?:\.\.\.|…)", r"\1 DATA OUT participant", line)
    line = re.sub(r"(?<![\w|])([A-Z]+)(?:\|[A-Z]+)+(?![\w|])", r"\1", line)
    least = re.sub(r" \[[^][]*\]", "", line)
    most = re.sub(r" \[([^][]*)\]", r" \1", line)
    return [re.sub(r" (?:\.\.\.|…)(?= |$)", "", one) for one in dict.fromkeys((least, most))]


def script_of(code: str) -> str:
    """Code of a page as a script, with continued lines joined."""
    lines = re.sub(r" *\\\n *", " ", code).splitlines()
    return "\n".join(form for line in lines for form in forms(line))


PREAMBLE = """
record() { printf '%s\\0' "$#" "$PWD" "$@" >>"$RECORD"; }
command_not_found_handle() { record "$@"; }
cd() { builtin cd "$@" 2>/dev/null || { /bin/mkdir -p "$1" && builtin cd "$1"; }; }
.() { record . "$@"; }
awk() { /usr/bin/awk "$@"; }
id() { /usr/bin/id "$@"; }
"""


def calls_of(code: str, folder: Path, variables: Mapping[str, str] | None = None) -> list[Call]:
    """Run a script in a folder and return what it calls; nothing is started.

    Raises `NotAShellScript`.
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
    """The call of one of our programs in a call of `STARTERS`, with paths as the host has them.

    None if there is none.
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
    """Yield folders of a container with those of the host that are mounted there."""
    for flag, value in itertools.pairwise(words):
        if flag in ("-v", "--volume", "-B", "--bind"):
            for mount in value.split(","):
                host, _, there = mount.partition(":")
                yield there.partition(":")[0], host


def _on_host(word: str, mounts: Mapping[str, str]) -> str:
    for there, host in mounts.items():
        if word == there or word.startswith(f"{there}/"):
            return host + word.removeprefix(there)
    return word


def all_pages() -> list[str]:
    """Names of the pages whose commands are tried, in the repository."""
    docs = sorted((ROOT / "docs").rglob("*.md"))
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *docs]
    return [path.relative_to(ROOT).as_posix() for path in pages]
