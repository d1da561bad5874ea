"""Run untrusted Python programs on test cases and say what happened. Standard library only.

    from kiyas.judge import judge, read_problems, read_programs

    for verdict in judge(read_programs("programs.jsonl"), read_problems("problems.jsonl")):
        print(verdict.problem_id, verdict.verdict, f"{verdict.passed}/{verdict.total}")

See docs/judge.md for what each tier of isolation does and does not guarantee.
"""

from .attacks import self_check
from .extract import extract
from .formats import FORMATS, outlines, problem_from_row, read_problems
from .formats.format import Format
from .pool import judge
from .programs import programs_from_row, read_programs
from .proof import Finding, in_words, prove, sound
from .ready import check_ready
from .tiers import TierReport, probe
from .tolerances import with_tolerance
from .types import (
    MISSING,
    AfterTimeout,
    ExceptionInfo,
    Extraction,
    ExtractionRule,
    InputError,
    JudgeError,
    Limits,
    Mode,
    Outcome,
    Problem,
    Program,
    SandboxError,
    Test,
    TestResult,
    Tier,
    ToleranceRule,
    Verdict,
)

__all__ = [
    "FORMATS",
    "MISSING",
    "AfterTimeout",
    "ExceptionInfo",
    "Extraction",
    "ExtractionRule",
    "Finding",
    "Format",
    "InputError",
    "JudgeError",
    "Limits",
    "Mode",
    "Outcome",
    "Problem",
    "Program",
    "SandboxError",
    "Test",
    "TestResult",
    "Tier",
    "TierReport",
    "ToleranceRule",
    "Verdict",
    "check_ready",
    "extract",
    "in_words",
    "judge",
    "outlines",
    "probe",
    "problem_from_row",
    "programs_from_row",
    "prove",
    "read_problems",
    "read_programs",
    "self_check",
    "sound",
    "with_tolerance",
]
