"""What several suites share: fakes that behave, finders of tools and recorded traffic."""
