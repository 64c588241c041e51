"""The simulator: the real rotation protocol, with every port call a place to stop.

`scheduler` decides who runs and when time passes, `store` and `ports` stop at every call, `provider` is the
strict authorization server, `requests` is what runs, `referee` and `posts` check the invariants, `scenario`
is one whole run, `search` runs many, and `mutants` are the protocol with one rule broken. Run it with
``python -m tests.proofs simulation``.
"""
