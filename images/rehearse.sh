#!/usr/bin/env bash
# Rehearse `make images` where there is nothing to pull from and no container engine but buildah: Debian's own packages
# make a base, a registry on this machine takes it and is asked for its digest, images are built on it and pushed, and
# each is started as its user. Needs root, debootstrap, buildah and docker-registry (Debian has all three).
#
#   images/rehearse.sh [IMAGE …]      by default control, which takes some ten minutes on two cores
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
for tool in debootstrap buildah docker-registry; do
    command -v "$tool" >/dev/null || { echo "no $tool: apt-get install $tool" >&2; exit 1; }
done
python=$PWD/.venv/bin/python
scratch=$(mktemp -d)
port=$("$python" -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])')
registry=127.0.0.1:$port

cat >"$scratch/storage.conf" <<EOF
[storage]
driver = "${STORAGE_DRIVER:-overlay}"
graphroot = "$scratch/images"
runroot = "$scratch/run"
EOF
printf '[[registry]]\nlocation = "%s"\ninsecure = true\n' "$registry" >"$scratch/registries.conf"
cat >"$scratch/registry.yaml" <<EOF
version: 0.1
log: {level: fatal, accesslog: {disabled: true}}
storage: {filesystem: {rootdirectory: $scratch/registry}}
http: {addr: $registry}
EOF
export CONTAINERS_STORAGE_CONF=$scratch/storage.conf CONTAINERS_REGISTRIES_CONF=$scratch/registries.conf
export BUILDAH_ISOLATION=chroot
docker-registry serve "$scratch/registry.yaml" &
served=$!
end() {
    kill "$served"
    buildah rm --all >/dev/null || true
    buildah rmi --all --force >/dev/null || true
    umount "$scratch/images/overlay" 2>/dev/null || true
    rm -rf "$scratch"
}
trap end EXIT

echo "== a base of Debian's packages"
debootstrap --variant=minbase --include=python3,python3-venv,ca-certificates bookworm "$scratch/root" \
    "${DEBIAN:-http://deb.debian.org/debian}" >"$scratch/debootstrap.log"
cp /etc/ssl/certs/ca-certificates.crt "$scratch/root/etc/ssl/certs/"
mkdir -p "$scratch/root/opt/java/openjdk"
base=$(buildah from scratch)
buildah add --quiet "$base" "$scratch/root" / >/dev/null
buildah commit --quiet --rm "$base" "$registry/python:3.11" >/dev/null
buildah push --quiet "$registry/python:3.11"
for name in python java; do echo "$name: {image: \"$registry/python:3.11\", digest: \"\"}"; done >"$scratch/bases.yaml"

echo "== digests of bases"
"$python" images/pin.py "$scratch/bases.yaml"

echo "== build and push"
images=("${@:-control}")
"$python" images/build.py --engine buildah --bases "$scratch/bases.yaml" --registry "$registry/nextpage" \
    --output "$scratch/out" "${images[@]}"
cat "$scratch/out/digests.yaml"

for image in "${images[@]}"; do
    echo "== $image"
    started=$(buildah from "$registry/nextpage/$image@$(cat "$scratch/out/$image/digest")")
    buildah run "$started" -- sh -c 'id -u; pwd; ! command -v gcc cc; ! touch /opt/nextpage/x 2>/dev/null; mktemp'
    buildah run "$started" -- python -c 'import nextpage.gates, sys; print(sys.version)'
    "$python" -c "import json, sys; print(len(json.load(open(sys.argv[1]))['components']), 'components')" \
        "$scratch/out/$image/sbom.json"
    buildah rm "$started" >/dev/null
done
