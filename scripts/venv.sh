#!/bin/sh
# Makes a virtual environment with a torch that is good enough (>= 2.11): one that $PYTHON can import already is
# used as it is, through a .pth file; otherwise the version that the tests pin is installed.
set -eu
venv=$1
python=${PYTHON:-python3}

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "Kiyas needs Python 3.11 or newer; $python is $("$python" -V 2>&1). Name another: make PYTHON=python3.12 ..." >&2
    exit 1
}
[ -x "$venv/bin/python" ] || "$python" -m venv "$venv" || {
    echo "could not make a virtual environment; on Debian and Ubuntu: apt install python3-venv" >&2
    exit 1
}
good='import torch, sys; v = torch.__version__.split("+")[0].split("."); sys.exit((int(v[0]), int(v[1])) < (2, 11))'
if "$venv/bin/python" -c "$good" 2>/dev/null; then
    exit 0
fi
if "$python" -c "$good" 2>/dev/null; then
    outside=$("$python" -c 'import pathlib, torch; print(pathlib.Path(torch.__file__).parent.parent)')
    inside=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    echo "using the torch that is already in $outside"
    echo "$outside" > "$inside/torch-from-outside.pth"
    exit 0
fi
echo "installing torch 2.13.0 (once; minutes)"
"$venv/bin/python" -m pip install --disable-pip-version-check --quiet torch==2.13.0
