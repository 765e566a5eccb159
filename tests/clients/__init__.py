"""Other people's clients, unmodified and at their default settings."""
