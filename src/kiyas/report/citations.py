"""Papers that phrases cite. A phrase writes a citation as pandoc does: `[@holm1979]` or `[@tsui1989; @weerahandi1993]`.

Readers of the page and of methods.txt see author and year, (Holm 1979). In report.md the key stays, for pandoc: until
`quoting.markdown` writes it, it is between two characters that no text may hold, so that a stranger's text cites
nothing.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from importlib import resources

from kiyas.study.settings import HUB_BENCHMARKS

IN_PHRASE = re.compile(r"\[(@[\w:.-]+(?:; @[\w:.-]+)*)\]")
OPEN, CLOSE = "\ufdd0", "\ufdd1"
MARKED = re.compile(f"({OPEN}[^{OPEN}{CLOSE}]*{CLOSE})")
AUTHORS = 2
"""More are "et al."."""


def references() -> str:
    """BibTeX entries of the papers that the methods come from."""
    return (resources.files("kiyas.report") / "assets" / "references.bib").read_text(encoding="utf-8")


def bibliography() -> str:
    """BibTeX entries of the papers that the methods and the benchmarks come from, each once."""
    methods = references()
    benchmarks = dict.fromkeys(known.citation for known in HUB_BENCHMARKS.values() if known.citation)
    more = [entry for entry in benchmarks if entry.partition(",")[0] not in methods]
    return "\n\n".join([methods.strip(), *more]) + "\n"


def key(entry: str) -> str:
    """The key of a BibTeX entry; "" for none."""
    found = re.match(r"\s*@\w+\{([^,\s]+),", entry)
    return found[1] if found else ""


@functools.cache
def papers() -> Mapping[str, tuple[tuple[str, ...], str]]:
    """Key → surnames of the authors, year."""
    entries = re.split(r"\n(?=@)", bibliography())
    return {key(entry): (surnames(entry), field(entry, "year")) for entry in entries}


def field(entry: str, name: str) -> str:
    found = re.search(rf"\b{name}\s*=\s*[{{\"]?([^\n}}\"]+)", entry)
    return found[1].strip(" ,") if found else ""


def surnames(entry: str) -> tuple[str, ...]:
    """Of all authors of a BibTeX entry; "others" for those that it does not name."""
    names = [name.strip() for name in field(entry, "author").split(" and ") if name.strip()]
    return tuple(name.partition(",")[0] if "," in name else name.rpartition(" ")[2] for name in names)


def for_paper(text: str) -> str:
    """A marked citation as pandoc reads it; "" where a key is not in the bibliography."""
    keys = text.strip(OPEN + CLOSE)
    return f"[{keys}]" if all(each.removeprefix("@") in papers() for each in keys.split("; ")) else ""
