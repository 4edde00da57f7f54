#!/usr/bin/env bash
# Installs from Debian's packages what the suites start themselves: Redis, and the tools that build and start the image.
# PostgreSQL comes with the development dependencies. Does nothing where all of it is there.
set -euo pipefail

# program:package
wanted=(redis-server:redis-server buildah:buildah mmdebstrap:mmdebstrap newuidmap:uidmap unshare:util-linux ip:iproute2)

missing=()
for each in "${wanted[@]}"; do
  command -v "${each%%:*}" >/dev/null || missing+=("${each##*:}")
done
if ((${#missing[@]} == 0)); then
  echo 'all servers and tools are installed'
  exit 0
fi
echo "installing: ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
# No service is to start by itself: every suite starts its own on a free port.
if [[ ! -e /usr/sbin/policy-rc.d ]]; then
  printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
  chmod +x /usr/sbin/policy-rc.d
  trap 'rm -f /usr/sbin/policy-rc.d' EXIT
fi
apt-get update -q
apt-get install -y -q --no-install-recommends "${missing[@]}"
