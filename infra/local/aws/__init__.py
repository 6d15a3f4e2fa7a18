"""The local AWS: moto's server, and on it an EMR that really runs bootstrap actions and steps as processes."""
