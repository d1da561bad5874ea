"""`kiyas import` on one screen: read the files, merge what they say, write a run folder."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

from kiyas.interop.files import Notes
from kiyas.interop.merging import merge
from kiyas.interop.reading import read
from kiyas.interop.summary import ImportSummary
from kiyas.interop.writing import refuse, write
from kiyas.runfolder.paths import RunDir
from kiyas.study.settings import Judge


def import_study(
    sources: list[Path],
    run: Path,
    *,
    problems: Path | None = None,
    name: str | None = None,
    arm_of: Mapping[str, str] | None = None,
    only: list[str] | None = None,
    judge: Judge | None = None,
) -> ImportSummary:
    """Reads files, and folders with all that is in them, and writes a run folder of kind "import".

    `problems`: the benchmark, in any format that the judge reads; without it problems are rebuilt from the rows.
    `arm_of`: text, path or glob found in a file's name → its arm; or an arm as found → its right name. `only`: texts or
    globs; files whose path matches none are skipped. `judge`: judge every recorded program again, with these
    settings. A broken file that was found in a folder is noted and left out. Raises KiyasError if the user named the
    broken file, if nothing usable was found, and if `run` holds anything but an earlier import; nothing is deleted or
    written then.
    """
    started = time.monotonic()
    folder, notes = RunDir(run), Notes()
    refuse(folder)
    found = read(sources, problems, folder, arm_of or {}, only or [], notes)
    merged = merge(found, judge, notes, folder)
    return write(folder, name or sources[0].resolve().name, found, merged, notes, started)
