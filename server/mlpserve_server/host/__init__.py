"""What the process has of its machine: CPUs, memory, signals, output and a port; may import config and errors."""
