"""The database itself: engine, URLs, driver errors, transactions, tables, notifications."""
