"""Everything about the services that run models."""
