"""Which calls wait, which run together, and the loop that answers them.

May import codecs, observe, models and what is below.
"""
