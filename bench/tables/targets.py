"""What serving aims at, each target as a ratio of two measurements of the same run."""

import statistics
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from bench.tables.report import Found

OURS, BEFORE, FLOAT32 = "mlpserve", "mlpserve 0.1.0", "mlpserve, float32"
MANY = "256 in flight"
LEAST_PEERS = 3


class Checked(NamedTuple):
    """A target.

    Attributes:
        number: of the group that it belongs to.
        text: what is compared.
        measured: the figure; None if one side of it was not measured.
        bound: what it is to be.
        at_least: whether more is better.
    """

    number: int
    text: str
    measured: float | None
    bound: float
    at_least: bool

    @property
    def met(self) -> bool | None:
        """None if it was not measured."""
        if self.measured is None:
            return None
        return self.measured >= self.bound if self.at_least else self.measured <= self.bound


def check(found: "Found") -> list[Checked]:
    """Every target of which at least one server was measured; nothing if ours was not."""
    return list(_check(found)) if found.rate(OURS, MANY) else []


def _check(found: "Found") -> Iterator[Checked]:
    many, one = found.rate(OURS, MANY), found.p50(OURS)
    limit = "wire, constant reply"
    # The peers run the float32 file; where int8 is faster ours takes that by itself, so both are shown.
    for ours in (OURS, FLOAT32):
        for name, least in (("grpcio threads", 30), ("grpc.aio", 45), ("mosec, batching", 3.5)):
            measured = _ratio(found.rate(ours, MANY), found.rate(name, MANY))
            yield Checked(1, f"{MANY}: {ours} / {name}", measured, least, True)
    yield Checked(1, f"{MANY}: {OURS} / {BEFORE}", _ratio(many, found.rate(BEFORE, MANY)), 2.5, True)
    for name, part in (("nghttpd", 0.35), (limit, 0.6)):
        yield Checked(2, f"{MANY}: {OURS} / {name}", _ratio(many, found.rate(name, MANY)), part, True)
    for name, most in ((BEFORE, 0.7), ("nghttpd", 1.6)):
        yield Checked(3, f"p50 at 1 in flight: {OURS} / {name}", _ratio(one, found.p50(name)), most, False)
    for ours in (OURS, "mlpserve, ModelInfer"):
        tls = f"{ours}, TLS"
        yield Checked(
            4, f"{MANY}: {tls} / plaintext", _ratio(found.rate(tls, MANY), found.rate(ours, MANY)), 0.75, True
        )
        yield Checked(4, f"p50 at 1 in flight: {tls} / plaintext", _ratio(found.p50(tls), found.p50(ours)), 1.3, False)
    large = "1024 images"
    for name, precision, part in ((FLOAT32, "fp32", 0.95), ("mlpserve, int8", "int8", 0.85)):
        rates = found.in_process.get(precision)
        in_process = statistics.median(rates) / 1024 if rates else None
        text = f"{large} a request: {name} / ONNX Runtime in process"
        yield Checked(5, text, _ratio(found.rate(name, large), in_process), part, True)
    for case in ("1 in flight", MANY, large):
        infer = _ratio(found.rate("mlpserve, ModelInfer", case), found.rate(OURS, case))
        yield Checked(6, f"{case}: ModelInfer / Predict", infer, 0.9, True)
    others = [name for name in found.open if not name.startswith((OURS, "nghttpd"))]
    shown = float(len(others)) if OURS in found.open and "nghttpd" in found.open else None
    yield Checked(7, "peers in the open loop beside ours and nghttpd", shown, LEAST_PEERS, True)
    if clients := found.clients:
        text = "10,000 concurrent images through the coalescing client: now / before"
        yield Checked(8, text, _ratio(clients["coalesced"], clients.get("coalescing, mlpserve 0.1.0")), 1, True)
    if found.memory_mb:
        half = found.memory_mb[len(found.memory_mb) // 2 :]
        yield Checked(9, "MB after all requests", found.memory_mb[-1], 150, False)
        yield Checked(9, "MB at the end / MB half way", half[-1] / half[0], 1.05, False)
    if stalled := found.stalled:
        text = "200 stalled bodies of 3 MB: MB that they take / what the setting allows"
        yield Checked(9, text, _ratio(stalled["taken_mb"], stalled["allowed_mb"]), 1, False)
        text = "200 stalled bodies of 3 MB: others' p99 / without them"
        yield Checked(9, text, _ratio(stalled["p99_ms"], stalled["quiet_p99_ms"]), 2, False)


def _ratio(above: float | None, below: float | None) -> float | None:
    return None if above is None or not below else above / below


def table(checked: list[Checked]) -> list[str]:
    """As Markdown."""
    lines = ["| | target | measured | to be | met |", "|--:|---|--:|--:|---|"]
    for number, text, measured, bound, at_least in checked:
        met = Checked(number, text, measured, bound, at_least).met
        said = {True: "yes", False: "**no**", None: "not measured"}[met]
        figure = "" if measured is None else f"{measured:,.3g}" if measured < 100 else f"{measured:,.0f}"
        lines.append(f"| {number} | {text} | {figure} | {'≥' if at_least else '≤'} {bound:.3g} | {said} |")
    return lines
