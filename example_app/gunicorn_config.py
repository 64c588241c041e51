"""Settings of gunicorn that the demo does not choose anew for each run."""

worker_class = "gthread"
threads = 16
# One worker accepting most of a storm would leave the others idle; a few more than its threads,
# because a browser opens connections that it does not use.
worker_connections = threads + 4
keepalive = 0
graceful_timeout = 1
loglevel = "warning"
# A newer gunicorn would make a socket in the home folder, the same for every instance.
control_socket_disable = True
