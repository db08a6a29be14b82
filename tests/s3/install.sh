#!/bin/sh
# Installs the S3 server of the tests: Ceph's object gateway, from Debian's or Ubuntu's own packages. Done is done.
set -eu

missing=""
for program in ceph ceph-mon ceph-osd radosgw radosgw-admin openssl setpriv; do
  command -v "$program" >/dev/null 2>&1 || missing="$missing $program"
done
[ -n "$missing" ] || exit 0

refuse() {
  echo "the S3 server of the tests is missing ($missing ) and cannot be installed: $1" >&2
  echo "install the packages ceph-mon ceph-osd radosgw openssl by hand; without them, tests marked s3 are skipped" >&2
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

echo "installing an S3 server for the tests (once): Ceph's object gateway" >&2
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if ! { $root apt-get update -qq && $root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq \
  --no-install-recommends ceph-mon ceph-osd radosgw openssl util-linux; } >"$log" 2>&1; then
  tail -n 20 "$log" >&2
  refuse "apt-get failed"
fi
