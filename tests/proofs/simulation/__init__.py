"""The simulator: the real rotation protocol, with every port call a place to stop.

`scheduler` decides who runs and when time passes, `ports` stops at every call, `provider` is the
strict authorization server, `referee` checks the invariants, `scenario` is one whole run, and
`mutants` are the protocol with one rule broken. Run many with ``python -m tests.proofs simulation``.
"""
