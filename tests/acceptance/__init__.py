"""What the project promises of whole models, measured."""
