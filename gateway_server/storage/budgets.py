"""Rows of budgets: windows, and what is leased of them to which process. See docs/decisions/money.md."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, order=True)
class WindowKey:
    """One day or month of one budget. ``api_key_id`` is empty for the tenant's own; ``start_time`` is in
    microseconds since the epoch.
    """

    tenant_id: str
    api_key_id: str
    period: Literal["day", "month"]
    start_time: int
