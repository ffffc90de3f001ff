// Answers: messages, statuses and what HTTP/2 makes of them.
#pragma once

#include <string>
#include <string_view>

#include "state.h"

namespace wire::replies {

// The one message of a unary call, with the status OK. Python no longer owes an answer.
void send(State& state, Call& call, std::string_view message);

// One of a stream's messages; more may follow.
void write(State& state, Call& call, std::string_view message);

// The status, after the messages if there are any. Python no longer owes an answer.
void finish(State& state, Call& call, int status, std::string_view message, Metadata trailing);

// A status by the wire itself, before Python has the call or while it has.
void refuse(State& state, Call& call, int status, std::string_view message, Metadata trailing = {});

// An HTTP status for what is not a call of gRPC's.
void refuse_http(State& state, Call& call, std::string_view status);

}  // namespace wire::replies
