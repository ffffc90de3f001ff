"""Training: batches, optimiser steps, schedules, checkpoints, and the stages of a recipe.

May import `networks` and `data`; must not know about ONNX, the test set or the store.
"""
