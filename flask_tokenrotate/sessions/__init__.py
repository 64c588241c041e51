"""Server-side sessions: the interface, the session, merging, the store."""
