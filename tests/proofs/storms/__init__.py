"""The demo's storm on each database: many sessions, and many requests of each at once, find expired tokens.

`run` plays one, with the application without the extension as its control, and says what is wrong with it.
"""
