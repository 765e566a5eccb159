"""How each operator is drawn: operands that fit it, attributes in all their forms, and what is known of its results."""

# The order decides what a seed draws.
from property.templates import pointwise, movement, indices, reductions, products  # noqa: F401, I001
from property.templates.registry import TEMPLATES

__all__ = ["TEMPLATES"]
