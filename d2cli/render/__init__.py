"""What was found, as text, Markdown, JSON and HTML; reads and writes nothing."""
