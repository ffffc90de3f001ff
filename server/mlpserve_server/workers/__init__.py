"""Several server processes on one port: their supervisor and what runs in each.

May import everything but the command line.
"""
