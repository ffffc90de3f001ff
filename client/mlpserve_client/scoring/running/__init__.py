"""Runs the missing parts of a job, here or on a Ray cluster; imports everything of scoring but `job` and `beginning`.

pipeline.py   read, decode, ask and write at the same time
scorer.py     what a chunk's images are answered with
window.py     how many requests are in flight
on_ray.py     the same parts as tasks of a Ray cluster
task.py       what a part needs to know of its job
progress.py   how far the job is
"""
