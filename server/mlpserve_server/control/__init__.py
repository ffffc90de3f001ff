"""What the server says about itself: health, reflection, models and versions.

May import the catalog, codecs, models, store, host and what is below.
"""
