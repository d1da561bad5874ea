"""Where the command `kiyas` begins, which is also `python -m kiyas`."""

import sys

from kiyas.judge import interrupt


def main() -> int:
    """Runs one command; returns its exit code."""
    try:
        interrupt.install()
        from kiyas import cli

        return cli.main()
    except BaseException:
        if not interrupt.came():
            raise
        interrupt.say()
        return 130


if __name__ == "__main__":
    sys.exit(main())
