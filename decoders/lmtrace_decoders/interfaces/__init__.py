"""Bus conventions: how each carries TLPs. One file a convention."""
