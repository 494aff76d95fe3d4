"""What views leave of what decides the class, before anything is trained on them: `probekit audit`."""
