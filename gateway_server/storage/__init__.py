"""Tables, migrations and repositories: the only package that speaks SQL."""
