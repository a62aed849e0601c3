"""What can be wrong with the text or the file of a model, drawn once.

    ModelfilesError (a ValueError)
    ├─ InvalidName      a model name that no server may store
    ├─ GGUFError        a weights file whose header cannot be trusted
    ├─ TemplateError    a chat template that does not parse or does not render
    ├─ ModelfileError   a Modelfile that does not parse
    └─ QuantizationError  a quantization type, or a pattern for one, that nobody can follow

The text of each is shown to users as it is.
"""

from __future__ import annotations


class ModelfilesError(ValueError):
    """Base of everything that this package raises on bad input."""


class InvalidName(ModelfilesError):
    """``[scheme://][host/][namespace/]model[:tag]`` it is not."""


class GGUFError(ModelfilesError):
    """The file is no GGUF, is cut short, or claims what cannot be."""


class TemplateError(ModelfilesError):
    """Parse errors carry Go's texts (``template: :1: unclosed action``); rendering errors say what failed."""


class ModelfileError(ModelfilesError):
    """Grammar errors begin with ``(line N): ``."""


class QuantizationError(ModelfilesError):
    """Not a type of llama.cpp, or a ``pattern=type`` that is neither."""
