"""What benchmarks/house.py counts: a house of three files, by hand."""

import ast
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[3]
FILES = {
    "bids_sr/__init__.py": "",
    "bids_sr/a.py": (
        '"""Two words."""\n\nfrom typing import Any\n\nContent = dict[str, Any]\n\n\n'
        'def first(one: Any, two: "list[Any]" = None, *three: int) -> Content:\n'
        "    from bids_sr import b\n\n    return b\n"
    ),
    "bids_sr/b.py": (
        "from .a import first  # again\n\n\nclass Twice:\n    class Twice:\n        pass\n"
    ),
    "workflows/c.py": "from bids_sr.workflows import d\n",
    "workflows/d.py": "_no = public = 1\n",
    "tests/contracts/test_layers.py": "def sources():\n    return []\n",
    "benchmarks/e.py": "1\n",
}


@pytest.fixture
def house(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The benchmark as a module."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import house

    return house


def test_a_small_house_is_counted(house: ModuleType, tmp_path: Path) -> None:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert house.counted(tmp_path) == {
        "tokens": 62,
        "files": 5,
        "statements": 12,
        "functions": 1,
        "public names": 4,
        "classes": 2,
        "class names used twice": 1,
        "Any in annotations of parameters and returns": 2,
        "Any there by an alias alone": 1,
        "circles of imports between files": 1,
        "imports against the layers": 0,
        "tokens of tests": 8,
        "tokens of benchmarks": 1,
    }


def test_comments_docstrings_and_the_layout_of_lines_do_not_count(house: ModuleType) -> None:
    plain = "def f(a, b):\n    return a\n"
    long = (
        '"""Text."""\n\n\ndef f(\n    a,\n    b\n):\n    """Text,\n    more."""\n    # why\n   '
        " return a\n"
    )
    assert house.tokens_of(long, ast.parse(long)) == house.tokens_of(plain, ast.parse(plain)) == 10
