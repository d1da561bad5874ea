"""open-r1/codeforces: Codeforces' problems with its official tests, some with a checker.

Rows: the data card of open-r1/codeforces on the Hub. A `generated_checker` is a script, run as
`checker.py input.txt correct_output.txt solution_output.txt`; it prints 1 for an accepted output.
"""

from __future__ import annotations

from .format import BadRowError, Format, Problem, Row, asked, listed_tests, megabytes, seconds, syntax_tree, take

CHECKER = """\
SCRIPT = {script!r}

def check(input, expected, output):
    import contextlib, io, os, sys, tempfile
    with tempfile.TemporaryDirectory() as folder:
        paths = [os.path.join(folder, name) for name in ("input.txt", "correct_output.txt", "solution_output.txt")]
        for path, text in zip(paths, (input, expected, output)):
            with open(path, "w", encoding="utf-8", errors="surrogatepass", newline="") as file:
                file.write(text)
        sys.argv = ["checker.py", *paths]
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            try:
                exec(compile(SCRIPT, "checker.py", "exec"), {{"__name__": "__main__"}})
            except SystemExit:
                pass
    words = said.getvalue().split()
    if not words:
        raise ValueError("the checker printed nothing")
    return float(words[-1]) in (1, 100)
"""


def problem(row: Row) -> Problem:
    mode = take(row, "input_mode", str, "stdio")
    if mode != "stdio":
        raise BadRowError(f"its 'input_mode' is {mode!r}, not 'stdio'", "leave out rows whose programs use files")
    if take(row, "interaction_format", str, "").strip():
        raise BadRowError("it is interactive ('interaction_format')", "leave out interactive problems")
    if take(row, "official_tests_complete", bool, True) is False:
        raise BadRowError("its official tests are not complete", "leave out rows without 'official_tests_complete'")
    script = take(row, "generated_checker", str, "")
    if script.strip() and syntax_tree(script) is None:
        raise BadRowError("its 'generated_checker' is not Python 3", "leave this row out")
    parts = {key: take(row, key, str, "").strip() for key in ("description", "input_format", "output_format", "note")}
    titles = {"description": "", "input_format": "Input\n\n", "output_format": "Output\n\n", "note": "Note\n\n"}
    statement = "\n\n".join(titles[key] + text for key, text in parts.items() if text)
    rating = take(row, "rating", (int, float), 0)
    return Problem(
        id=str(take(row, "id", (str, int))),
        tests=listed_tests(take(row, "official_tests", list))[0],
        title=take(row, "title", str, ""),
        statement=statement,
        question=asked(statement, None),
        checker=CHECKER.format(script=script) if script.strip() else None,
        time_limit_s=seconds(row, "time_limit"),
        memory_limit_mb=megabytes(row, "memory_limit"),
        difficulty=str(int(rating)) if rating else "",
        tags=tuple(map(str, take(row, "tags", list, []))),
        platform="codeforces",
        group=str(take(row, "contest_id", (str, int), "")),
    )


FORMAT = Format(
    name="codeforces",
    columns=("id", "description", "official_tests"),
    problem=problem,
    title="Codeforces (open-r1)",
)
