"""How people's files are read: the rules that trainer and client share (docs/decisions/014-one-reader.md)."""
