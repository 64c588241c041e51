"""Benchmarks: this extension and what a user would put in its place, side by side on the same work.

`command` runs the workloads, `instructions` counts the instructions of the hot path, which a noisy machine
does not change, and `capacity` works out from the figures what a large deployment takes.
"""
