"""What a conversion can refuse or fail at, drawn once.

ConverterError            the text says what to change; no path of the machine is in it
├─ InvalidSource          the input is not what this verb works on
├─ Unsupported            a good input of a kind that cannot be converted; named, with what to do
├─ UnsupportedType        no such quantization type, or not from this input
├─ OutputExists           a conversion never overwrites
├─ ConversionFailed       llama.cpp or the disk said no on the way; nothing is left at the destination
└─ VerificationFailed     the result does not say what the source says; nothing is left at the destination
"""

from __future__ import annotations


class ConverterError(Exception):
    """``message`` is shown to users as it is."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class InvalidSource(ConverterError):
    pass


class Unsupported(ConverterError):
    pass


class UnsupportedType(ConverterError):
    pass


class OutputExists(ConverterError):
    pass


class ConversionFailed(ConverterError):
    pass


class VerificationFailed(ConverterError):
    pass
