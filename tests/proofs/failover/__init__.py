"""Databases that fail over under load: ``python -m tests.proofs.failover``, and pytest in short form."""
