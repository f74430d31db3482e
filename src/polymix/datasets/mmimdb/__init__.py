"""MM-IMDB: posters and plots of films (Arevalo et al. 2017)."""
