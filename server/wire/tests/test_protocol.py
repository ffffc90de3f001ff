"""gRPC over HTTP/2 as its specification has it, by a caller that also sends what no gRPC library would."""

import socket
import struct
import time
import zlib
from collections.abc import Iterator
from urllib.parse import unquote

import h2.errors
import pytest

from http2 import PREFACE, WAIT, Caller, frame, message
from served import BROKEN, COUNT, ECHO, FAIL, HELD, HOT, PIXELS, PREFIX, TALK, Served, serving

OK, RESOURCE_EXHAUSTED, UNIMPLEMENTED, INTERNAL = 0, 8, 12, 13
GOAWAY = 7


def gzip(payload: bytes) -> bytes:
    packer = zlib.compressobj(wbits=31)
    return packer.compress(payload) + packer.flush()


def test_an_answer_has_headers_message_and_trailers(served: Served) -> None:
    with Caller(served.address) as caller:
        answer = caller.call(ECHO, message(b"hello"))
        assert answer.headers == {":status": "200", "content-type": "application/grpc"}
        assert answer.data == message(b"hello")
        assert answer.trailers == {"grpc-status": "0"}
        assert answer.reset is None


def test_an_error_is_trailers_only(served: Served) -> None:
    with Caller(served.address) as caller:
        answer = caller.call(HOT, message(BROKEN))
        assert answer.headers is answer.trailers
        assert answer.headers[":status"] == "200"
        assert answer.headers["content-type"] == "application/grpc"
        assert answer.headers["grpc-message"] == "it is 100 %25 broken: %CE%A9"
        assert not answer.headers["detail-bin"].endswith("=")
        assert answer.data == b""


@pytest.mark.parametrize("kind", ["application/grpc", "application/grpc+proto", "application/grpc;charset=utf-8"])
def test_content_types_of_grpc(served: Served, kind: str) -> None:
    with Caller(served.address) as caller:
        assert caller.call(ECHO, message(b""), content_type=kind).status == OK


@pytest.mark.parametrize(
    "kind", [None, "", "text/html", "application/json", "application/grpc-web", "application/grpcx"]
)
def test_other_content_types_are_http_415(served: Served, kind: str | None) -> None:
    with Caller(served.address) as caller:
        assert caller.call(ECHO, message(b""), content_type=kind).headers == {":status": "415"}


def test_another_message_format_is_unimplemented(served: Served) -> None:
    with Caller(served.address) as caller:
        assert caller.call(ECHO, message(b""), content_type="application/grpc+json").status == UNIMPLEMENTED


@pytest.mark.parametrize("method", ["GET", "PUT", "OPTIONS"])
def test_other_http_methods_are_http_405(served: Served, method: str) -> None:
    with Caller(served.address) as caller:
        assert caller.call(ECHO, message(b""), method=method).headers == {":status": "405", "allow": "POST"}


def test_te_may_be_left_out(served: Served) -> None:
    with Caller(served.address) as caller:
        assert caller.call(ECHO, message(b""), te=None).status == OK


@pytest.mark.parametrize(
    ("timeout", "seconds"),
    [
        ("1H", 3600),
        ("2M", 120),
        ("3S", 3),
        ("4000m", 4),
        ("5000000u", 5),
        ("60000000n", 0.06),
        ("99999999H", 359_999_996_400),
    ],
)
def test_timeouts_of_every_unit(served: Served, timeout: str, seconds: float) -> None:
    with Caller(served.address) as caller:
        before = time.monotonic()
        assert caller.call(HOT, message(b"x"), grpc_timeout=timeout).status == OK
        slack = seconds * 1e-12
        assert before + seconds - slack <= served.objects[-1].deadline <= time.monotonic() + seconds + slack


@pytest.mark.parametrize("timeout", ["", "1", "S", "1s", "-1S", "1.5S", "123456789S", "1 S", "+1S", "1SS", "0x1S"])
def test_malformed_timeouts_are_internal(served: Served, timeout: str) -> None:
    with Caller(served.address) as caller:
        answer = caller.call(HOT, message(b"x"), grpc_timeout=timeout)
        assert answer.status == INTERNAL
        assert "is malformed: expected at most 8 digits" in answer.trailers["grpc-message"]


def test_a_timeout_that_has_passed_is_handed_over_as_such(served: Served) -> None:
    with Caller(served.address) as caller:
        caller.call(HOT, message(b"x"), grpc_timeout="0n")
        assert served.objects[-1].deadline <= served.objects[-1].arrived


def test_the_message_may_come_in_pieces(served: Served) -> None:
    with Caller(served.address) as caller:
        stream = caller.begin(HOT)
        for byte in message(b"piece by piece"):
            caller.send(stream, bytes([byte]))
        caller.send(stream, b"", end=True)
        assert caller.answer(stream).data == message(b"object:piece by piece")


def test_padding_is_no_part_of_the_message(served: Served) -> None:
    with Caller(served.address) as caller:
        stream = caller.begin(HOT)
        caller.h2.send_data(stream, message(b"padded"), end_stream=True, pad_length=200)
        caller.flush()
        assert caller.answer(stream).data == message(b"object:padded")


def test_trailers_of_a_request_end_it(served: Served) -> None:
    with Caller(served.address) as caller:
        stream = caller.begin(HOT)
        caller.send(stream, message(b"x"))
        caller.h2.send_headers(stream, [("checksum", "1"), ("traceparent", "late")], end_stream=True)
        caller.flush()
        assert caller.answer(stream).data == message(b"object:x")
        assert served.objects[-1].metadata == ()


@pytest.mark.parametrize(
    ("data", "status", "says"),
    [
        (b"", UNIMPLEMENTED, "none was sent"),
        (b"\0\0\0", INTERNAL, "ended within the message"),
        (message(b"abcdef")[:-1], INTERNAL, "ended within the message"),
        (message(b"one") + message(b"two"), UNIMPLEMENTED, "more than that was sent"),
        (message(b"one") + b"\0", UNIMPLEMENTED, "more than that was sent"),
        (message(b"one", flag=1), INTERNAL, "compression flag"),
        (message(b"one", flag=2), INTERNAL, "compression flag"),
    ],
)
@pytest.mark.parametrize("path", [HOT, ECHO])
def test_bodies_that_are_not_one_message(served: Served, path: str, data: bytes, status: int, says: str) -> None:
    with Caller(served.address) as caller:
        answer = caller.call(path, data)
        assert answer.status == status
        assert says in answer.trailers["grpc-message"]
        assert caller.call(ECHO, message(b"after")).status == OK


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (message(b"abcdef")[:-1], INTERNAL),
        (message(b"one", flag=1), INTERNAL),
        (message(b"x" * 20_000), RESOURCE_EXHAUSTED),
    ],
)
def test_streams_that_are_not_messages(served: Served, data: bytes, status: int) -> None:
    with Caller(served.address) as caller:
        stream = caller.begin(TALK)
        caller.send(stream, message(b"good"))
        caller.send(stream, data, end=True)
        answer = caller.answer(stream)
        assert answer.status == status
        assert answer.data == message(b"heard good")


def test_compressed_messages(served: Served) -> None:
    with Caller(served.address) as caller:
        for encoding, packed in (("gzip", gzip(b"text" * 1000)), ("deflate", zlib.compress(b"text" * 1000))):
            answer = caller.call(HOT, message(packed, flag=1), grpc_encoding=encoding)
            assert answer.data == message(b"object:" + b"text" * 1000)
            assert caller.call(HOT, message(b"not", flag=0), grpc_encoding=encoding).data == message(b"object:not")
        assert caller.call(HOT, message(b"as it is"), grpc_encoding="identity").data == message(b"object:as it is")


def test_an_empty_compressed_message(served: Served) -> None:
    with Caller(served.address) as caller:
        assert caller.call(HOT, message(gzip(b""), flag=1), grpc_encoding="gzip").data == message(b"object:")


@pytest.mark.parametrize(
    "packed",
    [
        b"",
        b"garbage",
        gzip(b"text" * 99)[:-5],
        gzip(b"text" * 99) + b"more",
        zlib.compress(b"text"),
        gzip(b"a") + gzip(b"b"),
    ],
)
def test_what_cannot_be_decompressed_is_internal(served: Served, packed: bytes) -> None:
    with Caller(served.address) as caller:
        answer = caller.call(HOT, message(packed, flag=1), grpc_encoding="gzip")
        assert answer.status == INTERNAL
        assert answer.trailers["grpc-message"] == "the message cannot be decompressed"


def test_an_unknown_encoding_is_unimplemented(served: Served) -> None:
    with Caller(served.address) as caller:
        answer = caller.call(HOT, message(b"x", flag=1), grpc_encoding="snappy")
        assert answer.status == UNIMPLEMENTED
        assert answer.trailers["grpc-accept-encoding"] == "identity,deflate,gzip"


def test_binary_metadata(served: Served) -> None:
    with Caller(served.address) as caller:
        more = (("one-bin", "AAH/"), ("two-bin", "AAE="), ("three-bin", "AAE,AAEC"), ("four-bin", ""))
        assert caller.call(ECHO, message(b""), *more).status == OK
        three = (("three-bin", b"\0\1"), ("three-bin", b"\0\1\2"))
        assert served.metadata == (("one-bin", b"\0\1\xff"), ("two-bin", b"\0\1"), *three, ("four-bin", b""))
        assert caller.call(ECHO, message(b""), ("bad-bin", "A*")).status == INTERNAL


def test_an_early_answer_stops_the_caller(served: Served) -> None:
    with Caller(served.address) as caller:
        stream = caller.begin("/no/method")
        answer = caller.answer(stream)
        assert answer.status == UNIMPLEMENTED
        caller.read_until(lambda: answer.reset is not None)
        assert answer.reset == h2.errors.ErrorCodes.NO_ERROR


def test_a_long_path_is_not_repeated(served: Served) -> None:
    with Caller(served.address) as caller:
        answer = caller.call("/%" + "x" * 5000, message(b""))
        assert answer.status == UNIMPLEMENTED
        assert unquote(answer.trailers["grpc-message"]).startswith("there is no method /%xxx")
        assert len(answer.trailers["grpc-message"]) < 300


def test_a_path_that_http_forbids_ends_its_call_only(served: Served) -> None:
    with Caller(served.address) as caller:
        stream = caller.begin("/\xfc\t")
        assert caller.answer(stream).reset == h2.errors.ErrorCodes.PROTOCOL_ERROR
        assert caller.call(ECHO, message(b"")).status == OK


def test_metadata_beyond_the_limit(served: Served) -> None:
    with Caller(served.address) as caller:
        assert caller.call(ECHO, message(b""), ("key", "v" * 15_000)).status == OK
        answer = caller.call(ECHO, message(b""), ("key", "v" * 16_384))
        assert answer.status == RESOURCE_EXHAUSTED
        assert "metadata is larger than 16384 bytes" in answer.trailers["grpc-message"]
        assert caller.call(ECHO, message(b"")).status == OK


def test_a_reset_call_is_gone(served: Served) -> None:
    with Caller(served.address) as caller:
        stream = caller.begin(HOT)
        caller.send(stream, message(HELD), end=True)
        served.wait_for(lambda: served.held)
        number = served.held[-1].number
        caller.h2.reset_stream(stream, h2.errors.ErrorCodes.CANCEL)
        caller.flush()
        served.wait_for(lambda: number in served.gone)
        served.release()


def test_calls_of_a_closed_connection_are_gone(served: Served) -> None:
    with Caller(served.address) as caller:
        for _ in range(3):
            caller.send(caller.begin(HOT), message(HELD), end=True)
        served.wait_for(lambda: len(served.held) == 3)
        numbers = {call.number for call in served.held}
    served.wait_for(lambda: numbers <= set(served.gone))
    served.release()


def test_http_1_is_told(served: Served) -> None:
    with socket.create_connection(("127.0.0.1", served.port), timeout=WAIT) as plain:
        plain.sendall(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n")
        answer = b"".join(iter(lambda: plain.recv(4096), b""))
        assert answer.startswith(b"HTTP/1.1 505 ")
        assert b"gRPC over HTTP/2" in answer


@pytest.mark.parametrize(
    "garbage", [b"\x16\x03\x01\x02\x00\x01" * 50, bytes(100), PREFACE[:-1] + b"x", PREFACE + bytes(99)]
)
def test_garbage_ends_the_connection(served: Served, garbage: bytes) -> None:
    with socket.create_connection(("127.0.0.1", served.port), timeout=WAIT) as plain:
        plain.sendall(garbage)
        try:
            while plain.recv(4096):
                pass
        except ConnectionResetError:
            pass


def test_the_preface_may_come_in_pieces(served: Served) -> None:
    with socket.create_connection(("127.0.0.1", served.port), timeout=WAIT) as plain:
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in PREFACE + frame(4, 0, 0):
            plain.sendall(bytes([byte]))
            time.sleep(0.001)
        received = b""
        while frame(4, 1, 0) not in received:  # the acknowledgement of the settings
            received += plain.recv(4096)
            assert received


def test_draining_lets_calls_end() -> None:
    with serving() as served, Caller(served.address) as caller:
        caller.send(caller.begin(HOT), message(HELD), end=True)
        served.wait_for(lambda: served.held)
        served.wire.drain(WAIT)
        caller.send(caller.begin(ECHO), message(b"late"), end=True)  # on its way when the notice comes
        received = b""
        while received.count(b"late") == 0 or len(list(_of_kind(received, GOAWAY))) < 2:
            received += caller.socket.recv(4096)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", served.port), timeout=WAIT)
        served.release()
        received += b"".join(iter(lambda: caller.socket.recv(4096), b""))
        assert b"released" in received
        notice, end = _of_kind(received, GOAWAY)
        assert notice == struct.pack(">II", 2**31 - 1, 0)
        assert end == struct.pack(">II", 3, 0)


def _of_kind(received: bytes, wanted: int) -> Iterator[bytes]:
    """The payloads of whole frames of one kind."""
    while len(received) >= 9:
        size = int.from_bytes(received[:3], "big")
        if received[3] == wanted and len(received) >= 9 + size:
            yield received[9 : 9 + size]
        received = received[9 + size :]


def test_draining_cuts_off_what_does_not_end() -> None:
    with serving() as served, Caller(served.address) as caller:
        caller.send(caller.begin(HOT), message(HELD), end=True)
        served.wait_for(lambda: served.held)
        served.wire.drain(0.3)
        caller.read_to_the_end()


def test_replies_follow_the_callers_window(served: Served) -> None:
    with Caller(served.address) as caller:
        caller.h2.update_settings({4: 10})
        caller.flush()
        answer = caller.call(COUNT, message(b"300"))
        assert answer.data == b"".join(message(b"%d" % number) for number in range(300))
        assert answer.trailers["counted"] == "all"


def test_a_status_beyond_the_known_ones(served: Served) -> None:
    with Caller(served.address) as caller:
        assert caller.call(FAIL, message(b"99")).status == 99


def test_rows_and_objects_on_one_connection(served: Served) -> None:
    with Caller(served.address) as caller:
        streams = []
        for number in range(50):
            stream = caller.begin(HOT)
            caller.send(stream, message(PREFIX + bytes([number]) * PIXELS if number % 2 else b"%d" % number), end=True)
            streams.append(stream)
        for number, stream in enumerate(streams):
            wanted = bytes([number * PIXELS % 256]) if number % 2 else b"object:%d" % number
            assert caller.answer(stream).data == message(wanted)
