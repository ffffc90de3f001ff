"""Settings that every transport has."""

MAX_HEADER_BYTES = 16384  # of one call's metadata
KEEPALIVE_SECONDS = 60  # of silence on a connection before the caller is asked whether it is there
HANDSHAKE_SECONDS = 10
LOOK_SECONDS = 0.25  # between two looks at the port and at messages that do not arrive
