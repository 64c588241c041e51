"""Programs that show what the extension promises, in more ways and for longer than the tests do.

``python -m tests.proofs`` lists them (`programs`); docs/proofs.md says what each of them shows.
"""
