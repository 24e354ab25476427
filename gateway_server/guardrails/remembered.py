"""Results of pure functions of texts, for texts that come again soon."""

from collections import OrderedDict
from collections.abc import Callable
from hashlib import blake2b
from threading import Lock
from typing import Final, Generic, TypeVar

T = TypeVar("T")

_DIGEST_BYTES: Final = 16


class Remembered(Generic[T]):
    """The last ``size`` results of a pure function, by hashes of texts alone; any thread may ask."""

    def __init__(self, judge: Callable[[str], T], size: int) -> None:
        self._judge = judge
        self._size = size
        self._results: OrderedDict[bytes, T] = OrderedDict()
        self._lock = Lock()

    def judge(self, text: str) -> T:
        """What the function says of the text."""
        key = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=_DIGEST_BYTES).digest()
        with self._lock:
            result = self._results.get(key)
            if result is not None:
                self._results.move_to_end(key)
                return result
        result = self._judge(text)
        with self._lock:
            self._results[key] = result
            if len(self._results) > self._size:
                self._results.popitem(last=False)
        return result
