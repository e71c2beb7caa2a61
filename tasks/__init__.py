"""One step each: a retry, a timeout, a log line around one library call."""
