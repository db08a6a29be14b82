#!/bin/sh
# Installs the S3 server of the tests: Ceph's object gateway, from Debian's or Ubuntu's own packages. Done is done.
set -eu

missing=""
for program in ceph ceph-mon ceph-osd radosgw radosgw-admin openssl setpriv; do
  command -v "$program" >/dev/null 2>&1 || missing="$missing $program"
done
[ -n "$missing" ] || exit 0

exec "$(dirname "$0")/../apt_install.sh" \
  "an S3 server for the tests (once): Ceph's object gateway" \
  "the S3 server of the tests is missing ($missing ) and" \
  "install the packages ceph-mon ceph-osd radosgw openssl by hand; without them, tests marked s3 are skipped" \
  ceph-mon ceph-osd radosgw openssl util-linux
