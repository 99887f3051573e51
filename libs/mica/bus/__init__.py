"""The bus: events over NATS JetStream and state in its KV buckets, with a fake in memory beside it.

Owns everything that touches NATS. Invariant: no other package imports ``nats``.
"""

from mica.bus import _lean  # noqa: F401  # before whatever imports nats
from mica.bus._clock import Clock, ManualClock, SystemClock
from mica.bus._collector import Collector
from mica.bus._errors import BusError, BusUnavailableError, StaleRevisionError, StreamFullError
from mica.bus._jetstream import JetStreamBus
from mica.bus._memory import MemoryBucket, MemoryBus, MemoryDelivery, StoredMessage, matches
from mica.bus._port import Bucket, Bus, Change, Delivery, Entry, Heard, Note, Version, Write
from mica.bus._service import ServiceError, announce_ready, run_service
from mica.bus._settings import DEFAULT_RUNTIME_DIR, DEFAULT_URL, Settings, SettingsError

__all__ = [
    "DEFAULT_RUNTIME_DIR",
    "DEFAULT_URL",
    "Bucket",
    "Bus",
    "BusError",
    "BusUnavailableError",
    "Change",
    "Clock",
    "Collector",
    "Delivery",
    "Entry",
    "Heard",
    "JetStreamBus",
    "ManualClock",
    "MemoryBucket",
    "MemoryBus",
    "MemoryDelivery",
    "Note",
    "ServiceError",
    "Settings",
    "SettingsError",
    "StaleRevisionError",
    "StoredMessage",
    "StreamFullError",
    "SystemClock",
    "Version",
    "Write",
    "announce_ready",
    "matches",
    "run_service",
]
