"""One HTML file that shows a trace, two traces or a folder of them; what the command `flowtrace view` writes."""
