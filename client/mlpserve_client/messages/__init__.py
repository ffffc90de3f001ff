"""Encode images into requests, and decode and validate responses, without I/O; imports only `errors`."""
