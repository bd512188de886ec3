"""What services say to one another over HTTP: investigations, the catalog, audit events. snake_case on the wire."""
