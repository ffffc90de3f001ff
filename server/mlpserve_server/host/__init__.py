"""What the process has of its machine: CPUs, memory, signals, output and a port.

May import config and errors.
"""
