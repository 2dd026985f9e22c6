#!/usr/bin/env python3
"""What describes the package elsewhere, from the places in which it is edited.

usage: python .ci/metadata.py              write it anew
       python .ci/metadata.py --check      end with 1 where a file is not of today
       python .ci/metadata.py --tag TAG    the same, and what else keeps TAG from being a release

The version stands in bids_sr/version.py; authors, addresses, title, summary and keywords in
CITATION.cff; requirements and programs in setup.cfg. From them follow
conda/recipe.yaml, boilerplate/bib/bids_sr.bib, and lines of CITATION.cff, setup.cfg and the
Dockerfile.
"""

import argparse
import configparser
import re
import runpy
import sys
from pathlib import Path
from typing import Any

import yaml
from pybtex.database import BibliographyData, Entry, Person

ROOT = Path(__file__).resolve().parents[1]
PLACEHOLDER = "example.org"
"""Host of addresses in CITATION.cff before the program has a public address."""
CONDA = {"isal": "python-isal", "matplotlib": "matplotlib-base", "torch": "pytorch"}
"""Names of packages that are others in conda-forge."""


def sources() -> tuple[str, dict[str, Any], configparser.ConfigParser]:
    """The version, CITATION.cff and setup.cfg."""
    setup = configparser.ConfigParser(interpolation=None)
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    return runpy.run_path(str(ROOT / "bids_sr/version.py"))["RELEASE"], citation, setup


def person(author: dict[str, str]) -> str:
    """Name of an author, the family's first as archives sort it."""
    if "name" in author:
        return author["name"]
    return f"{author['family-names']}, {author['given-names']}"


def lines(setup: configparser.ConfigParser, section: str, key: str) -> list[str]:
    """Items of a list in setup.cfg, without comments."""
    found = setup[section][key].strip().splitlines()
    return [line for line in found if not line.startswith("#")]


def conda(requirements: list[str]) -> list[str]:
    """Requirements under their names in conda-forge."""
    pairs = (line.partition(" ") for line in requirements)
    return [f"{CONDA.get(name, name)} {bound}" for name, _, bound in pairs]


def recipe(
    version: str, citation: dict[str, Any], setup: configparser.ConfigParser
) -> dict[str, Any]:
    """Content of conda/recipe.yaml, for rattler-build."""
    python = f"python {setup['options']['python_requires']}"
    programs = lines(setup, "options.entry_points", "console_scripts")
    names = [line.partition(" = ")[0] for line in programs]
    return {
        "schema_version": 1,
        "context": {"version": version},
        "package": {"name": setup["metadata"]["name"], "version": "${{ version }}"},
        "source": {"path": ".."},
        "build": {
            "number": 0,
            "noarch": "python",
            "script": "${{ PYTHON }} -m pip install . --no-deps --no-build-isolation -vv",
            "python": {"entry_points": programs},
        },
        "requirements": {
            "host": [python, "pip", "setuptools >=77"],
            "run": ["__linux", python, *conda(lines(setup, "options", "install_requires"))],
            "run_constraints": conda(lines(setup, "options.extras_require", "multi-echo")),
        },
        "tests": [
            {"python": {"imports": ["bids_sr", "bids_sr.workflows"], "pip_check": True}},
            {"script": [f"{name} --help" for name in names]},
        ],
        "about": {
            "homepage": citation["repository-code"],
            "summary": citation["title"],
            "license": citation["license"],
            "license_file": lines(setup, "metadata", "license_files"),
        },
    }


def bibtex(version: str, citation: dict[str, Any]) -> str:
    """Content of boilerplate/bib/bids_sr.bib, the entry that the methods text cites.

    An unreleased version has no year, and a placeholder is no address.
    """
    authors = [
        Person(last=f"{{{author['name']}}}")
        if "name" in author
        else Person(first=author["given-names"], last=author["family-names"])
        for author in citation["authors"]
    ]
    address = citation.get("url") or citation["repository-code"]
    dated = citation.get("date-released")
    fields = {
        "title": f"{{{citation['title']}}}",
        "howpublished": f"Computer software, version {version}, license {citation['license']}",
        "year": str(dated)[:4] if dated else "",
        "doi": citation.get("doi", ""),
        "url": "" if PLACEHOLDER in address else address,
    }
    entry = Entry(
        "misc",
        fields=[(name, text) for name, text in fields.items() if text],
        persons={"author": authors},
    )
    return BibliographyData({"bids_sr": entry}).to_string("bibtex")


def written() -> dict[str, str]:
    """Text of every file as it has to be."""
    version, citation, setup = sources()
    address = citation["repository-code"]
    where = {
        "setup.cfg": [
            (r"^author = .*$", f"author = {'; '.join(map(person, citation['authors']))}"),
            (r"^url = .*$", f"url = {address}"),
        ],
        "CITATION.cff": [(r"^version: .*$", f"version: {version}")],
        "Dockerfile": [
            (r'image\.version="[^"]*"', f'image.version="{version}"'),
            (r'image\.source="[^"]*"', f'image.source="{address}"'),
        ],
    }
    found = {}
    for name, places in where.items():
        text = (ROOT / name).read_text(encoding="utf-8")
        for pattern, line in places:
            text, n = re.subn(pattern, line.replace("\\", r"\\"), text, flags=re.MULTILINE)
            if n != 1:
                raise ValueError(f"{name} has {n} places for {line!r} instead of 1")
        found[name] = text
    found["boilerplate/bib/bids_sr.bib"] = bibtex(version, citation)
    head = "# By .ci/metadata.py; a feedstock takes the sdist of the package index as its source\n"
    content = yaml.safe_dump(recipe(version, citation, setup), sort_keys=False, width=99)
    found["conda/recipe.yaml"] = head + content
    return found


def stale() -> list[str]:
    """Files that are not of today."""
    return [
        f"{name} is not of today: python .ci/metadata.py"
        for name, text in written().items()
        if not (ROOT / name).is_file() or (ROOT / name).read_text(encoding="utf-8") != text
    ]


def hindrances(tag: str) -> list[str]:
    """What keeps a tag of this commit from being a release."""
    version, citation, _ = sources()
    changes = (ROOT / "CHANGES.md").read_text(encoding="utf-8")
    newest = re.search(r"^## (\S+) \((\S+)\)$", changes, re.MULTILINE)
    dated = str(citation.get("date-released", "unreleased"))
    found = [
        (tag != f"v{version}", f"the tag is {tag}, bids_sr/version.py has {version}"),
        (".dev" in version, f"{version} is a development version: bids_sr/version.py"),
        (
            newest is None or newest.groups() != (version, dated),
            f"CHANGES.md does not begin with {version} ({dated}), the date in CITATION.cff",
        ),
        (dated == "unreleased", "CITATION.cff has no date-released"),
        (
            PLACEHOLDER in (ROOT / "CITATION.cff").read_text(encoding="utf-8"),
            f"CITATION.cff has placeholders instead of addresses ({PLACEHOLDER})",
        ),
    ]
    return [text for wrong, text in found if wrong]


def main(arguments: list[str]) -> int:
    """Write, or check; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing")
    parser.add_argument("--tag", help="the release that is to be made; writes nothing")
    given = parser.parse_args(arguments)
    if not given.check and given.tag is None:
        for name, text in written().items():
            (ROOT / name).write_text(text, encoding="utf-8")
        return 0
    found = stale() + (hindrances(given.tag) if given.tag is not None else [])
    for line in found:
        print(line, file=sys.stderr)
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
