"""Benchmarks: this extension and what a user would put in its place, side by side on the same work.

``python -m tests.proofs.benchmarks`` runs all of them; ``python -m tests.proofs.benchmarks.instructions``
counts the instructions of the hot path, which a noisy machine does not change.
"""
