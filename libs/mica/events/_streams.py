"""Which event travels on which subject and stream: the one table from which bus, schemas and AsyncAPI are made.

Invariant: every event type stands in exactly one row, and a row's subject matches no other stream.
"""

from enum import StrEnum
from typing import Final

from msgspec import Struct

from mica.events import _commands as commands
from mica.events import _facts as facts
from mica.events import _figures as figures


class Storage(StrEnum):
    """Where a stream keeps its messages."""

    FILE = "file"
    MEMORY = "memory"


class Stream(Struct, frozen=True, kw_only=True, gc=False):
    """A JetStream stream. ``max_age_s`` and ``max_messages`` of 0 mean no limit."""

    name: str
    subjects: tuple[str, ...]
    storage: Storage = Storage.FILE
    work_queue: bool = False
    discard_new: bool = False
    max_age_s: float = 0
    max_messages: int = 0


class Channel(Struct, frozen=True, kw_only=True, gc=False):
    """One event type's place on the bus.

    ``subject`` is the prefix, equal to the type's tag; ``key`` names the field whose value ends the subject, empty for
    commands. ``publisher`` is the only service that publishes it.
    """

    event: type[commands.Command] | type[facts.Fact]
    subject: str
    key: str
    stream: str
    publisher: str
    packed: bool = False


COMMANDS: Final = Stream(name="COMMANDS", subjects=("slice.*",), work_queue=True, discard_new=True, max_messages=1_000_000)
SLICES: Final = Stream(name="SLICES", subjects=("slice.*.*",), max_age_s=7 * 86_400)
NODES: Final = Stream(name="NODES", subjects=("node.>",), max_age_s=86_400)
TELEMETRY: Final = Stream(name="TELEMETRY", subjects=("telemetry.>",), storage=Storage.MEMORY, max_age_s=900)
SLO: Final = Stream(name="SLO", subjects=("slo.>",), max_age_s=86_400)
STREAMS: Final = (COMMANDS, SLICES, NODES, TELEMETRY, SLO)

STATE_BUCKET: Final = "mica"
POLICY_BUCKET: Final = "policy"
POLICY_VERSIONS: Final = 64
"""How many versions of a policy are kept: the most that a JetStream bucket can."""


def _command(event: type[commands.Command], subject: str) -> Channel:
    return Channel(event=event, subject=subject, key="", stream=COMMANDS.name, publisher="anyone")


def _slice(event: type[facts.Fact], subject: str, publisher: str, key: str = "id") -> Channel:
    return Channel(event=event, subject=subject, key=key, stream=SLICES.name, publisher=publisher)


CHANNELS: Final = (
    _command(commands.RequestSlice, "slice.request"),
    _command(commands.ReleaseSlice, "slice.release"),
    _command(commands.ResizeSlice, "slice.resize"),
    _command(commands.ControlSlice, "slice.control"),
    _command(commands.MoveSlice, "slice.move"),
    _command(commands.EvictSlice, "slice.evict"),
    _command(commands.SuspendSlice, "slice.suspend"),
    _command(commands.ResumeSlice, "slice.resume"),
    _command(commands.ExplainSlice, "slice.explain"),
    _command(commands.RepackPool, "slice.repack"),
    _command(commands.RightsizeSlices, "slice.rightsize"),
    _slice(facts.SlicePlaced, "slice.placed", "planner"),
    _slice(facts.SliceQueued, "slice.queued", "planner"),
    _slice(facts.SliceRejected, "slice.rejected", "planner"),
    _slice(facts.SliceFailed, "slice.failed", "planner"),
    _slice(facts.SliceLost, "slice.lost", "planner"),
    _slice(facts.SliceRefused, "slice.refused", "planner", key="sequence"),
    _slice(facts.SliceExplained, "slice.explained", "planner", key="sequence"),
    _slice(facts.PoolRepacked, "slice.repacked", "planner", key="about"),
    _slice(facts.SlicesRightsized, "slice.rightsized", "planner", key="about"),
    _slice(facts.SliceReady, "slice.ready", "enforcer"),
    _slice(facts.SliceResized, "slice.resized", "enforcer"),
    _slice(facts.SliceAsked, "slice.asked", "enforcer"),
    _slice(facts.SliceSuspended, "slice.suspended", "enforcer"),
    _slice(facts.SliceResumed, "slice.resumed", "enforcer"),
    _slice(facts.SliceReleased, "slice.released", "enforcer"),
    _slice(facts.SliceEvicted, "slice.evicted", "enforcer"),
    _slice(facts.SliceAttached, "slice.attached", "enforcer"),
    _slice(facts.SliceOverran, "slice.overran", "enforcer"),
    _slice(facts.SliceIntruder, "slice.intruder", "enforcer", key="node"),
    Channel(event=facts.NodeInventoryChanged, subject="node.inventory", key="node", stream="NODES", publisher="discovery"),
    Channel(event=facts.NodeHealthChanged, subject="node.health", key="node", stream="NODES", publisher="discovery"),
    Channel(
        event=figures.DeviceSampled,
        subject="telemetry.device",
        key="device_id",
        stream="TELEMETRY",
        publisher="telemetry",
        packed=True,
    ),
    Channel(
        event=figures.SliceSampled,
        subject="telemetry.slice",
        key="id",
        stream="TELEMETRY",
        publisher="telemetry",
        packed=True,
    ),
    Channel(event=figures.SloReported, subject="slo.report", key="id", stream="SLO", publisher="anyone"),
    Channel(event=figures.SloTripped, subject="slo.tripped", key="id", stream="SLO", publisher="gate"),
    Channel(event=figures.SloBreached, subject="slo.breached", key="id", stream="SLO", publisher="slo_guard"),
    Channel(event=figures.SloActed, subject="slo.action", key="id", stream="SLO", publisher="slo_guard"),
    Channel(event=figures.SloMeasured, subject="slo.measured", key="id", stream="SLO", publisher="slo_guard"),
    Channel(event=figures.SloIgnored, subject="slo.ignored", key="reason", stream="SLO", publisher="slo_guard"),
)

CHANNEL_OF: Final = {channel.event: channel for channel in CHANNELS}
CHANNEL_BY_SUBJECT: Final = {channel.subject: channel for channel in CHANNELS}


def channel_for(subject: str) -> Channel:
    """The channel whose events travel on ``subject``.

    Raises:
        KeyError: no event of mica travels there.
    """
    head = ".".join(subject.split(".", 2)[:2])
    return CHANNEL_BY_SUBJECT[head]


def subject_of(event: commands.Command | facts.Fact) -> str:
    """The full subject on which ``event`` is published."""
    channel = CHANNEL_OF[type(event)]
    return f"{channel.subject}.{getattr(event, channel.key)}" if channel.key else channel.subject
