"""The stories, top to bottom, and the `restill` command that starts them."""
