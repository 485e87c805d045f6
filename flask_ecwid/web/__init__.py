"""The endpoints: Flask and connexion in front of the client."""
