"""Every right that the chart gives stands in docs/guide/security.md with its reason, and no other."""

import re

from .objects import ROOT, Object, Render, last_word, roles, rules

Right = tuple[str, str, str, str]
WHERE = {"ClusterRole": "everywhere", "Role": "own"}


def documented() -> set[Right]:
    text = (ROOT / "docs/guide/security.md").read_text()
    table = text.split("<!-- rights: begin -->")[1].split("<!-- rights: end -->")[0]
    rights = set()
    for line in table.strip().splitlines()[2:]:
        who, where, what, may, why = (cell.strip() for cell in line.strip("|").split("|"))
        assert why, f"no reason is given for {line}"
        for resource in re.findall(r"`([^`]+)`", what):
            for verb in may.split(", "):
                right = (who, where, resource, verb)
                assert right not in rights, f"{right} is listed twice"
                rights.add(right)
    return rights


def granted(objects: list[Object]) -> set[Right]:
    return {
        (last_word(role), WHERE[role["kind"]], resource, verb)
        for role in roles(objects)
        for _, resource, verb in rules(role)
    }


def test_the_guide_lists_every_right_and_no_other(render: Render) -> None:
    given = granted(render("default"))
    listed = documented()
    # The operator holds the others' rights besides its own.
    held = {("operator", where, resource, verb) for who, where, resource, verb in listed if who != "operator"}
    assert given - listed - held == set(), "given, and not in docs/guide/security.md"
    assert listed - given == set(), "in docs/guide/security.md, and not given"
    assert held <= given, "a right that the operator could not hand on"


def test_taking_any_one_right_away_is_noticed(render: Render) -> None:
    objects = render("default")
    listed = documented()
    noticed = 0
    for role in roles(objects):
        for rule in role["rules"]:
            for verb in list(rule["verbs"]):
                rule["verbs"].remove(verb)
                held = {("operator", *right[1:]) for right in listed if right[0] != "operator"}
                if (listed | held) - granted(objects):
                    noticed += 1
                else:  # the same right stands in another rule of the role, which is the operator's
                    assert role["metadata"]["name"].endswith("-operator"), (role["metadata"]["name"], rule, verb)
                rule["verbs"].append(verb)
    assert noticed > 50
