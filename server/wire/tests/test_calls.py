"""Calls by grpcio's own client."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import numpy.typing as npt
import pytest

from served import (
    BROKEN,
    COUNT,
    DICTATE,
    ECHO,
    FAIL,
    HELD,
    HOT,
    LARGEST,
    OTHER_HOT,
    PIXELS,
    PREFIX,
    TALK,
    Served,
    no_deadline,
    serving,
)

WAIT = 10.0


@pytest.fixture(scope="module")
def channel(served: Served) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(served.address) as opened:
        yield opened


def image(value: int) -> bytes:
    return PREFIX + bytes([value]) * PIXELS


def test_plain_requests_travel_as_rows(served: Served, channel: grpc.Channel) -> None:
    before = served.plain
    call = channel.unary_unary(HOT)
    futures = [call.future(image(value), timeout=WAIT) for value in range(200)]
    assert [future.result() for future in futures] == [bytes([value * PIXELS % 256]) for value in range(200)]
    assert channel.unary_unary(OTHER_HOT)(image(3), timeout=WAIT) == bytes([3 * PIXELS])
    assert served.plain == before + 201
    assert served.columns, "not all of them by themselves"


@pytest.mark.parametrize("payload", [b"", b"x", PREFIX, PREFIX + bytes(PIXELS + 1), b"y" + image(1)[1:]])
def test_other_requests_travel_as_objects(served: Served, channel: grpc.Channel, payload: bytes) -> None:
    before = time.monotonic()
    assert channel.unary_unary(HOT)(payload, timeout=WAIT) == b"object:" + payload
    call = served.objects[-1]
    assert (call.method, call.payload) == (0, payload)
    assert before <= call.arrived <= time.monotonic()
    assert before + WAIT - 1 < call.deadline < time.monotonic() + WAIT + 1, "grpcio rounds timeouts"


def test_a_header_that_tells_something_makes_an_object(served: Served, channel: grpc.Channel) -> None:
    call = channel.unary_unary(HOT)
    assert call(image(1), metadata=(("other", "x"),), timeout=WAIT) == bytes([PIXELS])
    assert call(image(1), metadata=(("traceparent", "00-1"), ("other", "x"))) == b"object:" + image(1)
    assert served.objects[-1].metadata == (("traceparent", "00-1"),)
    assert no_deadline(served.objects[-1])


def test_without_formats_everything_is_an_object() -> None:
    with serving(plain=False) as served, grpc.insecure_channel(served.address) as opened:
        assert opened.unary_unary(HOT)(image(1), timeout=WAIT) == b"object:" + image(1)
        assert served.plain == 0


def test_a_status_with_details(channel: grpc.Channel) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary(HOT)(BROKEN, timeout=WAIT)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert caught.value.details() == "it is 100 % broken: Ω"
    assert ("reason", "broken") in caught.value.trailing_metadata()
    assert ("detail-bin", bytes(range(256))) in caught.value.trailing_metadata()


@pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK])
def test_every_status(channel: grpc.Channel, code: grpc.StatusCode) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary(FAIL)(str(code.value[0]).encode(), timeout=WAIT)
    assert (caught.value.code(), caught.value.details()) == (code, "as asked")


def test_a_method_that_is_not_there(channel: grpc.Channel) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary("/test.Service/Nothing")(b"", timeout=WAIT)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert caught.value.details() == "there is no method /test.Service/Nothing"


def test_control_calls_see_their_metadata(served: Served, channel: grpc.Channel) -> None:
    sent = (("key", "value"), ("key", "again"), ("bytes-bin", b"\0\xff"), ("authorization", "Bearer secret"))
    assert channel.unary_unary(ECHO)(b"hello", metadata=sent, timeout=WAIT) == b"hello"
    assert served.metadata == sent[:3]


@pytest.mark.parametrize("count", [0, 1, 3, 1000])
def test_many_replies(channel: grpc.Channel, count: int) -> None:
    stream = channel.unary_stream(COUNT)(b"%d" % count, timeout=WAIT)
    assert list(stream) == [b"%d" % number for number in range(count)]
    assert stream.code() is grpc.StatusCode.OK
    assert ("counted", "all") in stream.trailing_metadata()


@pytest.mark.parametrize("compression", [grpc.Compression.NoCompression, grpc.Compression.Gzip])
def test_a_conversation(channel: grpc.Channel, compression: grpc.Compression) -> None:
    sent = [b"word %d " % number * 100 for number in range(50)]
    heard = channel.stream_stream(TALK)(iter(sent), timeout=WAIT, compression=compression)
    assert list(heard) == [b"heard " + word for word in sent]
    assert heard.code() is grpc.StatusCode.OK


@pytest.mark.parametrize("compression", [grpc.Compression.NoCompression, grpc.Compression.Gzip])
def test_large_messages_of_a_stream(served: Served, channel: grpc.Channel, compression: grpc.Compression) -> None:
    """Larger than the window, between small ones; together more than the room of one connection."""
    sizes = [1, 65_530, 65_531, 65_536, 200_000, 7, LARGEST, 0, LARGEST - 1] * 8
    sent = [bytes(range(250)) * (size // 250) + b"r" * (size % 250) for size in sizes]
    heard = channel.stream_stream(DICTATE)(iter(sent), timeout=6 * WAIT, compression=compression)
    for message, reply in zip(sent, heard, strict=True):
        assert reply == b"heard " + message
    assert heard.code() is grpc.StatusCode.OK


def test_a_stream_whose_replies_are_not_read_waits(served: Served, channel: grpc.Channel) -> None:
    taken = 0

    def messages() -> Iterator[bytes]:
        nonlocal taken
        for _ in range(200):
            taken += 1
            yield b"m" * 100_000

    heard = channel.stream_stream(DICTATE)(messages(), timeout=6 * WAIT)
    before = -1
    while taken != before:  # until the server takes no more
        before = taken
        time.sleep(0.5)
    assert 0 < taken < 150
    assert sum(len(reply) for reply in heard) == 200 * 100_006
    assert heard.code() is grpc.StatusCode.OK


def test_a_nudge_lets_receive_return() -> None:
    with serving() as served:
        served.answering.clear()  # the other thread does not receive
        time.sleep(0.1)
        nudging = threading.Timer(0.2, served.wire.nudge)
        nudging.start()
        assert not served.wire.receive(WAIT).items
        nudging.join()
        served.wire.nudge()  # the next one returns where nobody waits
        assert not served.wire.receive(6 * WAIT).items


def test_messages_of_every_size(channel: grpc.Channel) -> None:
    for size in (1, 16_379, 16_384, 65_530, 65_531, 65_536, 200_000, LARGEST):
        assert channel.unary_unary(HOT)(b"m" * size, timeout=WAIT) == b"object:" + b"m" * size


@pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.Deflate])
@pytest.mark.parametrize("size", [1000, 65_536, 200_000, LARGEST])
def test_compressed_messages(channel: grpc.Channel, compression: grpc.Compression, size: int) -> None:
    payload = bytes(range(250)) * (size // 250)
    assert channel.unary_unary(HOT)(payload, compression=compression, timeout=WAIT) == b"object:" + payload


def test_a_compressed_request_is_plain_all_the_same(served: Served, channel: grpc.Channel) -> None:
    before = served.plain
    assert channel.unary_unary(HOT)(image(2), compression=grpc.Compression.Gzip, timeout=WAIT) == bytes([2 * PIXELS])
    assert served.plain == before + 1


def test_rows_and_objects_keep_their_order() -> None:
    with serving() as served, grpc.insecure_channel(served.address) as opened:
        hot = opened.unary_unary(HOT)
        assert hot(image(1), timeout=WAIT) == bytes([PIXELS])
        served.answering.clear()
        time.sleep(0.1)
        futures = []
        for place, payload in enumerate((image(1), image(2), b"a", image(3), b"b", b"c", image(4))):
            futures.append(hot.future(payload, timeout=WAIT))
            served.wait_for_counter("calls", 2 + place)
            time.sleep(0.01)
        served.answering.set()
        for future in futures:
            future.result()
        assert served.items[1:] == [2, b"a", image(3), b"b", b"c", image(4)]


def test_columns_say_whose_their_calls_are() -> None:
    with (
        serving() as served,
        grpc.insecure_channel(served.address, [("grpc.use_local_subchannel_pool", 1)]) as one,
        grpc.insecure_channel(served.address, [("grpc.use_local_subchannel_pool", 1)]) as other,
    ):
        callers = [served.objects[-1].caller for opened in (one, other) if opened.unary_unary(HOT)(b"me", timeout=WAIT)]
        served.answering.clear()
        time.sleep(0.1)
        futures = []
        for place, opened in enumerate((one, other, other, one)):
            futures.append(opened.unary_unary(HOT).future(image(place), timeout=WAIT))
            served.wait_for_counter("calls", 3 + place)
            time.sleep(0.01)
        futures[1].cancel()
        served.wait_for_counter("cancelled")
        served.answering.set()
        assert [futures[place].result() for place in (0, 2, 3)] == [
            bytes([place * PIXELS % 256]) for place in (0, 2, 3)
        ]
        (column,) = served.columns
        assert column.callers.tolist() == [callers[place] for place in (0, 1, 1, 0)]
        assert column.pixels[:, 0].tolist() == [0, 1, 2, 3]
        assert (column.arrived[:-1] < column.arrived[1:]).all()
        assert served.gone == [column.numbers[1]], "who has left is said of rows too"


def test_a_cancelled_call_is_told(served: Served, channel: grpc.Channel) -> None:
    future = channel.unary_unary(HOT).future(HELD, timeout=WAIT)
    served.wait_for(lambda: served.held)
    number = served.held[-1].number
    assert served.wire.alive(_numbers(number)).tolist() == [True]
    future.cancel()
    served.wait_for(lambda: number in served.gone)
    assert served.wire.alive(_numbers(number)).tolist() == [False]
    served.release()
    assert channel.unary_unary(HOT)(image(1), timeout=WAIT) == bytes([PIXELS])


def test_a_cancelled_stream_is_told(served: Served, channel: grpc.Channel) -> None:
    before = len(served.gone)
    release = threading.Event()

    def words() -> Iterator[bytes]:
        yield b"one"
        release.wait()

    stream = channel.stream_stream(TALK)(words(), timeout=WAIT)
    assert next(stream) == b"heard one"
    stream.cancel()
    release.set()
    served.wait_for(lambda: len(served.gone) == before + 1)


def test_a_number_is_good_for_one_answer(served: Served, channel: grpc.Channel) -> None:
    future = channel.unary_unary(HOT).future(HELD, timeout=WAIT)
    served.wait_for(lambda: served.held)
    number = served.held.pop().number
    wire = served.wire
    wire.send([(number, b"first"), (number, b"second"), (0, b""), (2**64 - 1, b""), (number + 7, b"")])
    wire.finish([number], 13, "late", ())
    wire.write(number, b"late")
    wire.ask(number)
    assert future.result() == b"first"


def test_a_deadline_passes_at_the_caller(served: Served, channel: grpc.Channel) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary(HOT)(HELD, timeout=0.1)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    served.release()


def test_many_callers_at_once(served: Served) -> None:
    def run(seed: int) -> None:
        with grpc.insecure_channel(served.address, [("grpc.use_local_subchannel_pool", 1)]) as opened:
            hot, echo = opened.unary_unary(HOT), opened.unary_unary(ECHO)
            futures = [hot.future(image((seed + value) % 256), timeout=30) for value in range(300)]
            others = [echo.future(b"%d %d" % (seed, value), timeout=30) for value in range(30)]
            assert [f.result() for f in futures] == [bytes([(seed + v) * PIXELS % 256]) for v in range(300)]
            assert [f.result() for f in others] == [b"%d %d" % (seed, value) for value in range(30)]

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(run, range(16)))


def test_the_wires_own_thread_serves_while_python_is_away() -> None:
    with serving() as served, grpc.insecure_channel(served.address) as opened:
        assert opened.unary_unary(HOT)(image(1), timeout=WAIT) == bytes([PIXELS])
        served.answering.clear()
        time.sleep(0.1)
        arrived = time.monotonic()
        future = opened.unary_unary(HOT).future(b"later", timeout=WAIT)
        assert opened.unary_unary(ECHO)(b"now", timeout=WAIT) == b"now"
        away = time.monotonic()
        served.answering.set()
        assert future.result() == b"object:later"
        assert arrived <= served.objects[-1].arrived <= away, "the time is that of the last byte, not of Python's look"


def test_stop_answers_what_is_left() -> None:
    with serving() as served, grpc.insecure_channel(served.address) as opened:
        futures = [opened.unary_unary(HOT).future(HELD, timeout=WAIT) for _ in range(3)]
        stream = opened.stream_stream(TALK)(iter([b"one"]), timeout=WAIT)
        assert next(stream) == b"heard one"
        served.wait_for(lambda: len(served.held) == 3)
        served.wire.stop(2)
        for future in futures:
            assert future.code() is grpc.StatusCode.UNAVAILABLE
            assert future.details() == "the server has shut down"
        assert served.wire.receive(5).items == []


def _numbers(*numbers: int) -> npt.NDArray[np.uint64]:
    return np.array(numbers, np.uint64)
