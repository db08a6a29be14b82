#!/bin/sh
# Installs the browser of the tests: Chromium, from Debian's own packages. Done is done.
set -eu

if command -v chromium >/dev/null 2>&1 || command -v chromium-browser >/dev/null 2>&1; then
  exit 0
fi

refuse() {
  echo "the tests of review lack a browser, and it cannot be installed: $1" >&2
  echo "install the package chromium by hand; without it, tests in a browser are skipped" >&2
  exit 2
}

command -v apt-get >/dev/null 2>&1 || refuse "there is no apt-get"
if [ "$(id -u)" -eq 0 ]; then
  root=""
elif command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then
  root="sudo -n"
else
  refuse "that takes root, or sudo without a password"
fi

echo "installing Chromium for the tests (once)" >&2
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if ! { $root apt-get update -qq && $root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq \
  --no-install-recommends chromium; } >"$log" 2>&1; then
  tail -n 20 "$log" >&2
  refuse "apt-get failed"
fi
