#!/usr/bin/env bash
# Installs what the end-to-end tests need and this machine lacks: Chromium, Firefox,
# Symfony's Mercure publisher, the official libraries and types for Node in npm/ and providers/npm/, and what builds the JavaScript client.
# Running it again costs nothing.
set -euo pipefail
cd "$(dirname "$0")"

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi; }

missing=()
command -v chromium >/dev/null || missing+=(chromium)
command -v firefox-esr >/dev/null || missing+=(firefox-esr)
command -v php >/dev/null || missing+=(php-cli)
[ -e /usr/share/php/Symfony/Component/Mercure/autoload.php ] || missing+=(php-symfony-mercure)
[ -e /usr/share/php/Symfony/Component/HttpClient/autoload.php ] || missing+=(php-symfony-http-client)
if [ ${#missing[@]} -gt 0 ]; then
  install() { as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${missing[@]}" >/dev/null; }
  install 2>/dev/null || {
    as_root apt-get update >/dev/null
    install
  }
fi

# npm leaves this copy of the lock behind when it is done.
for folder in npm providers/npm ../clients/js; do
  if ! cmp -s $folder/package-lock.json $folder/node_modules/.installed; then
    (cd $folder && npm ci --no-audit --no-fund --loglevel=error >/dev/null)
    cp $folder/package-lock.json $folder/node_modules/.installed
  fi
done
