"""How written digits and spoken ones are made and mixed."""
