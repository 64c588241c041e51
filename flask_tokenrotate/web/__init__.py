"""Everything that sees Flask: request memo and decorator, sign-in pages, sessions, answers, signals."""
