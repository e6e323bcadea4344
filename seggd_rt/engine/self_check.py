"""Every engine checks itself against the golden run of the bundle before its first image.

On a GPU, where a batch may take other kernels than one image, two equal images of a batch must come out equal too.
Outcomes are kept in the user's cache folder, keyed by all that can change them: bundle, engine and version, device
and precision. So the check costs one start.
"""

from __future__ import annotations

import hashlib
import json
import math
import warnings
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import platformdirs

from seggd_rt.bundle import Bundle
from seggd_rt.diffusion import (
    PARITY_LIMIT,
    ROW_LIMIT,
    Precision,
    Sampler,
    encode,
    encode_table,
    psnr_db,
    relative_errors,
    sampler_rows,
)
from seggd_rt.engine.contract import EngineInfo, Run, Session
from seggd_rt.errors import EngineCheckError, OutputError
from seggd_rt.files import check_keys, make_folder, write_file

_SCHEMA = "seggd-check/2"


class Outcome(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a check found.

    Attributes
    ----------
    rel_l2, rel_max
        Largest errors of the network's output over the golden states.
    psnr_db
        PSNR of the golden image; NaN where it was not drawn, infinity where it is equal.
    """

    rel_l2: float
    rel_max: float
    psnr_db: float = math.nan

    def require(self, info: EngineInfo) -> None:
        """Raise EngineCheckError if an error is over the precision's limit."""
        limit = PARITY_LIMIT[info.precision]
        worst = max(self.rel_l2, self.rel_max)
        if not worst <= limit:
            advice = "" if info.precision is Precision.FP32 else "; try precision='fp32'"
            raise EngineCheckError(
                f"engine {info.engine} {info.version} in {info.precision} on {info.device_name} misses the bundle's "
                f"golden states by {worst:.1e}, over {limit:.0e}: choose another engine{advice}"
            )


def require_equal_rows(found: Outcome, info: EngineInfo) -> None:
    """Raise EngineCheckError if two equal images of a batch differ by more than the precision's limit."""
    limit = ROW_LIMIT[info.precision]
    if not found.rel_max <= limit:
        raise EngineCheckError(
            f"engine {info.engine} {info.version} in {info.precision} on {info.device_name} gives two equal images of "
            f"a batch outputs that differ by {found.rel_max:.1e}, over {limit:.0e}: choose another engine"
        )


@dataclass(frozen=True)
class SelfCheck:
    """Checks sessions of batch 1 against a bundle."""

    bundle: Bundle

    def states(self, session: Session, info: EngineInfo) -> Outcome:
        """Compare the network's output at the golden states, or recall what that gave."""
        return self._recall(info, "states") or self._keep(info, "states", self._measure_states(session))

    def image(self, session: Session, info: EngineInfo) -> Outcome:
        """Compare the golden states and the whole golden image, or recall what that gave."""
        found = self._recall(info, "image")
        if found is None:
            states = self._recall(info, "states") or self._measure_states(session)
            found = self._keep(info, "image", msgspec.structs.replace(states, psnr_db=self._measure_image(session)))
        return found

    def equal_rows(self, pair: Session, info: EngineInfo) -> Outcome:
        """Compare two equal images of one batch with each other, by a session of batch 2, or recall what that gave."""
        return self._recall(info, "rows") or self._keep(info, "rows", self._measure_rows(pair))

    def _measure_rows(self, pair: Session) -> Outcome:
        golden, manifest = self.bundle.golden, self.bundle.manifest
        mask = encode(golden.label_map, encode_table(manifest.mask.encoding, len(manifest.classes)))
        twice = np.stack([mask, mask])
        errors = []
        for x, timestep in zip(golden.states, golden.timesteps, strict=True):
            first, second = pair.evaluate(np.stack([x, x]), twice, float(timestep))
            errors.append(relative_errors(second, first))
        return Outcome(rel_l2=max(l2 for l2, _ in errors), rel_max=max(largest for _, largest in errors))

    def _measure_states(self, session: Session) -> Outcome:
        golden, manifest = self.bundle.golden, self.bundle.manifest
        mask = encode(golden.label_map, encode_table(manifest.mask.encoding, len(manifest.classes)))
        errors = [
            relative_errors(session.evaluate(x[None], mask[None], float(timestep))[0], output)
            for x, timestep, output in zip(golden.states, golden.timesteps, golden.outputs, strict=True)
        ]
        return Outcome(rel_l2=max(l2 for l2, _ in errors), rel_max=max(largest for _, largest in errors))

    def _measure_image(self, session: Session) -> float:
        golden, manifest = self.bundle.golden, self.bundle.manifest
        run = Run(
            table=sampler_rows(Sampler.DDIM, manifest.schedule, manifest.check.steps),
            label_maps=golden.label_map[None],
            encode_tables=encode_table(manifest.mask.encoding, len(manifest.classes))[None, None],
            seeds=(0,),
            noise=golden.noise[None],
        )
        out = np.empty((1, manifest.image.height, manifest.image.width, manifest.image.channels), np.float32)
        session.run(run, out)
        return psnr_db(np.moveaxis(out[0], -1, 0), golden.image)

    def _path(self, info: EngineInfo, kind: str) -> Path:
        parts = (_SCHEMA, kind, self.bundle.sha256, info.engine, info.version, info.device_name, info.precision)
        key = hashlib.sha256("\0".join(parts).encode()).hexdigest()
        return platformdirs.user_cache_path("seggd-rt") / "checks" / f"{key}.json"

    def _recall(self, info: EngineInfo, kind: str) -> Outcome | None:
        path = self._path(info, kind)
        try:
            # Not msgspec's JSON, which writes infinity and NaN as null.
            data = path.read_bytes()
            check_keys(data)
            return msgspec.convert(json.loads(data), Outcome)
        except OSError:  # as a rule: not there
            return None
        except (ValueError, RecursionError):
            warnings.warn(f"{path} is damaged: the check it keeps is made again", RuntimeWarning, stacklevel=2)
            return None

    def _keep(self, info: EngineInfo, kind: str, outcome: Outcome) -> Outcome:
        path = self._path(info, kind)
        try:
            make_folder(path.parent)
            write_file(path, json.dumps(msgspec.to_builtins(outcome)).encode())
        except OutputError as error:
            message = f"the engine's check cannot be kept ({error}): it is made again at the next start"
            warnings.warn(message, RuntimeWarning, stacklevel=2)
        return outcome
