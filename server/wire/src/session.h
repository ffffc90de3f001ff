// HTTP/2 by nghttp2: what its callbacks do with frames.
#pragma once

#include "connection.h"

namespace wire {

// A session for a connection whose handshake is done, with this side's settings submitted.
Session make_session(Connection& connection);

}  // namespace wire
