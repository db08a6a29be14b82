#!/bin/sh
# Installs packages of Debian or Ubuntu that tests need, as root or by sudo without a password; exits with 2 if it cannot.
# Usage: apt_install.sh WHAT PROBLEM ADVICE PACKAGE...   (what is installed; begins and follows what a refusal says)
set -eu
what=$1 problem=$2 advice=$3
shift 3

refuse() {
  echo "$problem cannot be installed: $1" >&2
  echo "$advice" >&2
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

echo "installing $what" >&2
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if ! { $root apt-get update -qq && $root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq \
  --no-install-recommends "$@"; } >"$log" 2>&1; then
  tail -n 20 "$log" >&2
  refuse "apt-get failed"
fi
