#!/usr/bin/env python3
"""Count wordings that fMRI software does not use, in texts for users and in docstrings.

usage: .ci/words.py [--list RULE | --update] [--kinds KINDS] [PATH ...]

A rule is a pattern with a better wording, an example that the pattern finds and an example that it
must not find. Without an option, the number of hits of each rule in the whole repository is
compared with `.ci/words.json`; a number that is higher ends with exit code 1. The numbers in that
file can only fall: ``--update`` writes lower numbers and refuses higher ones. ``--list RULE``
prints the hits of one rule. Paths other than the default ones are counted but not compared.
"""

import argparse
import ast
import io
import json
import re
import sys
import tokenize
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LIMITS = ROOT / ".ci" / "words.json"
CODE = ("bids_sr", "workflows", "boilerplate")
PAGES = ("README.md", "docs")
GENERATED = ("docs/examples",)  # texts of the output of the examples

PAGE, MESSAGE, DOCSTRING, COMMENT, SUMMARY = "page", "message", "docstring", "comment", "summary"
TEXTS = (PAGE, MESSAGE, DOCSTRING, COMMENT)
_UNITS = (
    "line|step|volume|run|participant|map|slice|image|hemisphere|epoch|kind|generator|command"
    "|processor|page|row|subject|file|call"
)


@dataclass(frozen=True)
class Rule:
    """Pattern of a wording to avoid.

    Parameters
    ----------
    name : str
        Name of the rule.
    kinds : tuple of str
        Kinds of text in which the pattern is searched.
    pattern : str
        Regular expression.
    better : str
        Wording to use instead.
    bad, good : str
        Text that the pattern finds, and the same text as it should read.
    """

    name: str
    kinds: tuple[str, ...]
    pattern: str
    better: str
    bad: str
    good: str

    def hits(self, text: str) -> list[re.Match[str]]:
        """Return the matches of the pattern in a text."""
        return list(re.finditer(self.pattern, text, re.MULTILINE))


RULES = (
    Rule(
        "where-for-if",
        TEXTS,
        r"\bwhere (?:there (?:is|are|was|were)|it|they|that (?:fails|is)|none|nothing|no \w+"
        r"|neither|nobody)\b",
        "if, when, unless",
        "n/a where there is no T1w image",
        "n/a if there is no T1w image",
    ),
    Rule(
        "headless-what",
        TEXTS,
        r"(?:(?<=^)|(?<=[;:(] )|(?<=\b(?:of|on|by|to|in|is) )|(?<=\bfrom )|(?<=\bthan )"
        r"|(?<=\band )|(?<=\bwith )|(?<=\bthat )|(?<=, ))[Ww]hat (?!to do\b)(?![^.;]*\?)",
        "name the thing",
        "the reasons of what was skipped",
        "the reasons for skipped runs",
    ),
    Rule(
        "tell",
        TEXTS,
        r"\b(?:tell|tells|told)\b",
        "report, state, show, distinguish",
        "headers tell where they lie",
        "positions are taken from the headers",
    ),
    Rule(
        "that-of",
        TEXTS,
        r"\b(?:that|those) of\b",
        "repeat the noun",
        "the mask is that of fMRIPrep",
        "the mask is taken from fMRIPrep",
    ),
    Rule(
        "is-no",
        TEXTS,
        r"(?<![Tt]here )\b(?:is|are|was|were) no (?!longer\b|more\b|less\b|better\b)[A-Za-z]+",
        "is not a",
        "it is no BIDS label",
        "it is not a valid BIDS label",
    ),
    Rule(
        "empty-for-none",
        (DOCSTRING, COMMENT),
        r"(?:\b(?:empty|None|none|nothing)|\"\") (?:for (?:none|nothing|no|one|those|all)\b"
        r"|without\b)",
        "if there is no ...",
        "Names of methods; empty for none.",
        'Names of methods; "" if no method was skipped.',
    ),
    Rule(
        "final-alone-too",
        TEXTS,
        r"\balone\b(?=[.;,:)]|$)|, too\b",
        "only or also, before the word",
        "baselines alone are possible, too",
        "you can also run only the baselines",
    ),
    Rule(
        "stands-lies",
        TEXTS,
        r"\bstands?\b(?! for\b|-in\b)"
        r"|\bl(?:ies?|ay) (?:beside|in (?:OUT|logs|the (?:log|folder|module|file|data set)))",
        "is, is in",
        "the table stands in the report",
        "the table is in the report",
    ),
    Rule(
        "one-a-line",
        TEXTS,
        r"\b(?:one|rows?|images?|steps?|lines?|files?|folders?|pages?|minutes?|vertices|values?"
        rf"|GB|axis|affine|command) an? (?:{_UNITS})\b",
        "per",
        "one a line",
        "one per line",
    ),
    Rule(
        "asked-wanted",
        (MESSAGE, DOCSTRING, COMMENT),
        r"\b(?:asked for|(?:is|are|was|were) (?:there|wanted)\b(?! (?:a|an|no|any)\b))",
        "requested, required, exists",
        "the memory that is asked for",
        "the requested memory",
    ),
    Rule(
        "by-which",
        TEXTS,
        r"\b(?:of|by|to|from|with|in|on|at) (?:which|whom|whose)\b",
        "two sentences, or that, where, whose",
        "give -d DIR, by which masks are read",
        "use -d DIR: masks are then read from it",
    ),
    Rule(
        "dangling-parameter",
        (DOCSTRING,),
        r"^`[\w, ]+`: (?:of|to|from|as|by|in|with|for|that|what|where)\b",
        "a noun phrase with unit and shape",
        "`source`: of the series",
        "`source`: weights of the maps, (blocks,)",
    ),
    Rule(
        "nobody",
        TEXTS,
        r"\bnobody\b|\bas (?:any|always)\b(?! (?:user|other user))",
        "a positive statement",
        "nobody has run it",
        "it has not been run",
    ),
    Rule(
        "mend",
        TEXTS,
        r"\b[Mm]end(?:s|ed|ing)?\b|\bmade anew\b|\bheld against\b|\bhold against\b",
        "correct, fix, regenerate, compare with",
        "mend the table",
        "correct the table",
    ),
    Rule(
        "former-phrases",
        (PAGE, MESSAGE),
        r"\b(?:raised|brought) (?:again|down)\b|\bowed to\b|\bown less placebo\b|\btold apart\b"
        r"|\btaken apart\b|\bgoes on (?:from (?:here|there)|after)\b|\b[Ii]s the finer map true"
        r"|\b(?:its|time|own|voxel's) courses?\b|\blearned from\b|\bas fits best\b"
        r"|\btaught (?:with|by)\b|\bfixed beforehand\b|\b[Tt]ruer\b|\bacquired at 6 mm",
        "downsampled, due to, distinguished, resume, time series, prespecified, more accurate",
        "the run is brought down",
        "the run is downsampled",
    ),
    Rule(
        "people",
        (PAGE, MESSAGE),
        r"\b(?:persons?|people)\b",
        "participants",
        "the mean over people",
        "the mean over participants",
    ),
    Rule(
        "it-as-subject",
        (MESSAGE,),
        r"^(?:it|they) (?:is|are|has|have|was|were|does|cannot)\b",
        "name the file, or begin with the finding",
        "it has no events",
        "no events",
    ),
    Rule(
        "three-semicolons",
        (MESSAGE,),
        r"[^.;\n|]{12,};[^.;\n|]{12,};[^.;\n|]{12,}",
        "a list, or several sentences",
        "the run is short; the noise is high; the maps are poor",
        "The run is short, and the noise is high.",
    ),
    Rule(
        "summary-not-a-verb",
        (SUMMARY,),
        r"^(?:The|A|An|What|Whether|How|Why|One|All|Where|Of|Which|Who|By|With)\b",
        "imperative: Return, Compute, Check",
        "What prints the next step.",
        "Return a function that prints the step.",
    ),
)


@dataclass(frozen=True)
class Text:
    """Text of a file: its kind, and the line where it begins."""

    kind: str
    line: int
    words: str


def python_texts(source: str) -> Iterator[Text]:
    """Yield docstrings, summary lines of functions, messages and comments of Python code.

    A message is a string of three or more words; replaced fields of an f-string read "X".
    """
    tree = ast.parse(source)
    read = set()
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        for position, statement in enumerate(body if isinstance(body, list) else ()):
            if not isinstance(statement, ast.Expr) or not isinstance(
                statement.value, ast.Constant
            ):
                continue
            docstring = statement.value.value
            if not isinstance(docstring, str):
                continue
            read.add(id(statement.value))
            docstring = re.sub(r"^\s*>>>.*$", "", docstring, flags=re.MULTILINE)
            paragraphs = re.split(r"\n\s*\n", docstring)
            text = "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)
            yield Text(DOCSTRING, statement.lineno, text)
            if position == 0 and isinstance(node, ast.FunctionDef) and not _is_property(node):
                yield Text(SUMMARY, statement.lineno, text.split("\n")[0])
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            read.update(id(value) for value in node.values)
            text = "".join(
                value.value if isinstance(value, ast.Constant) else "X" for value in node.values
            )
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            if id(node) in read:
                continue
            text = node.value
        else:
            continue
        if len(re.findall(r"[a-z]{2,}", text)) >= 3 and " " in text.strip():
            yield Text(MESSAGE, node.lineno, " ".join(text.split()))
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield Text(COMMENT, token.start[0], token.string.lstrip("# "))


def _is_property(function: ast.FunctionDef) -> bool:
    names = {
        getattr(decorator, "id", getattr(decorator, "attr", ""))
        for decorator in function.decorator_list
    }
    return bool(names & {"property", "cached_property"})


def page_texts(source: str) -> Iterator[Text]:
    """Yield the lines of a Markdown page, without code blocks, comments and headings."""
    blank = re.sub(
        r"```.*?```|<!--.*?-->",
        lambda match: "\n" * match[0].count("\n"),
        source,
        flags=re.DOTALL,
    )
    for number, line in enumerate(re.sub(r"`[^`\n]*`", "X", blank).splitlines(), 1):
        if line.strip() and not line.startswith("#"):
            yield Text(PAGE, number, line)


def table_texts(source: str) -> Iterator[Text]:
    """Yield the texts of a JSON file as messages: descriptions, labels and remedies."""
    for number, line in enumerate(source.splitlines(), 1):
        for text in re.findall(r'"((?:[^"\\]|\\.)*)"', line):
            if len(re.findall(r"[a-z]{2,}", text)) >= 3 and " " in text:
                yield Text(MESSAGE, number, text)


READERS = {".py": python_texts, ".md": page_texts, ".json": table_texts}


def files(paths: list[Path]) -> list[Path]:
    """Return the files of the given paths that are read, without generated ones."""
    out = []
    for root in paths:
        candidates = sorted(root.rglob("*")) if root.is_dir() else [root]
        out += [
            path
            for path in candidates
            if path.suffix in READERS
            and not any(str(path).startswith(str(ROOT / name)) for name in GENERATED)
        ]
    return out


def main() -> int:
    """Count, list, compare or update."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("paths", nargs="*", type=Path, metavar="PATH")
    parser.add_argument("--list", metavar="RULE", choices=[rule.name for rule in RULES])
    parser.add_argument("--update", action="store_true")
    parser.add_argument("--kinds", nargs="+", choices=(*TEXTS, SUMMARY), default=(*TEXTS, SUMMARY))
    call = parser.parse_args()
    hits: Counter[str] = Counter()
    words = 0
    paths = call.paths or [ROOT / name for name in (*CODE, *PAGES)]
    for path in files(paths):
        for text in READERS[path.suffix](path.read_text(encoding="utf-8")):
            if text.kind not in call.kinds:
                continue
            words += 0 if text.kind == SUMMARY else len(re.findall(r"[A-Za-z']+", text.words))
            for rule in RULES:
                if text.kind not in rule.kinds:
                    continue
                for match in rule.hits(text.words):
                    hits[rule.name] += 1
                    if call.list == rule.name:
                        begin, end = max(0, match.start() - 45), match.end() + 45
                        excerpt = text.words[begin:end].replace("\n", " ")
                        print(f"{path}:{text.line}: {excerpt} -> {rule.better}")
    if call.list:
        return 0
    for rule in RULES:
        print(f"{hits[rule.name]:6d}  {rule.name}")
    total = sum(hits.values())
    print(f"{total:6d}  all, {1000 * total / max(words, 1):.2f} per 1,000 words")
    if call.paths or len(call.kinds) <= len(TEXTS):
        return 0
    limits = json.loads(LIMITS.read_text(encoding="utf-8")) if LIMITS.exists() else {}
    higher = [name for name, limit in limits.items() if hits[name] > limit]
    higher += [
        rule.name for rule in RULES if limits and rule.name not in limits and hits[rule.name]
    ]
    for name in higher:
        print(f"{name}: {hits[name]} hits, at most {limits.get(name, 0)} allowed", file=sys.stderr)
    if call.update and not higher:
        counts = {rule.name: hits[rule.name] for rule in RULES}
        LIMITS.write_text(json.dumps(counts, indent=1) + "\n", encoding="utf-8")
    return int(bool(higher))


if __name__ == "__main__":
    sys.exit(main())
