"""The soak: many rotations over many grants in four processes, while faults come at random.

``python -m tests.proofs.soak --rotations 100000 --grants 2000`` runs it in full.
"""
