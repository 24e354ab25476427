# Made from _async by tools/make_sync.py: edit there, then run it.
"""Managing the gateway: one attribute for each kind of resource."""

from aigateway._sync.admin.api_keys import ApiKeys
from aigateway._sync.admin.audit_events import AuditEvents
from aigateway._sync.admin.guardrail_profiles import GuardrailProfiles
from aigateway._sync.admin.models import Models
from aigateway._sync.admin.providers import Providers
from aigateway._sync.admin.routes import Routes
from aigateway._sync.admin.tenants import Tenants
from aigateway._sync.connection import Connection


class Admin:
    """``client.admin``. Changing anything needs a key with SCOPE_ADMIN_WRITE."""

    def __init__(self, connection: Connection) -> None:
        self.tenants = Tenants(connection)
        self.api_keys = ApiKeys(connection)
        self.guardrail_profiles = GuardrailProfiles(connection)
        self.providers = Providers(connection)
        self.models = Models(connection)
        self.routes = Routes(connection)
        self.audit_events = AuditEvents(connection)
