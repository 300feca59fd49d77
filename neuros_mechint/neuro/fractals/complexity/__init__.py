"""How irregular signals are, and how unevenly patterns fill space."""
