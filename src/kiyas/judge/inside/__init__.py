"""What runs inside the sandbox's own processes. Started by path in a fresh interpreter; imports nothing of Kıyas."""
