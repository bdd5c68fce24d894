"""LangChain's standard tests, which run in an environment of their own."""
