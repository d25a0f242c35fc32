"""What a running body is lent for its call: tokens for the services behind it, and secrets."""
