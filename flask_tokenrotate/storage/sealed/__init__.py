"""What is encrypted at rest: the sealing, its contents, and rescue files."""
