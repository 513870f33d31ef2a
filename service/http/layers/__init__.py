"""What wraps the app and its routes."""
