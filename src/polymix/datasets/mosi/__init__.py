"""CMU-MOSI: opinions in online videos (Zadeh et al. 2016)."""
