#include "replies.h"

#include <nghttp2/nghttp2.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <utility>
#include <vector>

#include "connection.h"
#include "requests.h"
#include "status.h"

namespace wire::replies {
namespace {

constexpr std::size_t kKeptReply = 512;
constexpr std::size_t kLongestMessage = 4096;  // of a status; it travels in a header

constexpr std::string_view kStatus = ":status";
constexpr std::string_view kContentType = "content-type";
constexpr std::string_view kGrpc = "application/grpc";
constexpr std::string_view kGrpcStatus = "grpc-status";
constexpr std::string_view kGrpcMessage = "grpc-message";

// nghttp2's interface predates const.
std::uint8_t* bytes_of(std::string_view text) {
  return reinterpret_cast<std::uint8_t*>(const_cast<char*>(text.data()));
}

// A header whose texts outlive the session.
nghttp2_nv lasting(std::string_view name, std::string_view value) {
  return {bytes_of(name), bytes_of(value), name.size(), value.size(),
          NGHTTP2_NV_FLAG_NO_COPY_NAME | NGHTTP2_NV_FLAG_NO_COPY_VALUE};
}

// A header that is copied, and not kept for later ones to refer to.
nghttp2_nv passing(std::string_view name, std::string_view value) {
  return {bytes_of(name), bytes_of(value), name.size(), value.size(), NGHTTP2_NV_FLAG_NO_INDEX};
}

// A call's status as headers; the texts live as long as this does.
class StatusHeaders {
 public:
  explicit StatusHeaders(const Call& call)
      : code_(std::to_string(call.status)), message_(percent_encode(call.status_message)) {
    headers_.push_back(passing(kGrpcStatus, code_));
    if (!message_.empty()) {
      headers_.push_back(passing(kGrpcMessage, message_));
    }
    for (const auto& [name, value] : call.trailing) {
      headers_.push_back(passing(name, value));
    }
  }

  [[nodiscard]] const std::vector<nghttp2_nv>& headers() const { return headers_; }

 private:
  std::string code_;
  std::string message_;
  std::vector<nghttp2_nv> headers_;
};

void submit_trailers(nghttp2_session* session, const Call& call) {
  if (call.status == kOk && call.trailing.empty()) {
    static const nghttp2_nv kOkHeader = lasting(kGrpcStatus, "0");
    nghttp2_submit_trailer(session, call.stream, &kOkHeader, 1);
  } else {
    const StatusHeaders status(call);
    nghttp2_submit_trailer(session, call.stream, status.headers().data(), status.headers().size());
  }
}

ssize_t take_out(nghttp2_session* session, std::int32_t, std::uint8_t* place, std::size_t room, std::uint32_t* flags,
                 nghttp2_data_source* source, void* user) {
  Call& call = *static_cast<Call*>(source->ptr);
  const std::size_t taken = std::min(room, call.out.size() - call.out_taken);
  if (taken != 0) {  // memcpy takes no null, not even for nothing
    std::memcpy(place, call.out.data() + call.out_taken, taken);
  }
  call.out_taken += taken;
  Connection& connection = *static_cast<Connection*>(user);
  connection.unsent_replies -= taken;
  connection.taken = true;
  if (call.out_taken == call.out.size()) {
    call.out.clear(kKeptReply);
    call.out_taken = 0;
    if (call.finished) {
      *flags |= NGHTTP2_DATA_FLAG_EOF | NGHTTP2_DATA_FLAG_NO_END_STREAM;
      submit_trailers(session, call);
    } else if (taken == 0) {
      return NGHTTP2_ERR_DEFERRED;
    }
  }
  return static_cast<ssize_t>(taken);
}

void add_message(Call& call, std::string_view message) {
  Connection& connection = *call.connection;
  if (connection.unsent_replies == 0) {
    connection.last_taken = now();
  }
  const auto size = static_cast<std::uint32_t>(message.size());
  const char prefix[] = {0, static_cast<char>(size >> 24), static_cast<char>(size >> 16), static_cast<char>(size >> 8),
                         static_cast<char>(size)};
  const std::size_t before = call.out.size();
  call.out.append(prefix, sizeof prefix);
  call.out.append(message);
  connection.unsent_replies += call.out.size() - before;
}

// Has what a call has to say sent: the response's headers the first time, what follows them later.
void submit(Call& call) {
  nghttp2_session* session = call.connection->session.get();
  if (call.responding) {
    nghttp2_session_resume_data(session, call.stream);
  } else {
    static const nghttp2_nv kHeaders[] = {lasting(kStatus, "200"), lasting(kContentType, kGrpc)};
    nghttp2_data_provider provider{};
    provider.source.ptr = &call;
    provider.read_callback = take_out;
    nghttp2_submit_response(session, call.stream, kHeaders, std::size(kHeaders), &provider);
    call.responding = true;
  }
  call.connection->mark();
}

void submit_status_only(Call& call) {
  nghttp2_session* session = call.connection->session.get();
  const StatusHeaders status(call);
  std::vector<nghttp2_nv> headers = {lasting(kStatus, "200"), lasting(kContentType, kGrpc)};
  headers.insert(headers.end(), status.headers().begin(), status.headers().end());
  nghttp2_submit_response(session, call.stream, headers.data(), headers.size(), nullptr);
  call.connection->mark();
}

void set_status(Call& call, int status, std::string_view message, Metadata trailing) {
  call.finished = true;
  call.status = status;
  call.status_message = message.substr(0, kLongestMessage);
  call.trailing = std::move(trailing);
  for (auto& [name, value] : call.trailing) {
    if (name.ends_with("-bin")) {
      value = base64_encode(value);
    }
  }
  if (call.responding) {
    submit(call);
  } else {
    submit_status_only(call);
  }
}

// A call that was answered well makes up for one that was cancelled, and for the pings beside it.
void credit(Connection& connection) {
  connection.of_use = true;
  connection.resets.give(1);
  connection.pings.give(2);
}

}  // namespace

void send(State& state, Call& call, std::string_view message) {
  const bool open = call.open && call.phase != Phase::kAnswered;
  requests::let_go(state, call);
  if (open) {
    call.phase = Phase::kAnswered;
    call.finished = true;
    add_message(call, message);
    submit(call);
    credit(*call.connection);
  }
}

void write(State&, Call& call, std::string_view message) {
  if (call.open && call.phase != Phase::kAnswered) {
    add_message(call, message);
    submit(call);
  }
}

void finish(State& state, Call& call, int status, std::string_view message, Metadata trailing) {
  const bool open = call.open && call.phase != Phase::kAnswered;
  requests::let_go(state, call);
  if (open) {
    call.phase = Phase::kAnswered;
    set_status(call, status, message, std::move(trailing));
    credit(*call.connection);
  }
}

void refuse(State& state, Call& call, int status, std::string_view message, Metadata trailing) {
  requests::leave(state, call);
  call.phase = Phase::kAnswered;
  set_status(call, status, message, std::move(trailing));
}

void refuse_http(State& state, Call& call, std::string_view status) {
  requests::leave(state, call);
  call.phase = Phase::kAnswered;
  call.finished = true;
  nghttp2_session* session = call.connection->session.get();
  const nghttp2_nv headers[] = {passing(kStatus, status), lasting("allow", "POST")};
  const std::size_t given = status == "405" ? 2 : 1;
  nghttp2_submit_response(session, call.stream, headers, given, nullptr);
  call.connection->mark();
}

}  // namespace wire::replies
