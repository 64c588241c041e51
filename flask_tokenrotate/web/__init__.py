"""The parts that use Flask: tokens in a request, sign-in views, error responses, signals, commands."""
