"""Benchmarks: each is a target of the Makefile, `make help` lists them.

Here lies what serves single images; trainer/, jobs/, mixed/ and gpu/ measure the rest, peers/ and baselines/ are what
it is compared with, generator/ sends load, tables/ writes what was measured into the documentation.
"""
