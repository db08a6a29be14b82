#!/usr/bin/env bash
# Install what the tests in a real browser need: Chromium of the distribution, and in .venv Playwright to drive it and
# axe-core to check its pages.
set -euo pipefail
cd "$(dirname "$0")/../../.."

if ! command -v chromium >/dev/null && ! command -v chromium-browser >/dev/null; then
  command -v apt-get >/dev/null || { echo "install Chromium first: there is no apt-get here" >&2; exit 1; }
  run=()
  [ "$(id -u)" -eq 0 ] || run=(sudo)
  "${run[@]}" apt-get update -qq
  "${run[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -qq --yes --no-install-recommends chromium >/dev/null
fi
.venv/bin/python -c 'import playwright, axe_playwright_python' 2>/dev/null ||
  .venv/bin/python -m pip install --quiet 'playwright>=1.55,<2' 'axe-playwright-python>=0.1.8,<0.2'
