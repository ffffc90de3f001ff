"""Where versions are published, in a folder or in object storage, and which of them is promoted.

May import config, names, errors and the contract.
"""
