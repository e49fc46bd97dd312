"""What a migration made of its source at its destination: state, commands, user data. Reads tables, writes tables."""
