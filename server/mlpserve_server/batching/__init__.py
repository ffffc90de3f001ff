"""Which calls wait, which run together, and the loop that answers them.

May import the catalog, codecs, observe, models, calls, host and what is below.
"""
