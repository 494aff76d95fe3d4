"""Parameter: a setting that holds for a whole data set; what is typed of them is checked here."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Parameter:
    """A setting that holds for a whole data set.

    role: difficulty (geometry of the classes), nuisance, or drawing. The type of the default is that of all its values:
    a bool is true or false, an int a whole number, a float any number; from low to high, both included.
    """

    name: str
    default: float
    low: float
    high: float
    unit: str
    role: str
    about: str

    def checked(self, value: object) -> float:
        """The value, in the type of the default.

        Raises:
            ValueError: It is of another type or out of range.
        """
        example = f"type --set {self.name}={str(self.default).lower()}"
        if isinstance(self.default, bool):
            if value not in (0, 1):
                raise ValueError(f"expected {self.name} true or false, found {value!r}; {example}")
            return bool(value)
        kind = "a whole number " if isinstance(self.default, int) else ""
        known = f"expected {self.name} {kind}from {self.low:g} to {self.high:g} {self.unit}".rstrip()
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"{known}, found {value!r}; {example}")
        if not self.low <= value <= self.high:  # nan neither
            raise ValueError(f"{known}, found {value}; {example}")
        if kind and value % 1:
            raise ValueError(f"{known}, found {value}; type --set {self.name}={round(value)}")
        return type(self.default)(value)


# Defaults: white on black, rotated by up to 90 degrees, nothing else.
ROTATION = Parameter("rotation", 90.0, 0.0, 180.0, "deg", "nuisance", "largest turn of the scene")
PHOTOMETRY = (
    Parameter("contrast", 1.0, 0.01, 1.0, "share", "nuisance", "ink: how far from background to white"),
    Parameter("dark", False, 0, 1, "bool", "nuisance", "dark ink on a light background: the grey levels turned round"),
    Parameter("background", 0.0, 0.0, 0.95, "grey 0-1", "nuisance", "grey level of the background"),
    Parameter("noise_sd", 0.0, 0.0, 0.5, "grey 0-1", "nuisance", "sd of Gaussian noise per pixel"),
    Parameter("independent_noise", False, 0, 1, "bool", "nuisance", "counterfactuals have noise of their own"),
    Parameter("blur_sd", 0.0, 0.0, 8.0, "px at 128", "nuisance", "sd of Gaussian blur"),
)
ANTIALIAS = Parameter("antialias", False, 0, 1, "bool", "drawing", "grey edges: exact area coverage")
COMMON = (ROTATION, *PHOTOMETRY, ANTIALIAS)


def resolve(known: tuple[Parameter, ...], typed: Mapping[str, float], generator: str) -> dict[str, float]:
    """Every parameter's value: what is typed, else the default.

    Raises:
        ValueError: One that the generator does not have, or a value of another type or out of range.
    """
    by_name = {parameter.name: parameter for parameter in known}
    for name in typed:
        if name not in by_name:
            near = difflib.get_close_matches(name, by_name, n=1, cutoff=0.0)[0]
            raise ValueError(
                f"unknown parameter '{name}' of {generator}; known: {', '.join(by_name)}; did you mean '{near}'?"
            )
    return {name: parameter.checked(typed.get(name, parameter.default)) for name, parameter in by_name.items()}
