"""Money as people write it, in US dollars, and as the gateway counts it, in billionths."""

from decimal import Decimal, InvalidOperation
from typing import Final

import typer

_NANOS: Final = 1_000_000_000
_LARGEST: Final = 2**63 - 1


def nanos_of(dollars: str) -> int:
    """Whole billionths for an amount such as ``12.50``; raises BadParameter for anything else."""
    try:
        nanos = Decimal(dollars) * _NANOS
    except InvalidOperation:
        nanos = Decimal("NaN")
    if not nanos.is_finite() or nanos < 0:
        raise typer.BadParameter(f"{dollars!r} is not an amount of US dollars")
    if nanos != nanos.to_integral_value() or nanos > _LARGEST:
        raise typer.BadParameter(f"{dollars} is finer than a billionth of a dollar, or too large")
    return int(nanos)


def dollars_of(nanos: int) -> str:
    """``$12.5`` for 12_500_000_000, exact, with at least two decimals."""
    whole, part = divmod(abs(nanos), _NANOS)
    decimals = f"{part:09d}".rstrip("0").ljust(2, "0")
    return f"{'-' if nanos < 0 else ''}${whole}.{decimals}"
