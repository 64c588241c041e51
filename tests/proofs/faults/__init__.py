"""The fault table: what each fault does at each step of a redemption, in real processes.

`table` says which steps and faults there are and what is expected; `cell` plays one of them; `steps` is
what stops a worker at a step. ``python -m tests.proofs.faults --rounds 3 --write docs/faults.md``
runs it all.
"""
