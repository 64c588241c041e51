"""Databases that fail over under load: ``python -m tests.failover`` runs the storms, pytest a short form."""
