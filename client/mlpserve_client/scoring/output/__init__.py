"""The output of a job: its plan, its parts and the evaluation; imports `inputs` and the layers below.

plan.py         the plan of a job, and whether an output folder belongs to it
parts.py        Parquet files and their sidecars
columns.py      the columns of those files
evaluation.py   accuracy, confusion, calibration, disagreements
"""
