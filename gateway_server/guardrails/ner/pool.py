"""Processes that find entities for any thread of this one."""

import atexit
import logging
import multiprocessing
import threading
import time
from collections.abc import Iterator, Sequence
from multiprocessing.context import SpawnContext
from typing import Final

from gateway_server.guardrails.ner.model import Entities, ModelError, why_absent
from gateway_server.guardrails.ner.worker import serve
from gateway_server.guardrails.remembered import HashedCache

_LOG: Final = logging.getLogger(__name__)

#: How many characters a process is asked about at once, so that long texts let others in between.
_MOST_AT_ONCE: Final = 4_096
#: How many texts are remembered.
_REMEMBERED: Final = 8_192
#: How long a process may take until its model is loaded, in seconds.
_START_SECONDS: Final = 120.0
#: Why a model cannot be used whose processes do not get that far, and how many in a row it takes.
_DIED: Final = "processes die before they have loaded the spaCy model, or take too long"
_MOST_FAILED_STARTS: Final = 3
_DIED_ASKED: Final = "processes of the spaCy model die when they are asked"
#: How long a process may take for an answer, after whoever asked has left, before it counts as hanging.
_HANG_SECONDS: Final = 10.0
#: How long a model that cannot be used is left alone, in seconds.
_RETRY_SECONDS: Final = 30.0


class EntityPool:
    """A model in processes of its own, started when it is first needed. Its owner closes it.

    A process that dies or takes too long is replaced, while the others go on.
    """

    def __init__(self, name: str, *, processes: int = 1) -> None:
        """``name`` is that of the model's package, or its folder; nothing is loaded yet."""
        self._name = name
        self._processes = processes
        # Not forked: the threads of gRPC would not survive it.
        self._context = multiprocessing.get_context("spawn")
        self._known = HashedCache[Entities](_REMEMBERED)
        #: Guards everything below, and tells of changes.
        self._changed = threading.Condition()
        self._workers: set[_Worker] = set()
        self._idle: list[_Worker] = []
        self._is_closed = False
        #: Why the model could not be loaded the last time, and when that was.
        self._fault = ""
        self._failed_at = 0.0
        #: How many processes in a row have ended before the model was loaded.
        self._failed_starts = 0
        atexit.register(self.close)

    def start(self) -> None:
        """Has the processes start that are not there; waits for nothing."""
        with self._changed:
            if self._is_closed or len(self._workers) == self._processes:
                return
            if self._fault and time.monotonic() < self._failed_at + _RETRY_SECONDS:
                return
            self._fault = ""
            if why := why_absent(self._name):
                self._fail(why)
                return
            while len(self._workers) < self._processes:
                worker = _Worker(self._context, self._name)
                self._workers.add(worker)
                threading.Thread(target=self._load, args=(worker,), daemon=True).start()

    def why_unusable(self) -> str:
        """Why the model cannot be used, empty when it can; waits for it to be loaded."""
        self.start()
        with self._changed:
            self._changed.wait_for(lambda: self._is_loaded or self._is_unusable)
            return "" if self._is_loaded else self._fault

    def find(self, texts: Sequence[str], timeout: float) -> list[Entities]:
        """What each text names. Raises TimeoutError after ``timeout`` seconds, ModelError."""
        deadline = time.monotonic() + timeout
        found = {text: self._known.get(text) for text in texts}
        for portion in _portions([text for text, entities in found.items() if entities is None]):
            for text, entities in zip(portion, self._ask(portion, deadline), strict=True):
                self._known.put(text, entities)
                found[text] = entities
        return [found[text] or () for text in texts]

    def close(self) -> None:
        """Ends all processes at once: they keep nothing."""
        atexit.unregister(self.close)
        with self._changed:
            self._is_closed = True
            workers, self._workers, self._idle = self._workers, set(), []
        for worker in workers:
            worker.end()

    def _ask(self, texts: list[str], deadline: float) -> list[Entities]:
        try:
            return self._ask_once(texts, deadline)
        except _DiedError:
            # Of these texts, perhaps: so one more process is asked, and not all of them.
            return self._ask_once(texts, deadline)

    def _ask_once(self, texts: list[str], deadline: float) -> list[Entities]:
        worker = self._take(deadline)
        try:
            answer = worker.ask(texts, deadline)
        except _DiedError:
            self._replace(worker, "died")
            raise
        except TimeoutError:
            # It may only be slow, and another takes seconds to start.
            threading.Thread(target=self._wait_for, args=(worker,), daemon=True).start()
            raise
        self._give_back(worker)
        if isinstance(answer, str):
            raise ModelError(f"the spaCy model {self._name} failed: {answer}")
        return answer

    def _take(self, deadline: float) -> "_Worker":
        self.start()
        with self._changed:
            left = deadline - time.monotonic()
            if left <= 0 or not self._changed.wait_for(lambda: self._idle or self._is_unusable, left):
                raise TimeoutError
            if self._idle:
                return self._idle.pop()
            raise ModelError(self._fault or "the gateway ends")

    @property
    def _is_unusable(self) -> bool:
        return self._is_closed or (bool(self._fault) and not self._is_loaded)

    @property
    def _is_loaded(self) -> bool:
        return any(worker.is_loaded for worker in self._workers)

    def _give_back(self, worker: "_Worker") -> None:
        with self._changed:
            if worker in self._workers:
                self._idle.append(worker)
                self._changed.notify_all()

    def _wait_for(self, worker: "_Worker") -> None:
        """Waits for an answer that nobody wants any more, in a thread of its own."""
        try:
            worker.answer(_HANG_SECONDS)
        except (_DiedError, TimeoutError):
            self._replace(worker, "died or hung")
        else:
            self._give_back(worker)

    def _replace(self, worker: "_Worker", why: str) -> None:
        _LOG.warning("a process of the spaCy model %s %s and is replaced", self._name, why)
        with self._changed:
            self._workers.discard(worker)
        worker.end()
        self.start()

    def _load(self, worker: "_Worker") -> None:
        """Waits until a worker can be asked, in a thread of its own."""
        fault = worker.load()
        with self._changed:
            if worker not in self._workers:
                return  # closed meanwhile
            if not fault:
                self._fault, self._failed_starts = "", 0
                self._idle.append(worker)
                self._changed.notify_all()
                return
            self._workers.discard(worker)
            self._failed_starts += 1
            # One that died may have been ended by anybody.
            if fault != _DIED or self._failed_starts >= _MOST_FAILED_STARTS:
                self._fail(fault)
        worker.end()
        self.start()

    def _fail(self, fault: str) -> None:
        self._fault, self._failed_at = fault, time.monotonic()
        self._changed.notify_all()
        _LOG.error("persons and places cannot be found: %s", fault)


class _DiedError(ModelError):
    """The process died while it was asked."""


class _Worker:
    """A process that has the model; one thread asks at a time."""

    def __init__(self, context: SpawnContext, name: str) -> None:
        """Starts the process, which loads the model for seconds."""
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=serve, args=(theirs, name), name="entities", daemon=True)
        self._process.start()
        theirs.close()
        self.is_loaded = False

    def load(self) -> str:
        """Waits until the model is loaded; gives why it cannot be."""
        try:
            fault = str(self._connection.recv()) if self._connection.poll(_START_SECONDS) else _DIED
        except (EOFError, OSError):
            fault = _DIED
        self.is_loaded = not fault
        return fault

    def ask(self, texts: list[str], deadline: float) -> list[Entities] | str:
        """What the texts name, or the name of an error. Raises TimeoutError, _DiedError."""
        try:
            self._connection.send(texts)
        except OSError:
            raise _DiedError(_DIED_ASKED) from None
        return self.answer(max(deadline - time.monotonic(), 0))

    def answer(self, seconds: float) -> list[Entities] | str:
        """The answer to what was asked, once it is there; raises as ``ask`` does."""
        try:
            is_there = self._connection.poll(seconds)
            answer: list[Entities] | str = self._connection.recv() if is_there else ""
        except (EOFError, OSError):
            raise _DiedError(_DIED_ASKED) from None
        if not is_there:
            raise TimeoutError
        return answer

    def end(self) -> None:
        """Kills the process; whoever still asks it is told that it died."""
        self._process.kill()
        self._process.join()


def _portions(texts: Sequence[str]) -> Iterator[list[str]]:
    """The texts in lists of at most ``_MOST_AT_ONCE`` characters together."""
    portion: list[str] = []
    length = 0
    for text in texts:
        if portion and length + len(text) > _MOST_AT_ONCE:
            yield portion
            portion, length = [], 0
        portion.append(text)
        length += len(text)
    if portion:
        yield portion
