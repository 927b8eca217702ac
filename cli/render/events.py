"""The events of a run."""

from backfill_tasks.cli.render.text import WIDTH, in_words, moment, shortened, spaced, wrapped
from backfill_tasks.engine.ledger import Event
from backfill_tasks.escaping import one_line

#: Events whose details are pairs of old and new values.
_CHANGES = frozenset({"tuned", "rate"})


def event_lines(happened: Event) -> list[str]:
    """Return an event in one line, and its details below, one per line."""
    head = f"{moment(happened.at)}  {happened.name}, by {one_line(happened.who)}"
    said = (wrapped(each, indent=21) for each in details(happened))
    return [shortened(head, WIDTH), *(line for each in said for line in each.splitlines())]


def details(happened: Event) -> list[str]:
    """Return an event's details, one per line."""
    return _tuned(happened) if happened.name in _CHANGES else _said(happened)


def _tuned(happened: Event) -> list[str]:
    """Return each changed parameter as old -> new."""
    return [
        f"{spaced(name)} {in_words(old, empty='none')} -> {in_words(new, empty='none')}"
        for name, (old, new) in happened.detail.items()
    ]


def _said(happened: Event) -> list[str]:
    """Return an event's details, one per line: the state as old -> new, the rest, the parameters, the reason."""
    detail = dict(happened.detail)
    old, new, reason = detail.pop("old", None), detail.pop("new", None), detail.pop("reason", None)
    parameters = dict(detail.pop("parameters", {}))
    if "lanes" in parameters:
        wanted, made = parameters["lanes"], detail.pop("lanes", None)
        parameters["lanes"] = wanted if made in (None, wanted) else f"{made} of {wanted}"
    states = f"{old} -> {new}" if old and new else f"from {old}" if old else ""
    rest = ", ".join(_pair(name, value) for name, value in detail.items() if value not in (None, []))
    asked = ", ".join(_pair(name, value) for name, value in parameters.items() if value not in (None, False, 0))
    return [each for each in (states, rest, asked, reason) if each]


def _pair(name: str, value: object) -> str:
    return f"{spaced(name)} {in_words(value)}"
