"""Interactive calls beside scoring jobs and beside a flood: `make bench-mixed`.

servers.py     a server with its metrics, and the jobs beside it
cases.py       one measurement of each kind
before.py      single images and the batching loop, against the server before there were classes of traffic
checks.py      what is promised, held against what was measured
"""
