"""Functions that Numba compiles, once they are called: a command that calls none does not pay for Numba at all.

``njit`` here stands for Numba's and takes its options. What it returns makes Numba's own function of itself at the
first call, together with those that it calls. A signature is given as a function of ``numba.types``. `later` stands
for whatever else of Numba's such a function names.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import update_wrapper
from typing import Any


class Later:
    """Something of Numba's, made when it is first needed."""

    def __init__(self, make: Callable[[Any], Any]) -> None:
        """Keep how it is made, given the module ``numba``."""
        self._make = make
        self._made: Any = None

    def made(self) -> Any:
        """Return it."""
        if self._made is None:
            import numba

            self._made = self._make(numba)
        return self._made


class Kernel(Later):
    """A function waiting to be compiled, or loaded from Numba's cache."""

    def __init__(self, function: Any, signature: Callable[[Any], Any] | None, options: dict[str, Any]) -> None:
        """Keep what Numba will be told."""
        update_wrapper(self, function)
        self._function, self._signature, self._options = function, signature, options
        super().__init__(self._compile)

    def __call__(self, *values: Any) -> Any:
        """Call the compiled function."""
        return (self._made or self.made())(*values)

    def compile(self, signature: Any) -> None:
        """Compile for a signature, without a call."""
        self.made().compile(signature)

    def _compile(self, numba: Any) -> Any:
        given = () if self._signature is None else (self._signature(numba.types),)
        settled(self._function)
        made = numba.njit(*given, **self._options)(self._function)
        names = self._function.__globals__
        if names.get(self._function.__name__) is self:
            names[self._function.__name__] = made
        return made


def njit(function: Any = None, *, signature: Callable[[Any], Any] | None = None, **options: Any) -> Any:
    """Decorate a function as ``numba.njit`` does, at its first call."""
    if function is not None:
        return Kernel(function, signature, options)
    return lambda one: Kernel(one, signature, options)


def later(make: Callable[[Any], Any]) -> Any:
    """Return what stands for something of Numba's in functions to be compiled."""
    return Later(make)


def settled(function: Any) -> Any:
    """Return a function after its module's names that wait for Numba were replaced by what they stand for.

    Numba looks the names up that a function uses, and compiles calls of its own functions only.
    """
    names = function.__globals__
    for name in function.__code__.co_names:
        if isinstance(one := names.get(name), Later) and getattr(one, "_function", None) is not function:
            names[name] = one.made()
    return function
