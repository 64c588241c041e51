"""Other projects' tests, with our session interface as every application's.

``python -m tests.proofs foreign`` fetches the source distributions of Flask and Flask-Login with pip, runs
their tests twice, with our sessions and with Flask's own, and prints what differs. Their code is not kept.
"""
