"""Request bytes to arrays and arrays to reply bytes, one module for each method that the batching loop answers.

May import models and what is below.
"""
