"""Managing the gateway: one attribute for each kind of resource."""

from aigateway._async.admin.api_keys import AsyncApiKeys
from aigateway._async.admin.audit_events import AsyncAuditEvents
from aigateway._async.admin.guardrail_profiles import AsyncGuardrailProfiles
from aigateway._async.admin.models import AsyncModels
from aigateway._async.admin.providers import AsyncProviders
from aigateway._async.admin.routes import AsyncRoutes
from aigateway._async.admin.tenants import AsyncTenants
from aigateway._async.connection import AsyncConnection


class AsyncAdmin:
    """``client.admin``. Changing anything needs a key with SCOPE_ADMIN_WRITE."""

    def __init__(self, connection: AsyncConnection) -> None:
        self.tenants = AsyncTenants(connection)
        self.api_keys = AsyncApiKeys(connection)
        self.guardrail_profiles = AsyncGuardrailProfiles(connection)
        self.providers = AsyncProviders(connection)
        self.models = AsyncModels(connection)
        self.routes = AsyncRoutes(connection)
        self.audit_events = AsyncAuditEvents(connection)
