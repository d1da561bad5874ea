"""Where the command `kiyas` begins, which is also `python -m kiyas`."""

import os
import signal
import sys
from typing import Any


def _stopped(number: int, frame: Any) -> None:
    os.write(2, b"\nkiyas: stopped; nothing was changed\n")
    os._exit(128 + number)


# Before anything is loaded; `interrupt` takes over then.
if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, _stopped)


def main() -> int:
    """Runs one command; returns its exit code."""
    from kiyas.judge import interrupt

    try:
        interrupt.install()
        from kiyas import cli

        code = cli.main()
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:
        if not interrupt.came():
            raise
        interrupt.say()
        code = 130
    interrupt.end(code)
    return code


if __name__ == "__main__":
    sys.exit(main())
