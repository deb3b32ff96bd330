"""The configuration: what every key means (`schema`), and reading the YAML file (`load`)."""
