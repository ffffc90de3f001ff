"""gRPC over HTTP/2, compiled: calls reach Python in batches, plain ones as rows of arrays, outside the GIL.

sockets ─▶ [TLS] ─▶ HTTP/2 ─▶ calls ─▶ receive(): columns and objects ─▶ send_rows() / send() / finish()
                                  └──▶ events(): everything else      ─▶ write() / finish()
"""

from mlpserve_wire._native import Arrived, Column, Event, Wire, WireCall, versions
from mlpserve_wire.limits import Limits
from mlpserve_wire.listening import listening_socket
from mlpserve_wire.methods import Kind, Method, PlainFormat

INTERFACE = 2  # a number for what callers of this module see; another one with each change that they notice

__all__ = [
    "INTERFACE",
    "Arrived",
    "Column",
    "Event",
    "Kind",
    "Limits",
    "Method",
    "PlainFormat",
    "Wire",
    "WireCall",
    "listening_socket",
    "versions",
]
