"""What the doors under ``/v1`` share: fields of ours that they take besides their protocol's, and refusals by name.

``options``, ``num_ctx`` and ``keep_alive`` mean what they mean to the native routes; a protocol's own field stands
above the option of the same meaning.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from server import options
from server.api.decode import ANY, INT, KEEP_ALIVE, OBJECT, Kind, Struct
from server.api.requests import model_options
from server.errors import InvalidRequest

EXTRAS: dict[str, Kind | Struct] = {"options": OBJECT, "num_ctx": INT, "keep_alive": KEEP_ALIVE}
NOTHING: tuple[Any, ...] = (None, False, "", [], {})


def refused(names: Iterable[str]) -> dict[str, Kind | Struct]:
    """The fields that ``refuse`` looks at, for the description of a body."""
    return dict.fromkeys(names, ANY)


def refuse(fields: Mapping[str, Any], reasons: Mapping[str, str]) -> None:
    """A field that would change the answer, and that nothing here honours, is an error with its name."""
    for name, advice in reasons.items():
        if fields.get(name) not in NOTHING:
            raise InvalidRequest(f"{name} is not supported: {advice}")


def merged_options(
    fields: Mapping[str, Any], named: Mapping[str, Any], defaults: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """``defaults`` < ``options`` < ``num_ctx`` < what the protocol's own fields say, where they say something."""
    try:
        given = model_options(dict(fields))
        own = {name: value for name, value in named.items() if value is not None}
        if "num_ctx" in fields:
            own["num_ctx"] = fields["num_ctx"]
        return dict(defaults or {}) | given | options.parse(own)
    except options.OptionError as error:
        raise InvalidRequest(error.message) from None
