"""Fitting networks to a data set: batches, optimiser steps, schedules, checkpoints, and the stages of a recipe.

May import `networks` and `data`; knows nothing of ONNX, of the test set or of the store.
"""
