"""The provider as a Python package."""
