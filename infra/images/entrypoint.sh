#!/bin/sh
# Prefect's Helm charts start every container through a file of this name; there is nothing to set up here.
exec "$@"
