"""What a job writes: its plan, its parts and what they add up to; imports `inputs` and what lies below them.

plan.py         what a job is, and whether an output is of this one
parts.py        Parquet files and their sidecars
evaluation.py   accuracy, confusion, calibration, disagreements
"""
