"""What the program writes in words or joins to a name is read back by no module: it has the parts
as values.

Taking a text apart is allowed where somebody else wrote it: a user on the command line, BIDS in
the names of files, a foreign program, a table. Each such place is named here with its reason; a
new one has to be argued for. `OWED` are the places that are still to be mended, and shrinks only.
"""

import ast
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TAKEN_APART = frozenset(
    {"partition", "rpartition", "split", "rsplit", "removeprefix", "removesuffix"}
)
SEARCHED = frozenset({"match", "fullmatch", "search", "findall", "finditer", "split"})
PROSE = frozenset(
    {
        "text",
        "measure",
        "reason",
        "message",
        "what",
        "why",
        "said",
        "words",
        "told",
        "headline",
        "line",
    }
)
"""What texts and names of measures are called in the code."""
ERRORS = frozenset({"error", "failure", "exception", "issue"})


def _name(node: ast.expr) -> str:
    """The last name of an expression: ``text`` of ``row.text``."""
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def _is_prose(node: ast.expr) -> bool:
    """Whether an expression is a text by its name, or an error as text."""
    if isinstance(node, ast.Call) and _name(node.func) == "str" and node.args:
        return _name(node.args[0]) in ERRORS
    return _name(node) in PROSE


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str) and len(node.value) > 1


def _reads(node: ast.AST) -> bool:
    """Whether an expression takes a text apart or asks what stands in it."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        of, how = node.func.value, node.func.attr
        # a pattern, compiled or not
        if _name(of) == "re" or (isinstance(of, ast.Name) and of.id.isupper()):
            return how in SEARCHED
        if _name(of) in ("np", "os", "torch", "path", "shlex"):
            return False
        if how == "count" and node.args:
            return _is_text(node.args[0])
        return how in TAKEN_APART or (how in ("startswith", "endswith") and _is_prose(of))
    if not isinstance(node, ast.Compare):
        return False
    left, operator, right = node.left, node.ops[0], node.comparators[0]
    if isinstance(left, ast.Subscript) and isinstance(left.slice, ast.Slice):
        return _is_text(right)
    if isinstance(operator, (ast.In, ast.NotIn)):
        return (_is_text(left) and _is_prose(right)) or (
            _is_prose(left) and isinstance(left, ast.Call)
        )
    return (
        isinstance(operator, (ast.Eq, ast.NotEq))
        and _is_prose(left)
        and isinstance(left, ast.Attribute)
        and (left.attr == "text")
    )


def readings(code: str) -> Iterator[tuple[str, str]]:
    """Function (qualified name) and expression of every place that reads a text."""

    def walk(node: ast.AST, where: str) -> Iterator[tuple[str, str]]:
        for child in ast.iter_child_nodes(node):
            inner = (
                f"{where}.{child.name}"
                if isinstance(child, (ast.FunctionDef, ast.ClassDef))
                else where
            )
            if _reads(child):
                yield inner.strip("."), ast.unparse(child)
            yield from walk(child, inner)

    yield from walk(ast.parse(code), "")


USERS = "what a user wrote"
FILES = "names of files, which BIDS defines or a user chose"
FOREIGN = "what another program, the kernel or a library wrote"
FORMAT = "a format of lines and cells"
CODE = "a name of the code, or of an option"
ALLOWED: dict[str, str] = {
    "bids_sr/config/*": USERS,
    "bids_sr/cli/options.py::Parser.error": FOREIGN,
    "bids_sr/cli/options.py::hyphens": USERS,
    "bids_sr/glm/time_columns.py::time_model": USERS,
    "bids_sr/cli/options.py::Parser.*": CODE,
    "bids_sr/phantom/study.py::_echo_times": USERS,
    "bids_sr/cli/group_level.py::*expected_participants": USERS,
    "bids_sr/cli/rerun.py::*": USERS,
    "bids_sr/cli/report_command.py::*": USERS,
    "bids_sr/cli/slurm/main.py::*": USERS,
    "bids_sr/cli/slurm/prepare.py::*": USERS,
    "bids_sr/cli/structural_group.py::*": FILES,
    "bids_sr/cli/models/*": FILES,
    "bids_sr/sr/recipe_changes.py::*": USERS,
    "bids_sr/sr/random_search.py::read_drawn": USERS,
    "bids_sr/cli/interrupts.py::*": FOREIGN,
    "bids_sr/cli/stages.py::stage_of": CODE,
    "bids_sr/bids/*": FILES,
    "bids_sr/region_names.py::*": USERS,
    "bids_sr/preflight/compared_series.py::_split": USERS,
    "bids_sr/preflight/directories.py::*": FOREIGN,
    "bids_sr/preflight/structural_checks.py::_problem": FOREIGN,
    "bids_sr/preflight/structural_checks.py::_unfit_mask": FOREIGN,
    "bids_sr/execution/crash.py::_crash_text": FOREIGN,
    "bids_sr/execution/crash.py::_memory": FOREIGN,
    "bids_sr/execution/slurm_*": FOREIGN,
    "bids_sr/execution/step_warnings.py::_Kept.emit": FORMAT,
    "bids_sr/slurm/*": FOREIGN,
    "bids_sr/cli/participant_level.py::_of_earlier_calls": FILES,
    "bids_sr/io/dataset_description.py::*": FILES,
    "bids_sr/io/earlier_files.py::*": FILES,
    "bids_sr/io/uris.py::*": FILES,
    "bids_sr/group/values.py::*": FILES,
    "bids_sr/group/input_maps.py::*": FILES,
    "bids_sr/group/volume_change.py::in_order.*": FILES,
    "bids_sr/cli/console.py::end_lines": FILES,
    "bids_sr/io/template_cache.py::*": FILES,
    "bids_sr/io/tables.py::*": FORMAT,
    "bids_sr/preflight/checks.py::is_rest": FILES,
    "bids_sr/pipeline/artifacts.py::*": FILES,
    "bids_sr/pipeline/graph.py::Graph.methods_text": FORMAT,
    "bids_sr/pipeline/listing.py::_line": CODE,
    "bids_sr/pipeline/store.py::*": FILES,
    "bids_sr/figures/svg_files.py::*": FOREIGN,
    "bids_sr/figures/slices.py::*": FORMAT,
    "bids_sr/report/methods_text.py::*": FOREIGN,
    "bids_sr/report/index_page.py::participants_with_figures": FILES,
    "bids_sr/report/participants_page.py::_reported": FILES,
    "bids_sr/report/participants_page.py::_build_report": FILES,
    "bids_sr/report/index_page.py::_run_cell": FILES,
    "bids_sr/report/run_notes.py::noted": FILES,
    "bids_sr/report/run_notes.py::is_last": FILES,
    "bids_sr/report/run_summaries.py::run_summary": FILES,
    "bids_sr/report/run_summaries.py::_files": FILES,
    "bids_sr/report/run_summaries.py::name_below": FILES,
    "bids_sr/retrospective/preparation.py::*": FORMAT,
    "bids_sr/series.py::parse_map_label": FILES,
    "bids_sr/spatial/itk_files.py::read_itk": FOREIGN,
    "bids_sr/sr/method.py::_modules": CODE,
    "bids_sr/sr/models/*": FILES,
    "bids_sr/sr/inference/*": FOREIGN,
    "bids_sr/sr/training/*": CODE,
    "bids_sr/preflight/stats_model.py::*": USERS,
    "bids_sr/glm/contrasts.py::*": USERS,
    "bids_sr/glm/imported_confounds.py::*": FOREIGN,
    "workflows/report_run.py::_pair_words": FILES,
}
"""``file::function`` (patterns) that takes a text apart which somebody else wrote, and whose."""
OWED = frozenset(
    {
        # names of variants: until a series says what it is a variant of
        "bids_sr/series.py::series",
    }
)
"""``file::function`` that reads back what the program itself has written."""


def found() -> dict[str, list[str]]:
    """Expressions by ``file::function``."""
    out: dict[str, list[str]] = {}
    for folder in ("bids_sr", "workflows"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            for where, expression in readings(path.read_text(encoding="utf-8")):
                out.setdefault(f"{path.relative_to(ROOT)}::{where}", []).append(expression)
    return out


def test_only_what_others_wrote_is_taken_apart() -> None:
    here = {place for place in found() if not any(fnmatch(place, one) for one in ALLOWED)}
    assert here - OWED == set(), (
        "keep the parts as values, or name the place in ALLOWED with who wrote the text"
    )
    assert OWED - here == set(), "mended: take it off the list"


@pytest.mark.parametrize(
    "code",
    [
        'family, _, figure = measure.partition("_")',
        'pairs = path.stem.split("_")',
        'notices = text.get("summary", "").count("role=\'note\'")',
        'level = own if "_ev_" in question.measure else None',
        "flag = description.removeprefix('1 where ')",
        'short = p_text(test.p_value).removeprefix("p = ").removeprefix("p ")',
        'named = re.findall(r"sub-([0-9A-Za-z]+)", str(self))',
        'named = re.split(r" with --| \\(", problem.file)[0]',
        "known = [notice for notice in warnings if notice.text != USED]",
        'reason, _, remedy = str(error).partition(" Remedy: ")',
        'key = error.what.partition(":")[0]',
        "wrong = str(error) in GROUPS",
        'reason = str(error).removeprefix("events: ")',
        "lines = [line for line in lines if line.startswith(TOLD)]",
        'node = re.search(r"^Node:", content)',
        'full = FULL.search("".join(traceback))',
        'label = re.search(r"sub_([0-9A-Za-z]+)_wf", fullname)',
        'flags = [line for line in lines if line["measure"][:5] == "flag_"]',
        'name, _, path = text.partition("=")',
    ],
)
def test_each_place_of_the_third_review_is_seen(code: str) -> None:
    """As they stood when the review named them: metrics, notices, errors, crash files and options
    read back.
    """
    assert list(readings(code)), code


@pytest.mark.parametrize(
    "code", ["found = names.split", "text = a + b", 'os.path.split("x")', "x in names", "a == b"]
)
def test_what_reads_no_text_is_none(code: str) -> None:
    assert not list(readings(code))
