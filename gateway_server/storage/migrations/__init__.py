"""The schema's history: ``versions/`` holds one step each, which ``storage.schema`` runs at start."""
