"""One provider type per module: URL, headers, signing and the wire format it speaks."""
