"""Evaluation of the ONNX files on the test set: accuracy, calibration, golden samples, robustness, publishing gates.

May import everything up to `export`; only this package reads the test set.
"""
