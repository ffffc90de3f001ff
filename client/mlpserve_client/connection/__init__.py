"""How to reach a server: address, TLS, token, when to retry, and the trace context; imports only `errors`."""
