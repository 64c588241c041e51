"""Settings of gunicorn that the demo does not choose anew for each run."""

worker_class = "gthread"
# The page's storm fills sixteen of each of four; the requests that watch the claim meanwhile need the others.
threads = 18
# Or one worker would accept most of a storm and leave the others idle.
worker_connections = threads
keepalive = 0
graceful_timeout = 1
loglevel = "warning"
# A newer gunicorn would make a socket in the home folder, the same for every instance.
control_socket_disable = True
