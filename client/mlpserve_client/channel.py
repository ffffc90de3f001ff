"""Channel options, the same for both clients."""

OPTIONS: list[tuple[str, int | str]] = [
    # Sizes are the server's to limit: it says in GetModel what it takes, and requests are cut to that.
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    # Retries are the client's own: one clock, and only where they are safe.
    ("grpc.enable_retries", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2000),
    # A dead connection is noticed while a call waits on it; servers refuse pings that come more often.
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 10_000),
]
