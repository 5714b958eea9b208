#!/bin/sh
# Make the virtual environment that every make target uses: tools/setup.sh FOLDER
# Each thing that may be missing gets one message with the command that mends it.
# PYTHON=/path/to/python3.11 chooses the interpreter.
set -eu

# The caller's settings for pip and Python that would put the packages elsewhere, or bring others in.
unset PIP_TARGET PIP_PREFIX PIP_ROOT PYTHONPATH PYTHONHOME
export PIP_USER=0 PYTHONNOUSERSITE=1

venv=$1
fail() {
    printf '\nset-up stopped: %s\n' "$1" >&2
    exit 1
}

as_root=; [ "$(id -u)" = 0 ] || as_root="sudo "

# 1. A Python that the pinned packages have wheels for.
usable() {
    "$1" -c 'import sys; sys.exit(not (3, 8) <= sys.version_info[:2] < (3, 12))' 2>/dev/null
}
if [ -n "${PYTHON:-}" ]; then
    usable "$PYTHON" || fail "PYTHON=$PYTHON is no Python 3.8 to 3.11 (it says: $("$PYTHON" --version 2>&1 || true)).
MXNet's last release has no wheel for others. Give one that is: make PYTHON=/path/to/python3.11 ..."
else
    found=
    for candidate in python3.11 python3.10 python3.9 python3.8 python3 python; do
        if usable "$candidate"; then PYTHON=$candidate; break; fi
        command -v "$candidate" >/dev/null 2>&1 && found="$found $("$candidate" --version 2>&1)" || true
    done
    [ -n "${PYTHON:-}" ] || fail "no Python 3.8 to 3.11 on the PATH (found:${found:- none}).
MXNet's last release has no wheel for others. Install one, for example with
    conda create --yes --prefix ./.python python=3.11
and start again with
    make PYTHON=./.python/bin/python ..."
fi
version=$("$PYTHON" -c 'import sys; print("%d.%d" % sys.version_info[:2])')

# 2. Its venv module, which Debian and Ubuntu keep in a package of its own.
"$PYTHON" -c 'import venv, ensurepip' 2>/dev/null || fail "$PYTHON ($version) cannot make virtual environments. Install what it lacks:
    ${as_root}apt-get install python$version-venv"

# 3. System libraries that the wheels of mxnet and opencv load but do not bring along.
if [ "$(uname -s)" = Linux ]; then
    quadmath() { [ "$(uname -m)" != x86_64 ] || lacking libquadmath.so.0 "$1"; }  # MXNet's Arm wheel needs none
    lacking() { "$PYTHON" -c 'import ctypes, sys; ctypes.CDLL(sys.argv[1])' "$1" 2>/dev/null || echo " $2"; }
    if command -v dnf >/dev/null 2>&1; then
        install="${as_root}dnf install"
        packages="$(lacking libgomp.so.1 libgomp)$(quadmath libquadmath)$(lacking libGL.so.1 mesa-libGL)$(lacking libgthread-2.0.so.0 glib2)"
    else
        install="${as_root}apt-get update && ${as_root}apt-get install --yes"
        packages="$(lacking libgomp.so.1 libgomp1)$(quadmath libquadmath0)$(lacking libGL.so.1 libgl1)$(lacking libgthread-2.0.so.0 libglib2.0-0)"
    fi
    [ -z "$packages" ] || fail "system libraries are missing. Install them:
    $install$packages"
fi

# 4. The packages, all at the pinned versions.
echo "setting up $venv with Python $version: about 1.6 GB of packages, once, a minute or more"
"$PYTHON" -m venv --clear "$venv"
elsewhere=$("$venv/bin/python" -m pip config list 2>/dev/null | grep -E "^(global|install)\.(target|prefix|root)=" || true)
[ -z "$elsewhere" ] || fail "pip's settings send packages elsewhere than to $venv: $elsewhere.
Take that out of the file that this command names, then run the same make command again:
    $venv/bin/python -m pip config debug"
"$venv/bin/python" -m pip install --quiet --upgrade pip==25.0.1 || fail "the package index did not give a new pip, and Python's own is too old to resolve this set.
Look at the messages above (is there a network, is a proxy set?), then try by hand:
    $venv/bin/python -m pip install --upgrade pip==25.0.1"
"$venv/bin/python" -m pip install --quiet --constraint constraints.txt --editable '.[test]' || fail "the packages could not be installed.
Look at pip's messages above (is there a network, room for 2 GB on the disk?), then run the same make command again."
"$venv/bin/python" -c 'import mxnet, cv2' || fail "the packages are installed but cannot be loaded; the message above names what is missing.
Install that, then run the same make command again."

# 5. JupyterLab as this project wants it: whole file names, pages rendered, no question about news.
mkdir -p "$venv/share/jupyter/lab/settings"
cp tools/jupyterlab.json "$venv/share/jupyter/lab/settings/overrides.json"
echo "set-up done"
