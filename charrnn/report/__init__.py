"""What runs look like: `runs` reads their curves, `picture` draws them for print and screen, `sketch` in text."""
