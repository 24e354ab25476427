"""What the rules of the contract cannot say of a budget."""

from aigateway.v1.tenant_pb2 import Budget
from gateway_server.errors import invalid_request
from gateway_server.time_zones import load_time_zones


async def check_budget(budget: Budget, field: str) -> None:
    """Raises INVALID_REQUEST for a time zone that does not exist."""
    try:
        await load_time_zones(budget.time_zone)
    except KeyError:
        raise invalid_request(f"{field}.time_zone", "is no IANA time zone, such as Europe/Berlin") from None
