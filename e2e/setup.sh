#!/usr/bin/env bash
# Installs what the end-to-end tests need and this machine lacks: a Chromium, and
# the official libraries and types for Node in npm/ and providers/npm/. Running it again costs nothing.
set -euo pipefail
cd "$(dirname "$0")"

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi; }

if ! command -v chromium >/dev/null; then
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends chromium >/dev/null 2>&1 || {
    as_root apt-get update >/dev/null
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends chromium >/dev/null
  }
fi

# npm leaves this copy of the lock behind when it is done.
for folder in npm providers/npm; do
  if ! cmp -s $folder/package-lock.json $folder/node_modules/.installed; then
    (cd $folder && npm ci --no-audit --no-fund --loglevel=error >/dev/null)
    cp $folder/package-lock.json $folder/node_modules/.installed
  fi
done
