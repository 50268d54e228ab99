Connecting to 127.0.0.1:1 (127.0.0.1:1)
wget: can't connect to remote host (127.0.0.1): Connection refused
