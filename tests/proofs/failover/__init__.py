"""Databases that fail over while many sessions rotate: `scenarios` are the fail-overs, `load` the traffic."""
