"""What clients see: routes, problem documents, the OpenAPI document."""
