"""When a call is taken to have arrived: when the kernel got its last byte, whenever that was read."""

import time

from http2 import Caller, message
from served import HOT, serving


def test_a_call_arrives_when_its_bytes_do_even_if_nobody_reads_them() -> None:
    with serving(takeover=60) as served, Caller(served.address) as caller:
        assert caller.call(HOT, message(b"first")).status == 0
        served.answering.clear()
        time.sleep(0.1)
        begun = time.monotonic()
        stream = caller.begin(HOT)
        caller.send(stream, message(b"later"), end=True)
        time.sleep(0.2)
        looked = time.monotonic()
        served.answering.set()
        assert caller.answer(stream).status == 0
        assert begun <= served.objects[-1].arrived < looked


def test_calls_that_are_read_together_have_times_of_their_own() -> None:
    apart = []
    with serving(takeover=60.0) as served, Caller(served.address) as caller:
        for _ in range(10):
            served.answering.clear()
            time.sleep(0.1)  # so that nobody reads
            begun, streams = [], []
            for payload in (b"one" * 1000, b"another" * 1000):
                begun.append(time.monotonic())
                streams.append(caller.begin(HOT))
                caller.send(streams[-1], message(payload), end=True)
                time.sleep(0.03)
            served.answering.set()
            caller.read_until(lambda ended=streams: all(caller.answers[stream].ended for stream in ended))
            one, another = (call.arrived for call in served.objects[-2:])
            assert begun[0] <= one <= another <= time.monotonic()
            assert begun[1] <= another
            apart.append(another - one)
    assert max(apart) > 0.02, "the kernel may have joined their packets, but not every time"
