// Calls as they arrive: headers, messages, room for them, and when they are Python's.
#pragma once

#include <string_view>

#include "state.h"

namespace wire::requests {

void on_header(State& state, Call& call, std::string_view name, std::string_view value);

// All headers are here.
void on_headers(State& state, Call& call);

void on_data(State& state, Call& call, std::string_view data);

// The caller has sent everything.
void on_end(State& state, Call& call);

// The stream has ended, or its connection.
void on_close(State& state, Call& call);

// Python lets go of a call: its bytes leave the room.
void let_go(State& state, Call& call);

// The wire answers a call itself, whatever it was doing.
void leave(State& state, Call& call);

// Python asks for a stream's next message.
void ask(State& state, Call& call);

// Hands over the messages of streams that were held back, where replies have been read since.
void resume(State& state);

// Decompresses a part of what waits for it; `most` bytes of output in all.
void inflate_some(State& state, std::size_t most);

// Ends the calls whose message does not arrive in time.
void sweep(State& state, double now);

}  // namespace wire::requests
