"""What callers may take, and what happens to those that want more."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """The limits of one `Wire`. Every default is safe for a port that strangers reach.

    **Room.** A message takes its bytes from `room` when its length is read, before its bytes arrive, and gives them
    back when its call has been answered. What fits into `window` has arrived by then: without room it is refused with
    RESOURCE_EXHAUSTED. A larger message waits for room, and HTTP/2's flow control holds its caller back; the
    connection that has least in memory goes first. Large messages may take three quarters of the room, `room_of_one` of
    it for one connection, so that they leave the small ones theirs. A message that does not arrive in time ends its
    call with DEADLINE_EXCEEDED: `message_seconds`, `pressed_seconds` while others wait, and `newcomer_seconds` where a
    connection waits that has nothing under way and this one has more than one message. So nobody starves for ever
    behind messages that are sent in halves.

    Attributes:
        max_connections: open ones. A further one takes the place of one that has not begun to speak, or else of the one
            that has been without calls and answers for longest (five seconds at least), and is hung up on where there
            is none.
        max_streams: calls on one connection; further ones wait at the caller.
        max_header_bytes: of one call's metadata; beyond it the call ends with RESOURCE_EXHAUSTED.
        room: bytes of request messages in memory, decompressed ones included.
        room_of_one: the same of one connection's large messages; it may always have one.
        unsent_of_one: bytes of replies that one connection has not read; beyond it further calls of it are refused with
            RESOURCE_EXHAUSTED.
        window: bytes of a message that may arrive before it has room.
        max_waiting: large messages that may wait for room; further ones are refused with RESOURCE_EXHAUSTED.
        handshake_seconds: from the connection to HTTP/2's first frame.
        message_seconds: for a message to arrive, or to get room.
        pressed_seconds: for a message to arrive while others wait for room.
        newcomer_seconds: the same where this connection has several messages under way, and one that waits has none.
        stalled_seconds: a connection ends whose caller reads none of what waits for it.
        idle_seconds: a connection without calls is ended; 0: never.
        age_seconds: callers are asked to connect anew; 0: never.
        grace_seconds: for the calls of a connection that has become too old.
        keepalive_seconds: of silence before a caller is asked whether it is there; 0: never.
        keepalive_timeout: for its answer.
        pings_per_minute: of one connection. A call that was answered makes up for two. Beyond it, as for the next two,
            the connection is ended with ENHANCE_YOUR_CALM.
        resets_per_minute: calls of one connection that its caller cancels. A call that was answered makes up for one.
        empty_frames_per_minute: frames of one connection that carry nothing: DATA without data, SETTINGS, PRIORITY,
            unknown ones.

    Raises:
        ValueError: a value cannot work.
    """

    max_connections: int = 4096
    max_streams: int = 1024
    max_header_bytes: int = 16 << 10
    room: int = 128 << 20
    room_of_one: int = 64 << 20
    unsent_of_one: int = 16 << 20
    window: int = 64 << 10
    max_waiting: int = 1024
    handshake_seconds: float = 10.0
    message_seconds: float = 30.0
    pressed_seconds: float = 5.0
    newcomer_seconds: float = 1.0
    stalled_seconds: float = 20.0
    idle_seconds: float = 0.0
    age_seconds: float = 0.0
    grace_seconds: float = 30.0
    keepalive_seconds: float = 60.0
    keepalive_timeout: float = 20.0
    pings_per_minute: float = 600.0
    resets_per_minute: float = 12_000.0
    empty_frames_per_minute: float = 6_000.0

    def __post_init__(self) -> None:
        for name, least in (("max_connections", 1), ("max_streams", 1), ("max_header_bytes", 1024), ("window", 1024)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}")
        if self.window > (1 << 31) - 1:
            raise ValueError("window must fit into 31 bits")
        if self.room < 8 * self.window:
            raise ValueError("room must hold at least eight windows, or calls could never be taken")
        negative = [name for name, value in vars(self).items() if value < 0]
        if negative:
            raise ValueError(f"{negative[0]} must not be negative")
