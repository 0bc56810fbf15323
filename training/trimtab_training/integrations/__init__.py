"""At home in other people's frameworks, where that needs torch."""
