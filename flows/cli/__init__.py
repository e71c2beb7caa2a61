"""The `restill` command: parses, calls a flow or the library, prints."""
