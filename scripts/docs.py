"""The documentation as a site: writes the generated parts of docs/ and zensical.toml, then builds the site strictly.

make docs                        # both; the site is in build/site
python scripts/docs.py --write   # the generated parts only

Generated, and checked in so that they can be read without a build (`tests/docs/test_site.py` holds them equal): the
options of each command, from its parser; the keys of the study file, from `kiyas.study.keys`; the reference of the
Python interface, from docstrings; the order of the pages, in zensical.toml.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import griffe

from kiyas import cli
from kiyas.study.keys import Key, keys

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"

FIRST = ("index.md", "tutorial.md")
SECTIONS: Mapping[str, tuple[str, ...]] = {
    "Understanding results": ("how-to-read.md", "faq.md", "guarantees.md", "statistics.md", "glossary.md"),
    "Reference": ("api.md", "formats.md", "limits.md", "security.md", "speed.md"),
    "Inside": ("design.md", "add-a-benchmark.md", "add-a-statistic.md", "log.md"),
}
GUIDES = "More guides"
"""Of the pages that are named nowhere above and belong to no command."""
PAGES = {"demo": "practice.md"}
"""Commands whose page has another name than theirs."""
MODULES = ("kiyas", "kiyas.judge", "kiyas.practice", "kiyas.interop")
"""What a reader may import: the names in their `__all__`."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="the generated parts only")
    asked = parser.parse_args()
    for path, text in generated().items():
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            print(f"wrote {path.relative_to(ROOT)}")
    if not asked.write:
        sys.exit(build(ROOT))


def build(root: Path) -> int:
    """Builds the site of a checkout; a link that leads nowhere is an error. Returns the exit code."""
    return subprocess.run([sys.executable, "-m", "zensical", "build", "--clean", "--strict"], cwd=root).returncode


def generated() -> dict[Path, str]:
    """Every file with generated parts, and the text that it should have."""
    texts = {page: between(page, "options", options(command)) for page, command in command_pages()}
    texts[DOCS / "keys.md"] = between(DOCS / "keys.md", "keys", key_tables(), texts.get(DOCS / "keys.md"))
    texts[DOCS / "api.md"] = between(DOCS / "api.md", "reference", reference())
    config = ROOT / "zensical.toml"
    before, begin, rest = config.read_text(encoding="utf-8").partition("\nnav = [\n")
    _, end, after = rest.partition("\n]\n")
    texts[config] = before + begin + nav().rstrip() + end + after
    return texts


def between(page: Path, name: str, made: str, text: str | None = None) -> str:
    """The page, or `text` of it, with `made` between its two comments of this name; at its end if it has none yet."""
    begin, end = f"<!-- {name}: made by `make docs` -->\n", f"<!-- end of {name} -->\n"
    text = page.read_text(encoding="utf-8") if text is None else text
    if begin not in text:
        text = f"{text.rstrip()}\n\n{begin}{end}"
    before, _, rest = text.partition(begin)
    return f"{before}{begin}\n{made}\n{end}{rest.partition(end)[2]}"


# -- commands --------------------------------------------------------------------------------------------------------


def commands() -> dict[str, argparse.ArgumentParser]:
    """Each command's parser, in the order of `kiyas --help`."""
    (group,) = (each for each in cli.build_parser()._actions if isinstance(each, argparse._SubParsersAction))
    return dict(group.choices)


def page_of(command: str) -> Path:
    return DOCS / PAGES.get(command, f"{command}.md")


def command_pages() -> Iterator[tuple[Path, argparse.ArgumentParser]]:
    """The pages that are there; a test demands one of every command."""
    for name, parser in commands().items():
        if page_of(name).is_file():
            yield page_of(name), parser


def options(command: argparse.ArgumentParser) -> str:
    """The arguments and options of a command as a table."""
    rows = [f"## Options of `{command.prog}`", "", "| argument or option | meaning |", "|---|---|"]
    for action in command._actions:
        if action.dest == "help":
            continue
        shown = action.metavar if isinstance(action.metavar, str) else " ".join(action.metavar or ())
        if action.option_strings:
            words = ", ".join(action.option_strings) + (f" {shown}" if shown else "")
        else:
            words = shown or action.dest
        meaning = action.help or ""
        if action.choices is not None and not all(str(each) in meaning for each in action.choices):
            meaning = f"{meaning}{'; ' * bool(meaning)}one of {', '.join(f'`{each}`' for each in action.choices)}"
        rows.append(f"| `{cell(words)}` | {cell(meaning.replace('%%', '%'))} |")
    return "\n".join(rows) + "\n"


def cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


# -- keys of the study file ------------------------------------------------------------------------------------------


def key_tables() -> str:
    """All keys: a table for those on top, and one for each section."""
    tables: dict[str, list[Key]] = {}
    for key in keys():
        tables.setdefault(
            key.name.partition(".")[0] if key.kind.startswith("keys") or "." in key.name else "", []
        ).append(key)
    return "\n".join(key_table(section, found) for section, found in tables.items())


def key_table(section: str, found: list[Key]) -> str:
    title, about = ("The study", "") if not section else (f"`{section}`", f"{cell(found[0].meaning)}\n\n")
    rows = [f"## {title}\n\n{about}| key | default | may be | meaning |", "|---|---|---|---|"]
    for key in found:
        if key.name != section:
            default = f"`{cell(key.default)}`" if key.default not in ("", "required") else key.default
            rows.append(f"| `{key.name}` | {default} | {cell(key.kind)} | {cell(key.meaning)} |")
    return "\n".join(rows) + "\n"


# -- the Python interface --------------------------------------------------------------------------------------------


def reference() -> str:
    """Every public name of MODULES with its signature and docstring, read from the source: functions, then the rest."""
    package = griffe.load("kiyas", search_paths=[ROOT / "src"], resolve_aliases=True)
    parts = []
    for module in MODULES:
        found = package[module.removeprefix("kiyas.")] if module != "kiyas" else package
        names = [str(name) for name in found.exports or () if not str(name).startswith("__")]
        things = sorted(
            (public(found, name) for name in names), key=lambda each: (not each.is_function, each.name.lower())
        )
        parts += [f"## `{module}`\n", *(described(module, each) for each in things)]
    return "\n".join(parts)


def public(module: griffe.Object | griffe.Alias, name: str) -> griffe.Object:
    """What a name stands for, where it is defined; a function may have the name of its module."""
    thing = module[name]
    thing = thing.final_target if thing.is_alias else thing
    return public(thing, name) if thing.is_module else thing


def described(module: str, thing: griffe.Object) -> str:
    """One public name: heading, signature, docstring; of a class also its public members."""
    text = f"### `{module}.{thing.name}`\n\n"
    if thing.is_function or (thing.is_class and "__init__" in thing.all_members and not is_enum(thing)):
        text += f"```python\n{signature(thing)}\n```\n\n"
    members = ""
    if thing.is_class:
        members = "".join(member(thing, each) for each in thing.members.values() if is_shown(thing, each))
    return text + "\n".join(filter(None, (docstring(thing) + "\n" if docstring(thing) else "", members)))


def signature(thing: griffe.Object) -> str:
    """As one writes it, one parameter a line where it is long."""
    function = thing.all_members["__init__"] if thing.is_class else thing
    parameters, starred = [], False
    for each in function.parameters:
        if each.name == "self" or "ClassVar" in str(each.annotation):
            continue
        if each.kind is griffe.ParameterKind.keyword_only and not starred:
            parameters.append("*")
            starred = True
        starred = starred or each.kind is griffe.ParameterKind.var_positional
        stars = {griffe.ParameterKind.var_positional: "*", griffe.ParameterKind.var_keyword: "**"}.get(each.kind, "")
        default = f" = {each.default}" if each.default is not None and not stars else ""
        parameters.append(f"{stars}{each.name}{f': {each.annotation}' if each.annotation else ''}{default}")
    returns = f" -> {thing.returns}" if thing.is_function and thing.returns else ""
    line = f"{thing.name}({', '.join(parameters)}){returns}"
    if len(line) <= 80:
        return line
    return f"{thing.name}(\n" + "".join(f"    {each},\n" for each in parameters) + f"){returns}"


def member(owner: griffe.Object, thing: griffe.Object) -> str:
    """A documented member, or a value of an enum, as an item of a list."""
    if is_enum(owner):
        return f"- `{owner.name}.{thing.name}`, `{thing.value}`\n"
    words = signature(thing) if thing.is_function else thing.name
    words += f": {thing.annotation}" if thing.is_attribute and thing.annotation is not None else ""
    about = docstring(thing).replace("\n\n", "\n\n    ")
    return f"- `{owner.name}.{' '.join(words.split())}`{': ' * bool(about)}{about}\n"


def is_enum(thing: griffe.Object) -> bool:
    return any("Enum" in str(base) for base in thing.bases)


def is_shown(owner: griffe.Object, thing: griffe.Object) -> bool:
    return not thing.name.startswith("_") and not thing.is_alias and (is_enum(owner) or thing.docstring is not None)


def docstring(thing: griffe.Object) -> str:
    return thing.docstring.value.strip() if thing.docstring else ""


# -- the order of the pages ------------------------------------------------------------------------------------------


def nav() -> str:
    """Pages that are there, in order; a page that nothing names is a guide."""
    there = {page.name for page in DOCS.glob("*.md")}
    ours = {f"kiyas {name}": page_of(name).name for name in commands()}
    named = {*FIRST, *ours.values(), *(page for pages in SECTIONS.values() for page in pages)}
    sections = {"Commands": ours, GUIDES: dict.fromkeys(sorted(there - named))}
    lines = [f'  "{page}",\n' for page in FIRST if page in there]
    for title in ("Commands", "Understanding results", GUIDES, "Reference", "Inside"):
        pages: Mapping[str, str | None] = sections.get(title) or dict.fromkeys(SECTIONS.get(title, ()))
        entries = [
            f'{{"{name}" = "{page}"}}' if page else f'"{name}"'
            for name, page in pages.items()
            if (page or name) in there
        ]
        if entries:
            lines.append(f'  {{"{title}" = [\n' + "".join(f"    {entry},\n" for entry in entries) + "  ]},\n")
    return "".join(lines)


if __name__ == "__main__":
    main()
