#!/usr/bin/env bash
# Measures what the targets are about on a host with an NVIDIA GPU, in at most eight minutes: measure.sh OUT
#
# The reference network and the demo model in fp16: every engine beside PyTorch, first eager, then compiled by
# torch.compile(mode="max-autotune"). Each line of a figure ends with the lower bound of its time. It runs after smoke.sh, on
# the same machine; what has been unpacked since is tried first. docs/performance.md says what to bring and what comes out.
set -euo pipefail
limit_s=460
. "$(dirname "$0")/items.sh"

one=latency/reference-256/fp16/batch\ 1
many=latency/reference-256/fp16/batch\ 16
demo=latency/demo/fp16/batch\ 1
who=(--contenders '*eager*' --contenders 'onnxruntime-cuda*' --contenders 'tensorrt*')

item unpack 60 "$python" -m benchmarks.gpu.unpack "$parts" "$state/site"
item libraries 60 "$python" -m benchmarks.gpu --smoke 'onnxruntime*' 'tensorrt*'
measure floor 60 --part floor
# All three at first without what takes minutes to compile: then time may run short, and each has its figures.
measure engines 150 --part latency "${who[@]}" --only "$one" --only "$demo" --only "$many"
who+=(--contenders 'pytorch max-autotune')
measure compiled-1 140 --part latency "${who[@]}" --only "$one"
measure compiled 300 --part latency "${who[@]}" --only "$demo" --only "$many"
finish
