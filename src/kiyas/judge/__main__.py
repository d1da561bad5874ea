"""`python -m kiyas.judge`: the judge's command line without the rest of Kıyas."""

import argparse
import sys

from . import cli
from .pulse import beating
from .terminal import only_printable


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m kiyas.judge")
    cli.add_arguments(parser)
    args = parser.parse_args()
    with only_printable(), beating(parser.prog):
        return cli.run(args)


if __name__ == "__main__":
    sys.exit(main())
