"""Who waits for room. Invariant: of equal pieces the one that came first goes first; of different ones too, where it fits."""

import heapq
from collections import deque
from collections.abc import Callable, Iterator

from mica.packing import Shape


class Waiting:
    """Keys in the order in which they came, by shape: equal shapes fit or do not fit together."""

    def __init__(self) -> None:
        self._keys: dict[Shape, deque[int]] = {}

    def add(self, key: int, shape: Shape) -> None:
        """It waits from now on. Keys only grow."""
        self._keys.setdefault(shape, deque()).append(key)

    def let_in(self, again: Callable[[int, Shape], bool]) -> Iterator[int]:
        """Try each in the order of arrival, no shape again that has not fitted; whoever fits waits no longer and is told."""
        heads = [(keys[0], number) for number, keys in enumerate(self._keys.values())]
        heapq.heapify(heads)
        shapes = list(self._keys)
        while heads:
            key, number = heapq.heappop(heads)
            shape = shapes[number]
            if not again(key, shape):
                continue
            keys = self._keys[shape]
            keys.popleft()
            if keys:
                heapq.heappush(heads, (keys[0], number))
            else:
                del self._keys[shape]
            yield key
