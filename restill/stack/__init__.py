"""What `restill up` keeps running on one machine: S3 server, Prefect server, a worker for each pool.

Processes only: what they are told (deployments, schedules) is the business of `flows.registration`.
"""
