"""Proves the GPU path and measures it: `make gpu-check`, or `make gpu-kit` for a machine that can download nothing.

__main__.py     the command: the parts in order, each check in a process of its own
plan.py         which checks there are, in which part, with which time
running.py      one check's process: its time limit, its output, what it found
check.py        what runs in that process
found.py        the lines of the table that a check finds
record.py       what all checks found, as JSON and as a page
serving.py …    the checks themselves
kit/            the folder for a machine without a network
"""
