"""A few hundred mutations of valid files for every reader: a result or a `SeggdError`, in bounded memory."""

from __future__ import annotations

import importlib.util
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.fuzz.mutations import mutated
from tests.fuzz.targets import TARGETS, Target

COUNT = 300
MEMORY = 3 << 30
"""Bytes of address space that one input may take beyond what the process has: some maps have 2^26 pixels."""


@contextmanager
def memory_limit(size: int) -> Iterator[None]:
    """Let this process grow by no more than so many bytes: what asks for more raises MemoryError."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def require(target: Target) -> None:
    for package in target.needs:
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")


@pytest.mark.parametrize("name", TARGETS)
def test_any_bytes_give_a_result_or_our_error(name: str) -> None:
    target = TARGETS[name]
    require(target)
    read = 0
    with memory_limit(MEMORY):
        for number, data in enumerate(mutated(target.seeds(), COUNT)):
            try:
                read += target.run(data)
            except BaseException as error:
                error.add_note(f"input {number} of {name}: {data[:200]!r}")
                raise
    assert read < COUNT  # some are refused


@pytest.mark.parametrize("name", TARGETS)
def test_seeds_are_valid(name: str) -> None:
    target = TARGETS[name]
    require(target)
    assert any(target.run(data) for data in target.seeds())


def test_another_error_is_not_swallowed() -> None:
    def read(data: bytes) -> None:
        raise IndexError

    with pytest.raises(IndexError):
        Target(read, lambda: [b""]).run(b"")


def test_mutations_are_the_same_every_time() -> None:
    first, second = (list(mutated([b"abc" * 99, b"def" * 99], 50)) for _ in range(2))
    assert first == second
    assert len(set(first)) > 40
