"""The store on SQLAlchemy Core: its own engine, its own tables, its own short transactions."""
