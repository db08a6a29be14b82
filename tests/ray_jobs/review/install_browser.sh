#!/bin/sh
# Installs the browser of the tests: Chromium, from Debian's own packages. Done is done.
set -eu

if command -v chromium >/dev/null 2>&1 || command -v chromium-browser >/dev/null 2>&1; then
  exit 0
fi

exec "$(dirname "$0")/../../apt_install.sh" \
  "Chromium for the tests (once)" \
  "the tests of review lack a browser, and it" \
  "install the package chromium by hand; without it, tests in a browser are skipped" \
  chromium
