"""Call the captured steps again and judge what comes.

Door: `replay`.
"""
