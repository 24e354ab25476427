"""Events of a stream: fewer and larger, the same answer."""
