"""Makes the server hold the streams and buckets that ``mica.events`` describes. Invariant: running it twice changes nothing.

A bucket of an earlier mica that kept fewer versions is changed in place; what it holds stays.
"""

from nats.js import JetStreamContext
from nats.js.api import DiscardPolicy, KeyValueConfig, RetentionPolicy, StorageType, StreamConfig
from nats.js.errors import APIError, BadRequestError, NotFoundError

from mica.bus._errors import BusError
from mica.events import POLICY_BUCKET, POLICY_VERSIONS, STATE_BUCKET, STREAMS, Storage, Stream

MARKER_TTL_S = 3600.0
DUPLICATE_WINDOW_S = 120.0
STREAM_EXISTS = 10058
BUCKETS = {STATE_BUCKET: 1, POLICY_BUCKET: POLICY_VERSIONS}
"""How many versions of a key each bucket keeps."""


async def ensure(jetstream: JetStreamContext) -> None:
    """Create what is missing.

    Raises:
        BusError: the server has no JetStream, or holds a stream of the same name with other subjects.
    """
    for stream in STREAMS:
        await _ensure_stream(jetstream, stream)
    for bucket, kept in BUCKETS.items():
        await _ensure_bucket(jetstream, bucket, kept)


async def _ensure_stream(jetstream: JetStreamContext, stream: Stream) -> None:
    try:
        await jetstream.stream_info(stream.name)
    except NotFoundError:
        try:
            await jetstream.add_stream(_config(stream))
        except BadRequestError as error:
            if error.err_code != STREAM_EXISTS:
                raise BusError(f"stream {stream.name}: the server refuses it: {error.description}") from error


def _config(stream: Stream) -> StreamConfig:
    return StreamConfig(
        name=stream.name,
        subjects=list(stream.subjects),
        storage=StorageType.FILE if stream.storage is Storage.FILE else StorageType.MEMORY,
        retention=RetentionPolicy.WORK_QUEUE if stream.work_queue else RetentionPolicy.LIMITS,
        discard=DiscardPolicy.NEW if stream.discard_new else DiscardPolicy.OLD,
        max_age=stream.max_age_s,
        max_msgs=stream.max_messages or -1,
        duplicate_window=min(DUPLICATE_WINDOW_S, stream.max_age_s or DUPLICATE_WINDOW_S),
        allow_direct=True,
    )


async def _ensure_bucket(jetstream: JetStreamContext, bucket: str, kept: int) -> None:
    try:
        info = await jetstream.stream_info(f"KV_{bucket}")
        if 0 < info.config.max_msgs_per_subject < kept:
            await jetstream.update_stream(info.config, max_msgs_per_subject=kept)
    except NotFoundError:
        try:
            await jetstream.create_key_value(
                KeyValueConfig(bucket=bucket, history=kept, storage=StorageType.FILE, direct=True, limit_marker_ttl=MARKER_TTL_S)
            )
        except APIError as error:
            if error.err_code != STREAM_EXISTS:
                raise BusError(f"bucket {bucket}: the server refuses it: {error.description}") from error
