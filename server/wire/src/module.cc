// The module's Python side: what it takes, what it returns. Types and docstrings are in mlpserve_wire/_native.pyi.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>
#include <nghttp2/nghttp2.h>
#include <openssl/crypto.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "clock.h"
#include "reactor.h"
#include "replies.h"
#include "requests.h"

namespace nb = nanobind;

namespace wire {
namespace {

std::string bytes_of(const nb::bytes& bytes) {
  return {bytes.c_str(), bytes.size()};
}

template <typename Number>
Number number_of(const nb::handle& settings, const char* name) {
  return nb::cast<Number>(settings.attr(name));
}

Limits limits_of(const nb::handle& settings) {
  const auto size = [&settings](const char* name) { return number_of<std::size_t>(settings, name); };
  const auto real = [&settings](const char* name) { return number_of<double>(settings, name); };
  return {
      .max_connections = size("max_connections"),
      .max_streams = size("max_streams"),
      .max_header_bytes = size("max_header_bytes"),
      .room = size("room"),
      .room_of_one = size("room_of_one"),
      .unsent_of_one = size("unsent_of_one"),
      .window = size("window"),
      .max_waiting = size("max_waiting"),
      .handshake_seconds = real("handshake_seconds"),
      .message_seconds = real("message_seconds"),
      .pressed_seconds = real("pressed_seconds"),
      .newcomer_seconds = real("newcomer_seconds"),
      .stalled_seconds = real("stalled_seconds"),
      .idle_seconds = real("idle_seconds"),
      .age_seconds = real("age_seconds"),
      .grace_seconds = real("grace_seconds"),
      .keepalive_seconds = real("keepalive_seconds"),
      .keepalive_timeout = real("keepalive_timeout"),
      .pings_per_minute = real("pings_per_minute"),
      .resets_per_minute = real("resets_per_minute"),
      .empty_frames_per_minute = real("empty_frames_per_minute"),
  };
}

std::vector<Method> methods_of(const nb::list& described) {
  std::vector<Method> methods;
  for (const nb::handle method : described) {
    const auto kind = nb::cast<std::string>(method.attr("kind").attr("value"));
    methods.push_back({
        .path = nb::cast<std::string>(method.attr("path")),
        .kind =
            kind == "hot" ? Method::Kind::kHot : (kind == "control" ? Method::Kind::kControl : Method::Kind::kStream),
        .max_message = number_of<std::size_t>(method, "max_message"),
        .open = nb::cast<bool>(method.attr("open")),
        .index = static_cast<int>(methods.size()),
    });
  }
  return methods;
}

// An array that owns what it is of.
template <typename Number, typename... Shape>
nb::object array_of(std::vector<Number> numbers) {
  auto owned = std::make_unique<std::vector<Number>>(std::move(numbers));
  Number* const data = owned->data();
  const std::size_t size = owned->size();
  const nb::capsule owner(owned.release(), [](void* kept) noexcept { delete static_cast<std::vector<Number>*>(kept); });
  return nb::cast(nb::ndarray<nb::numpy, Number, nb::ndim<1>>(data, {size}, owner));
}

nb::object rows_of(Buffer bytes, std::size_t width) {
  auto owned = std::make_unique<Buffer>(std::move(bytes));
  const std::size_t count = owned->size() / width;
  char* const data = const_cast<char*>(owned->data());
  const nb::capsule owner(owned.release(), [](void* kept) noexcept { delete static_cast<Buffer*>(kept); });
  return nb::cast(nb::ndarray<nb::numpy, std::uint8_t, nb::ndim<2>>(data, {count, width}, owner));
}

nb::bytes payload_of(const HandedCall& call) {
  return nb::bytes(call.payload.data(), call.payload.size());
}

nb::tuple metadata_of(const HandedCall& call) {
  nb::list pairs;
  for (const auto& [name, value] : call.metadata) {
    nb::object text;
    if (name.ends_with("-bin")) {
      text = nb::bytes(value.data(), value.size());
    } else {
      text = nb::steal(PyUnicode_DecodeLatin1(value.data(), static_cast<Py_ssize_t>(value.size()), nullptr));
    }
    pairs.append(nb::make_tuple(nb::str(name.data(), name.size()), text));
  }
  return nb::tuple(pairs);
}

struct PyCall {
  std::uint64_t number;
  std::uint64_t caller;
  int method;
  nb::bytes payload;
  nb::tuple metadata;
  double arrived;
  double deadline;
  nb::bytes bearer;
};

struct PyColumn {
  int method;
  nb::bytes prefix;
  nb::bytes bearer;
  nb::object pixels;
  nb::object numbers;
  nb::object callers;
  nb::object arrived;
  nb::object deadlines;
};

struct PyArrived {
  nb::list items;
  nb::object gone;
};

struct PyEvent {
  std::string kind;
  PyCall call;
};

PyCall to_python(const HandedCall& call) {
  return {call.number,       call.caller,  call.method,   payload_of(call),
          metadata_of(call), call.arrived, call.deadline, nb::bytes(call.bearer.data(), call.bearer.size())};
}

// A column of one row takes longer to make, and to work with, than an object.
PyCall to_python_alone(const Column& column) {
  const std::string& prefix = column.format->prefix;
  nb::bytes payload = nb::steal<nb::bytes>(
      PyBytes_FromStringAndSize(nullptr, static_cast<Py_ssize_t>(prefix.size() + column.pixels.size())));
  if (!payload.is_valid()) {
    throw std::bad_alloc();
  }
  char* const place = PyBytes_AS_STRING(payload.ptr());
  std::copy(prefix.begin(), prefix.end(), place);
  std::memcpy(place + prefix.size(), column.pixels.data(), column.pixels.size());
  return {column.numbers[0],     column.callers[0],
          column.format->method, std::move(payload),
          nb::tuple(),           column.arrived[0],
          column.deadlines[0],   nb::bytes(column.bearer.data(), column.bearer.size())};
}

PyColumn to_python(Column&& column) {
  const std::size_t width = column.format->pixels;
  const std::string& prefix = column.format->prefix;
  return {column.format->method,
          nb::bytes(prefix.data(), prefix.size()),
          nb::bytes(column.bearer.data(), column.bearer.size()),
          rows_of(std::move(column.pixels), width),
          array_of(std::move(column.numbers)),
          array_of(std::move(column.callers)),
          array_of(std::move(column.arrived)),
          array_of(std::move(column.deadlines))};
}

const char* name_of(Event::Kind kind) {
  switch (kind) {
    case Event::Kind::kCall:
      return "call";
    case Event::Kind::kMessage:
      return "message";
    case Event::Kind::kEnd:
      return "end";
    case Event::Kind::kGone:
      return "gone";
  }
  return "";
}

Metadata trailing_of(const nb::iterable& pairs) {
  Metadata trailing;
  for (const nb::handle pair : pairs) {
    const auto name = nb::cast<std::string>(pair[0]);
    if (nb::isinstance<nb::bytes>(pair[1])) {
      trailing.emplace_back(name, bytes_of(nb::borrow<nb::bytes>(pair[1])));
    } else {
      trailing.emplace_back(name, nb::cast<std::string>(pair[1]));
    }
  }
  return trailing;
}

class Wire {
 public:
  Wire(const nb::object& limits, const nb::list& methods, std::vector<std::string> telling, double takeover)
      : reactor_(limits_of(limits), methods_of(methods), takeover) {
    reactor_.state().telling = std::move(telling);
  }

  void listen(int descriptor) { reactor_.listen(descriptor); }

  void set_tls(const nb::bytes& certificates, const nb::bytes& key, const nb::bytes& authorities) {
    TlsContext context = make_tls_context(bytes_of(certificates), bytes_of(key), bytes_of(authorities));
    perform([this, context = std::move(context)] { state().tls = context; });
  }

  void set_tokens(const std::optional<std::vector<nb::bytes>>& digests) {
    std::shared_ptr<const Tokens> tokens;
    if (digests) {
      std::vector<std::string> copied;
      for (const nb::bytes& digest : *digests) {
        copied.push_back(bytes_of(digest));
      }
      tokens = std::make_shared<const Tokens>(copied);
    }
    perform([this, tokens = std::move(tokens)] { state().tokens = tokens; });
  }

  void set_plain(const nb::list& formats) {
    std::vector<std::shared_ptr<const PlainFormat>> plain;
    for (const nb::handle format : formats) {
      plain.push_back(std::make_shared<const PlainFormat>(
          PlainFormat{number_of<int>(format, "method"), bytes_of(nb::cast<nb::bytes>(format.attr("prefix"))),
                      number_of<std::size_t>(format, "pixels")}));
    }
    perform([this, plain = std::move(plain)] { state().plain = plain; });
  }

  void set_no_room(const std::string& message, const nb::iterable& trailing) {
    perform([this, message, given = trailing_of(trailing)] {
      state().no_room = message;
      state().no_room_trailing = given;
    });
  }

  void start() { reactor_.start(); }

  PyArrived receive(double seconds) {
    Arrived arrived;
    {
      const nb::gil_scoped_release released;
      arrived = reactor_.receive(seconds);
    }
    PyArrived result{nb::list(), array_of(std::move(arrived.gone))};
    for (auto& item : arrived.items) {
      if (const auto* const call = std::get_if<HandedCall>(&item)) {
        result.items.append(to_python(*call));
      } else if (auto& column = std::get<Column>(item); column.numbers.size() == 1) {
        result.items.append(to_python_alone(column));
      } else {
        result.items.append(to_python(std::move(column)));
      }
    }
    return result;
  }

  void nudge() { reactor_.nudge(); }

  nb::list events(double seconds) {
    std::vector<Event> events;
    {
      const nb::gil_scoped_release released;
      events = state().inbox.take_events(seconds);
    }
    nb::list result;
    for (const Event& event : events) {
      result.append(PyEvent{name_of(event.kind), to_python(event.call)});
    }
    return result;
  }

  using Numbers = nb::ndarray<const std::uint64_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
  using Rows = nb::ndarray<const std::uint8_t, nb::ndim<2>, nb::c_contig, nb::device::cpu>;

  double send_rows(const Numbers& numbers, const Rows& rows) {
    if (numbers.shape(0) != rows.shape(0)) {
      throw std::invalid_argument("there must be one row for each number");
    }
    const std::size_t width = rows.shape(1);
    auto copied = std::make_shared<std::pair<std::vector<std::uint64_t>, std::string>>(
        std::vector<std::uint64_t>(numbers.data(), numbers.data() + numbers.shape(0)),
        std::string(reinterpret_cast<const char*>(rows.data()), rows.shape(0) * width));
    return perform_sending([this, copied, width] {
      std::string_view left = copied->second;
      for (const std::uint64_t number : copied->first) {
        if (Call* call = state().calls.find(number)) {
          replies::send(state(), *call, left.substr(0, width));
        }
        left.remove_prefix(width);
      }
    });
  }

  double send(const std::vector<std::pair<std::uint64_t, std::string>>& answers) {
    return perform_sending([this, answers] {
      for (const auto& [number, message] : answers) {
        if (Call* call = state().calls.find(number)) {
          replies::send(state(), *call, message);
        }
      }
    });
  }

  double send_many(const nb::list& answers) {
    std::vector<std::pair<std::uint64_t, std::string>> copied;
    copied.reserve(answers.size());
    for (const nb::handle answer : answers) {
      copied.emplace_back(nb::cast<std::uint64_t>(answer[0]), bytes_of(nb::borrow<nb::bytes>(answer[1])));
    }
    return send(copied);
  }

  void write(std::uint64_t number, const nb::bytes& message) {
    perform([this, number, copied = bytes_of(message)] {
      if (Call* call = state().calls.find(number)) {
        replies::write(state(), *call, copied);
      }
    });
  }

  void finish(const std::vector<std::uint64_t>& numbers, int status, const std::string& message,
              const nb::iterable& trailing) {
    perform([this, numbers, status, message, given = trailing_of(trailing)] {
      for (const std::uint64_t number : numbers) {
        if (Call* call = state().calls.find(number)) {
          replies::finish(state(), *call, status, message, given);
        }
      }
    });
  }

  void ask(std::uint64_t number) {
    perform([this, number] {
      if (Call* call = state().calls.find(number); call != nullptr && call->open) {
        requests::ask(state(), *call);
      }
    });
  }

  nb::object alive(const Numbers& numbers) {
    const std::size_t size = numbers.shape(0);
    auto answers = std::make_unique<bool[]>(size);
    for (std::size_t place = 0; place < size; ++place) {
      answers[place] = state().calls.alive(numbers.data()[place]);
    }
    bool* const data = answers.release();
    const nb::capsule owner(data, [](void* kept) noexcept { delete[] static_cast<bool*>(kept); });
    return nb::cast(nb::ndarray<nb::numpy, bool, nb::ndim<1>>(data, {size}, owner));
  }

  bool is_alive(std::uint64_t number) { return state().calls.alive(number); }

  [[nodiscard]] double listened() const { return reactor_.listened(); }

  nb::dict counters() {
    const Counters& counters = state().counters;
    const std::pair<const char*, const std::atomic<std::uint64_t>&> named[] = {
        {"connections", counters.connections},
        {"accepted", counters.accepted},
        {"refused_connections", counters.refused_connections},
        {"failed_handshakes", counters.failed_handshakes},
        {"calls", counters.calls},
        {"cancelled", counters.cancelled},
        {"unauthenticated", counters.unauthenticated},
        {"too_large", counters.too_large},
        {"slow", counters.slow},
        {"unread", counters.unread},
        {"refused", counters.refused},
        {"floods", counters.floods},
        {"stalled", counters.stalled},
    };
    nb::dict result;
    for (const auto& [name, value] : named) {
      result[name] = value.load(std::memory_order_relaxed);
    }
    result["room_used"] = state().room.used();
    return result;
  }

  void drain(double grace) {
    const nb::gil_scoped_release released;
    reactor_.drain(grace);
  }

  void stop(double seconds) {
    const nb::gil_scoped_release released;
    reactor_.stop(seconds);
  }

 private:
  State& state() { return reactor_.state(); }

  template <typename Task>
  void perform(Task task) {
    const nb::gil_scoped_release released;
    reactor_.perform(std::move(task));
  }

  // When the last of what the task sends was given to a socket; the time now, if another thread sees to that.
  template <typename Task>
  double perform_sending(Task task) {
    const double begun = now();
    perform(std::move(task));
    const double written = state().written.load(std::memory_order_relaxed);
    return written >= begun ? written : now();
  }

  Reactor reactor_;
};

}  // namespace
}  // namespace wire

NB_MODULE(_native, module) {
  using namespace wire;
  nb::class_<PyCall>(module, "WireCall")
      .def_ro("number", &PyCall::number)
      .def_ro("caller", &PyCall::caller)
      .def_ro("method", &PyCall::method)
      .def_ro("payload", &PyCall::payload)
      .def_ro("metadata", &PyCall::metadata)
      .def_ro("arrived", &PyCall::arrived)
      .def_ro("deadline", &PyCall::deadline)
      .def_ro("bearer", &PyCall::bearer);
  nb::class_<PyColumn>(module, "Column")
      .def_ro("method", &PyColumn::method)
      .def_ro("prefix", &PyColumn::prefix)
      .def_ro("bearer", &PyColumn::bearer)
      .def_ro("pixels", &PyColumn::pixels)
      .def_ro("numbers", &PyColumn::numbers)
      .def_ro("callers", &PyColumn::callers)
      .def_ro("arrived", &PyColumn::arrived)
      .def_ro("deadlines", &PyColumn::deadlines);
  nb::class_<PyArrived>(module, "Arrived").def_ro("items", &PyArrived::items).def_ro("gone", &PyArrived::gone);
  nb::class_<PyEvent>(module, "Event").def_ro("kind", &PyEvent::kind).def_ro("call", &PyEvent::call);
  nb::class_<Wire>(module, "Wire")
      .def(nb::init<const nb::object&, const nb::list&, std::vector<std::string>, double>(), nb::arg("limits"),
           nb::arg("methods"), nb::kw_only(), nb::arg("telling"), nb::arg("takeover"))
      .def("listen", &Wire::listen, nb::arg("descriptor"))
      .def("set_tls", &Wire::set_tls, nb::arg("certificates"), nb::arg("key"), nb::arg("authorities"))
      .def("set_tokens", &Wire::set_tokens, nb::arg("digests").none())
      .def("set_plain", &Wire::set_plain, nb::arg("formats"))
      .def("set_no_room", &Wire::set_no_room, nb::arg("message"), nb::arg("trailing"))
      .def("start", &Wire::start)
      .def("receive", &Wire::receive, nb::arg("seconds"))
      .def("nudge", &Wire::nudge)
      .def("events", &Wire::events, nb::arg("seconds"))
      .def("send_rows", &Wire::send_rows, nb::arg("numbers"), nb::arg("rows"))
      .def("send", &Wire::send_many, nb::arg("answers"))
      .def("write", &Wire::write, nb::arg("number"), nb::arg("message"))
      .def("finish", &Wire::finish, nb::arg("numbers"), nb::arg("status"), nb::arg("message"), nb::arg("trailing"))
      .def("ask", &Wire::ask, nb::arg("number"))
      .def("alive", &Wire::alive, nb::arg("numbers"))
      .def("is_alive", &Wire::is_alive, nb::arg("number"))
      .def("listened", &Wire::listened)
      .def("counters", &Wire::counters)
      .def("drain", &Wire::drain, nb::arg("grace"))
      .def("stop", &Wire::stop, nb::arg("seconds"));
  module.def("versions", [] {
    nb::dict result;
    result["nghttp2"] = nghttp2_version(0)->version_str;
    result["openssl"] = OpenSSL_version(OPENSSL_VERSION_STRING);
    return result;
  });
}
