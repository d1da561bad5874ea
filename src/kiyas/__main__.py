"""`python -m kiyas`."""

import sys

from kiyas.cli import main

if __name__ == "__main__":  # workers are spawned and import this file under another name
    sys.exit(main())
