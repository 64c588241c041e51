"""Providers slower than any request waits, at default settings: they cost waiting time, never sessions.

`place` serves the application before a slow provider, `traffic` sends it requests and measures them,
`scenarios` says what each must show, and `figures` holds what it has shown. The provider is strict: a refresh
token that comes twice ends its family.
"""
