"""At home in other people's frameworks: each module wraps one framework's embedding class.

Queries are adapted, documents never. A module imports its framework, so nothing here is imported
unless it is asked for by name.
"""
