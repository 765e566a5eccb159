"""The list of templates: what draws a node, and how often it is chosen."""

from collections.abc import Callable

from property.draft import Draft

Template = Callable[[Draft], None]
TEMPLATES: list[tuple[float, Template]] = []


def template(weight: float = 1.0) -> Callable[[Template], Template]:
    def register(drawn: Template) -> Template:
        TEMPLATES.append((weight, drawn))
        return drawn

    return register
