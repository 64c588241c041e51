"""What an operator runs on the whole database: audit, survey, resealing."""
