"""The rotation protocol. Imports neither Flask nor SQLAlchemy nor requests."""
