#!/usr/bin/env bash
# Unpacks the headers of ONNX Runtime's C API into a folder: those of Debian testing's libonnxruntime-dev, as stable's lack
# plugins of execution providers. apt gets that one package from the mirror this machine uses, checks its signature, and
# keeps its lists in a folder of their own; nothing is installed.
set -euo pipefail
folder=$1
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
if test -e "$folder/include/onnxruntime_c_api.h"; then exit; fi

mirror=$(apt-get indextargets --format '$(REPO_URI) $(ORIGIN) $(COMPONENT) $(CREATED_BY) $(SUITE)' |
  awk '$2 == "Debian" && $3 == "main" && $4 == "Packages" && $5 !~ /-/ { print $1; exit }')
if test -z "$mirror"; then
  echo "fetch_onnxruntime_headers.sh: apt knows no Debian mirror here (run apt-get update first, on Debian)" >&2
  exit 1
fi
apt="$folder/apt"
mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial" "$apt/unpacked"
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
echo "deb [signed-by=$keyring] $mirror testing main" >"$apt/sources.list"
touch "$apt/status"
options=(
  -o Dir::Etc::sourcelist="$apt/sources.list" -o Dir::Etc::sourceparts=- -o Dir::State="$apt"
  -o Dir::State::lists="$apt/lists" -o Dir::State::status="$apt/status" -o Dir::Cache="$apt/cache"
  -o Acquire::Languages=none -o APT::Sandbox::User=root -qq
)
apt-get "${options[@]}" update
(cd "$apt" && apt-get "${options[@]}" download libonnxruntime-dev)
dpkg-deb -x "$apt"/libonnxruntime-dev_*.deb "$apt/unpacked"
mv "$apt/unpacked/usr/include/onnxruntime" "$folder/include"
rm -rf "$apt"
