"""Scores any method that draws people; keeps the leaderboard."""
