#!/usr/bin/env bash
# On a machine with a GPU, from the root of a checkout, in at most ten minutes: what only a GPU can prove, then times.
# Prints a table; with OUT=FOLDER also FOLDER/gpu.json. More arguments go to gpu.py, e.g. --tiny.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-$(test -x .venv/bin/python && echo .venv/bin/python || echo python3)}
"$python" -c "import torch, kiyas" 2>/dev/null || "$python" -m pip install --quiet -e '.[train]'
"$python" -c "import trl, peft" 2>/dev/null || "$python" -m pip install --quiet trl peft datasets ||
  echo "TRL cannot be installed here: no times against it" >&2
PYTORCH_ALLOC_CONF=${PYTORCH_ALLOC_CONF:-expandable_segments:True} exec "$python" benchmarks/gpu.py "$@"
