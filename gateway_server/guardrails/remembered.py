"""What texts were found to be, remembered by their hashes alone, for texts that come again soon."""

from collections import OrderedDict
from collections.abc import Callable
from hashlib import blake2b
from threading import Lock
from typing import Final, Generic, TypeVar

T = TypeVar("T")

_DIGEST_BYTES: Final = 16


class HashedCache(Generic[T]):
    """The last ``size`` results for texts; any thread may ask."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._results: OrderedDict[bytes, T] = OrderedDict()
        self._lock = Lock()

    def get(self, text: str) -> T | None:
        """The result for this text, None when it is not remembered."""
        return self.get_by_key(_key_of(text))

    def get_by_key(self, key: bytes) -> T | None:
        """The same for a text whose key is known."""
        with self._lock:
            result = self._results.get(key)
            if result is not None:
                self._results.move_to_end(key)
            return result

    def put(self, text: str, result: T) -> None:
        """Remembers a result, and forgets the one that was asked for the longest ago."""
        self.put_by_key(_key_of(text), result)

    def put_by_key(self, key: bytes, result: T) -> None:
        """The same for a text whose key is known."""
        with self._lock:
            self._results[key] = result
            if len(self._results) > self._size:
                self._results.popitem(last=False)


class Remembered(Generic[T]):
    """A pure function of a text with its last ``size`` results; any thread may ask."""

    def __init__(self, judge: Callable[[str], T], size: int) -> None:
        self._judge = judge
        self._known = HashedCache[T](size)

    def judge(self, text: str) -> T:
        """What the function says of the text."""
        key = _key_of(text)
        result = self._known.get_by_key(key)
        if result is None:
            result = self._judge(text)
            self._known.put_by_key(key, result)
        return result


def _key_of(text: str) -> bytes:
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=_DIGEST_BYTES).digest()
