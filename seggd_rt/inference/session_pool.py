"""Sessions of one network, each acquired by one thread at a time and kept for the next call of its size."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from seggd_rt.engine import AnyNetwork, Session
from seggd_rt.errors import EngineError

_MAX_IDLE = 8
"""Sessions kept for later calls: each has the buffers of one batch size."""
_MAX_SIZES = 4
"""Of how many batch sizes: for each of them an engine may hold the network once more."""


class SessionPool:
    """Owns a network and its sessions; any number of threads may acquire them."""

    def __init__(self, network: AnyNetwork) -> None:
        self.network = network
        self._lock = threading.Lock()
        self._idle: list[Session] = []  # that of the latest call last
        self._acquired = 0
        self._closed = False

    @contextmanager
    def acquire(self, batch: int, lanes: int = 1) -> Iterator[Session]:
        """Acquire a session of a size that no other thread has; it is released at the end. One that failed is closed.

        Raises
        ------
        EngineError
            The pool is closed.
        """
        session = self._take(batch, lanes)
        try:
            session = session or self.network.session(batch, lanes)
            yield session
        except BaseException:
            self._release(session, keep=False)
            raise
        self._release(session, keep=True)

    def synchronize(self) -> None:
        """Wait for what idle sessions still do on a GPU, and raise what went wrong with it."""
        with self._lock:
            for session in self._idle:
                session.synchronize()

    def close(self) -> None:
        """Close sessions and network, as soon as no thread has a session any more."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            while self._idle:
                self._idle.pop().close()
            if not self._acquired:
                self.network.close()

    def _drop_oldest(self) -> None:
        """Close idle sessions that are too many, or of too many sizes of the network's batch."""
        sizes = list(dict.fromkeys(idle.batch * idle.lanes for idle in reversed(self._idle)))[:_MAX_SIZES]
        kept = [idle for idle in self._idle if idle.batch * idle.lanes in sizes][-_MAX_IDLE:]
        for idle in self._idle:
            if not any(idle is one for one in kept):
                idle.close()
        self._idle = kept

    def _take(self, batch: int, lanes: int) -> Session | None:
        with self._lock:
            if self._closed:
                raise EngineError("this generator is closed: load the bundle again")
            fitting = (idle for idle in reversed(self._idle) if (idle.batch, idle.lanes) == (batch, lanes))
            session = next(fitting, None)
            if session is not None:
                self._idle.remove(session)
            self._acquired += 1
            return session

    def _release(self, session: Session | None, *, keep: bool) -> None:
        with self._lock:
            self._acquired -= 1
            if session is not None:
                self._idle.append(session)
                if not keep or self._closed:
                    self._idle.pop().close()
                else:
                    self._drop_oldest()
            if self._closed and not self._acquired:
                self.network.close()
