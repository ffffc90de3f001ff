"""The exported files on the test set: accuracy, calibration, golden samples, robustness, and the publishing gates.

May import everything up to `export`; the test set is opened here and nowhere else.
"""
