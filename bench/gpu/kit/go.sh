#!/bin/sh
# On the GPU machine: sh go.sh PART, the parts one after the other: 1 whether it works, 2 how fast, 3 the long recipes.
# Needs python3 with PyTorch; no network, no root. The record lands in $OUT (beside this file: out), after every check.
# Environment: LIMIT=300 seconds of the part, PYTHON=python3, DEVICE=cuda, QUICK=1 and DEVICE=cpu to rehearse,
# ONLY="loads serves" for some checks, WORK=dir and OUT=dir.
set -eu
here="$(cd "$(dirname "$0")" && pwd)"
STARTED="$(date +%s)"
PYTHON="${PYTHON:-python3}"
WORK="${WORK:-$here/work}"
OUT="${OUT:-$here/out}"
unset PYTHONPATH PYTHONHOME
export STARTED WORK OUT
kit="$(cat "$here/project.tar.xz" "$here/rest.tar.xz" | cksum)"
if [ "$(cat "$WORK/unpacked" 2>/dev/null)" != "$kit" ]; then
  rm -rf "$WORK/kit" "$WORK/environment" && mkdir -p "$WORK/kit"
  for archive in "$here/project.tar.xz" "$here/rest.tar.xz"; do
    # Not every machine has xz, and not every Python lzma.
    tar -xJf "$archive" -C "$WORK/kit" 2>/dev/null ||
      "$PYTHON" -c 'import sys, tarfile; tarfile.open(sys.argv[1]).extractall(sys.argv[2])' "$archive" "$WORK/kit"
  done
  echo "$kit" > "$WORK/unpacked"
fi
cd "$WORK/kit/project"
exec "$PYTHON" -m bench.gpu.kit.start "$@"
