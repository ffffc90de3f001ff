#include "session.h"

#include <array>
#include <new>

#include "replies.h"
#include "requests.h"

namespace wire {
namespace {

constexpr std::int32_t kConnectionWindow = 1 << 30;  // the windows of streams are what holds callers back
constexpr std::uint64_t kNoRate = 1U << 30;          // this side counts resets itself, and says what is allowed

Connection& connection_of(void* user) {
  return *static_cast<Connection*>(user);
}

Call* call_of(nghttp2_session* session, std::int32_t stream) {
  return static_cast<Call*>(nghttp2_session_get_stream_user_data(session, stream));
}

void calm(Connection& connection) {
  count(connection.state.counters.floods);
  connection.terminate(NGHTTP2_ENHANCE_YOUR_CALM);
}

int on_begin_frame(nghttp2_session*, const nghttp2_frame_hd* header, void* user) {
  Connection& connection = connection_of(user);
  connection.block_bytes = 0;
  bool allowed = true;
  switch (header->type) {
    case NGHTTP2_DATA:
      allowed =
          header->length != 0 || (header->flags & NGHTTP2_FLAG_END_STREAM) != 0 || connection.empty_frames.take(now());
      break;
    case NGHTTP2_PING:
      allowed = (header->flags & NGHTTP2_FLAG_ACK) != 0 || connection.pings.take(now());
      break;
    case NGHTTP2_RST_STREAM:
      allowed = connection.resets.take(now());
      break;
    case NGHTTP2_HEADERS:
    case NGHTTP2_WINDOW_UPDATE:
    case NGHTTP2_GOAWAY:
      break;
    default:
      allowed = connection.empty_frames.take(now());
  }
  if (!allowed) {
    calm(connection);
  }
  return 0;
}

int on_begin_headers(nghttp2_session* session, const nghttp2_frame* frame, void* user) {
  Connection& connection = connection_of(user);
  if (frame->headers.cat != NGHTTP2_HCAT_REQUEST) {
    return 0;
  }
  // Whoever resets calls and makes others has them counted until Python has let go of them.
  Call* call = connection.owed < connection.state.limits.max_streams ? connection.state.calls.acquire() : nullptr;
  if (call == nullptr) {
    nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, frame->hd.stream_id, NGHTTP2_REFUSED_STREAM);
    return 0;
  }
  call->connection = &connection;
  call->stream = frame->hd.stream_id;
  call->open = true;
  connection.calls.push_back(call);
  nghttp2_session_set_stream_user_data(session, frame->hd.stream_id, call);
  return 0;
}

int on_header(nghttp2_session* session, const nghttp2_frame* frame, const std::uint8_t* name, std::size_t name_size,
              const std::uint8_t* value, std::size_t value_size, std::uint8_t, void* user) {
  Call* call = call_of(session, frame->hd.stream_id);
  if (call != nullptr) {
    requests::on_header(connection_of(user).state, *call, {reinterpret_cast<const char*>(name), name_size},
                        {reinterpret_cast<const char*>(value), value_size});
  }
  return 0;
}

int on_frame(nghttp2_session* session, const nghttp2_frame* frame, void* user) {
  if (frame->hd.type != NGHTTP2_HEADERS && frame->hd.type != NGHTTP2_DATA) {
    return 0;
  }
  Call* call = call_of(session, frame->hd.stream_id);
  if (call == nullptr) {
    return 0;
  }
  State& state = connection_of(user).state;
  const bool ends = (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;
  call->ended = call->ended || ends;
  if (frame->hd.type == NGHTTP2_HEADERS && frame->headers.cat == NGHTTP2_HCAT_REQUEST) {
    requests::on_headers(state, *call);
  }
  if (ends) {
    requests::on_end(state, *call);
  }
  return 0;
}

int on_data(nghttp2_session* session, std::uint8_t, std::int32_t stream, const std::uint8_t* data, std::size_t size,
            void* user) {
  Connection& connection = connection_of(user);
  connection.block_bytes = 0;
  const std::string_view chunk(reinterpret_cast<const char*>(data), size);
  connection.data_end = static_cast<std::size_t>(chunk.end() - connection.being_read.begin());
  nghttp2_session_consume_connection(session, size);
  if (Call* call = call_of(session, stream); call != nullptr) {
    requests::on_data(connection.state, *call, chunk);
  }
  return 0;
}

// A caller that has been answered before it had sent everything is told that it need not. Not before the answer has
// left: from then on nghttp2 sends nothing more for the stream.
int on_frame_sent(nghttp2_session* session, const nghttp2_frame* frame, void*) {
  if (frame->hd.type == NGHTTP2_HEADERS && (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0) {
    if (const Call* call = call_of(session, frame->hd.stream_id); call != nullptr && !call->ended) {
      nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, frame->hd.stream_id, NGHTTP2_NO_ERROR);
    }
  }
  return 0;
}

int on_invalid_frame(nghttp2_session*, const nghttp2_frame*, int, void* user) {
  // nghttp2 resets the stream, which costs as much as if the caller had.
  Connection& connection = connection_of(user);
  if (!connection.resets.take(now())) {
    calm(connection);
  }
  return 0;
}

int on_stream_close(nghttp2_session* session, std::int32_t stream, std::uint32_t, void* user) {
  Connection& connection = connection_of(user);
  if (Call* call = call_of(session, stream); call != nullptr) {
    requests::on_close(connection.state, *call);
    connection.last_call = now();
    if (connection.of_use) {
      connection.of_use = false;
      connection.last_answered = connection.last_call;
    }
  }
  return 0;
}

template <typename Type, void (*kDelete)(Type*)>
struct Deleter {
  void operator()(Type* thing) const { kDelete(thing); }
};

nghttp2_session_callbacks* callbacks() {
  static const auto kCallbacks = [] {
    nghttp2_session_callbacks* made = nullptr;
    if (nghttp2_session_callbacks_new(&made) != 0) {
      throw std::bad_alloc();
    }
    nghttp2_session_callbacks_set_on_begin_frame_callback(made, on_begin_frame);
    nghttp2_session_callbacks_set_on_begin_headers_callback(made, on_begin_headers);
    nghttp2_session_callbacks_set_on_header_callback(made, on_header);
    nghttp2_session_callbacks_set_on_frame_recv_callback(made, on_frame);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(made, on_data);
    nghttp2_session_callbacks_set_on_frame_send_callback(made, on_frame_sent);
    nghttp2_session_callbacks_set_on_invalid_frame_recv_callback(made, on_invalid_frame);
    nghttp2_session_callbacks_set_on_stream_close_callback(made, on_stream_close);
    return std::unique_ptr<nghttp2_session_callbacks,
                           Deleter<nghttp2_session_callbacks, nghttp2_session_callbacks_del>>(made);
  }();
  return kCallbacks.get();
}

nghttp2_option* options() {
  static const auto kOptions = [] {
    nghttp2_option* made = nullptr;
    if (nghttp2_option_new(&made) != 0) {
      throw std::bad_alloc();
    }
    nghttp2_option_set_no_auto_window_update(made, 1);
    nghttp2_option_set_no_closed_streams(made, 1);
    // gRPC has values with spaces around them tolerated.
    nghttp2_option_set_no_rfc9113_leading_and_trailing_ws_validation(made, 1);
    nghttp2_option_set_stream_reset_rate_limit(made, kNoRate, kNoRate);
    return std::unique_ptr<nghttp2_option, Deleter<nghttp2_option, nghttp2_option_del>>(made);
  }();
  return kOptions.get();
}

}  // namespace

Session make_session(Connection& connection) {
  nghttp2_session* made = nullptr;
  if (nghttp2_session_server_new2(&made, callbacks(), &connection, options()) != 0) {
    throw std::bad_alloc();
  }
  Session session(made);
  const Limits& limits = connection.state.limits;
  const std::array<nghttp2_settings_entry, 4> settings = {{
      {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, static_cast<std::uint32_t>(limits.max_streams)},
      {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, static_cast<std::uint32_t>(limits.window)},
      {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, static_cast<std::uint32_t>(limits.max_header_bytes)},
      // Priorities of streams would cost more than they could bring.
      {NGHTTP2_SETTINGS_NO_RFC7540_PRIORITIES, 1},
  }};
  if (nghttp2_submit_settings(made, NGHTTP2_FLAG_NONE, settings.data(), settings.size()) != 0 ||
      nghttp2_session_set_local_window_size(made, NGHTTP2_FLAG_NONE, 0, kConnectionWindow) != 0) {
    throw std::bad_alloc();
  }
  return session;
}

}  // namespace wire
